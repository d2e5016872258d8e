"""What is really in this file? Probing of media by content, in a killable child process.

A decoder fed with hostile or broken bytes may crash, hang or eat memory, so the file
is opened in a child (`python -m tasks_app.probing PATH...`) with limits of its own.
Nothing here trusts a name or a header that came with the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from tasks_app.providers.base import ProviderError

PROJECT_ROOT = Path(__file__).resolve().parents[1]
PROBE_SECONDS = 30.0
MEMORY_BYTES = 4 << 30
#: Container name as FFmpeg says it -> media type, by whether a picture stream exists.
CONTAINERS = {
    "mov,mp4,m4a,3gp,3g2,mj2": ("video/mp4", "audio/mp4"),
    "matroska,webm": ("video/webm", "audio/webm"),
    "wav": ("", "audio/wav"),
    "mp3": ("", "audio/mpeg"),
    "ogg": ("video/ogg", "audio/ogg"),
    "flac": ("", "audio/flac"),
}
EXTENSIONS = {
    "video/mp4": "mp4",
    "video/webm": "webm",
    "video/ogg": "ogv",
    "audio/mp4": "m4a",
    "audio/webm": "weba",
    "audio/wav": "wav",
    "audio/mpeg": "mp3",
    "audio/ogg": "ogg",
    "audio/flac": "flac",
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/webp": "webp",
    "image/gif": "gif",
}
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
IMAGE_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF", b"GIF8")


@dataclass(frozen=True, slots=True)
class ProbedFile:
    """What decoding the file showed. Pixels, seconds, frames per second; None if it has none."""

    media_type: str
    size_bytes: int
    sha256: str
    width: int | None
    height: int | None
    duration: float | None
    fps: float | None
    codecs: tuple[str, ...]

    @property
    def extension(self) -> str:
        """Return the usual file extension, without the dot."""
        return EXTENSIONS[self.media_type]


@dataclass(frozen=True, slots=True)
class Expected:
    """What a file must be; None means anything. ``tolerance`` is seconds of duration."""

    media_type: str | None = None
    codecs: tuple[str, ...] | None = None
    width: int | None = None
    height: int | None = None
    duration: float | None = None
    tolerance: float = 1 / 24

    def problem(self, found: ProbedFile) -> str:
        """Say in words what differs, or return an empty text."""
        for name in ("media_type", "codecs", "width", "height"):
            want, have = getattr(self, name), getattr(found, name)
            if want is not None and want != have:
                return f"{name} is {have}, not {want}"
        return self._duration_problem(found.duration)

    def _duration_problem(self, have: float | None) -> str:
        if self.duration is None:
            return ""
        if have is None or abs(have - self.duration) > self.tolerance + 1e-3:
            return f"duration is {have} s, not {self.duration} s"
        return ""


def probe(
    path: Path, expected: Expected | None = None, *, timeout_seconds: float = PROBE_SECONDS
) -> ProbedFile:
    """Decode ``path`` in a child process and say what it holds.

    Raises:
        ProviderError: ``output_invalid`` (retryable) when it is not whole, sound media,
            or differs from ``expected``.
    """
    return probe_all([(path, expected)], timeout_seconds=timeout_seconds)[0]


def probe_all(
    files: Sequence[tuple[Path, Expected | None]], *, timeout_seconds: float = PROBE_SECONDS
) -> list[ProbedFile]:
    """Probe several files in one child process; see `probe`."""
    found = [_parse(row) for row in _run([path for path, _ in files], timeout_seconds)]
    for (path, expected), file in zip(files, found, strict=True):
        problem = expected.problem(file) if expected else ""
        if problem:
            raise ProviderError("output_invalid", f"{path.name}: {problem}.")
    return found


def _parse(row: dict[str, Any]) -> ProbedFile:
    if "error" in row:
        raise ProviderError("output_invalid", f"{row['name']}: {row['error']}")
    return ProbedFile(**{**row, "codecs": tuple(row["codecs"])})


def _run(paths: list[Path], timeout_seconds: float) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "tasks_app.probing", *(str(p.resolve()) for p in paths)]
    environment = {"PATH": os.defpath, "PYTHONPATH": str(PROJECT_ROOT)}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment,
            cwd=PROJECT_ROOT,
            timeout=timeout_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ProviderError("output_invalid", "The file took too long to probe.") from None
    if done.returncode != 0:
        raise ProviderError("output_invalid", "The file could not be probed: the decoder died.")
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def inspect(path: Path) -> ProbedFile:
    """Decode ``path`` in this process. For the child only.

    Raises:
        ValueError: the content is no media, is cut short or decodes with errors.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(16)
        stream.seek(0)
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    is_image = head.startswith(IMAGE_SIGNATURES) and head[8:12] != b"WAVE"
    facts = _image_facts(path) if is_image else _stream_facts(path)
    return ProbedFile(size_bytes=size, sha256=digest, **facts)


def _image_facts(path: Path) -> dict[str, Any]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path, formats=IMAGE_FORMATS) as image:
            image.load()  # Pillow refuses truncated files only when it decodes them.
            name = str(image.format)
            return _facts(Image.MIME[name], (name.lower(),), image.width, image.height)
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"not a whole image ({error})".replace(str(path), path.name)) from error


def _facts(
    media_type: str,
    codecs: tuple[str, ...],
    width: int | None = None,
    height: int | None = None,
    duration: float | None = None,
    fps: float | None = None,
) -> dict[str, Any]:
    return {
        "media_type": media_type,
        "codecs": codecs,
        "width": width,
        "height": height,
        "duration": duration,
        "fps": fps,
    }


def _stream_facts(path: Path) -> dict[str, Any]:
    import av

    try:
        # "file" alone: a playlist inside a download must not make us open other addresses.
        options = {"protocol_whitelist": "file", "err_detect": "explode"}
        with av.open(str(path), options=options) as container:
            return _container_facts(container)
    except av.FFmpegError as error:
        raise ValueError(f"not whole media ({error.strerror})") from error


def _container_facts(container: Any) -> dict[str, Any]:
    video, audio = container.streams.video, container.streams.audio
    types = CONTAINERS.get(container.format.name)
    media_type = types[0 if video else 1] if types and (video or audio) else ""
    if not media_type:
        raise ValueError(f"unsupported media ({container.format.name})")
    streams = [*video[:1], *audio[:1]]
    codecs = tuple(stream.codec_context.name for stream in streams)
    size = (video[0].width, video[0].height) if video else (None, None)
    fps = float(video[0].average_rate) if video and video[0].average_rate else None
    seconds = _decode(container, streams)
    declared = container.duration / 1e6 if container.duration else seconds
    if seconds + 0.25 < declared:
        raise ValueError(f"cut short: {seconds:.2f} s of {declared:.2f} s")
    return _facts(media_type, codecs, size[0], size[1], round(seconds, 3), fps)


def _decode(container: Any, streams: list[Any]) -> float:
    """Decode everything and return the seconds that the leading stream covers."""
    leading = streams[0]
    first: Fraction | None = None
    end = Fraction(0)
    for frame in container.decode(*streams):
        if hasattr(frame, "samples") != (leading.type == "audio"):
            continue
        start = Fraction(frame.pts or 0) * frame.time_base
        first = start if first is None else first
        end = max(end, start + _length(frame, leading))
    if first is None:
        raise ValueError("no frame in it")
    return float(end - max(Fraction(0), first))


def _length(frame: Any, stream: Any) -> Fraction:
    samples = getattr(frame, "samples", None)
    if samples is not None:
        return Fraction(samples, frame.sample_rate)
    return 1 / stream.average_rate if stream.average_rate else Fraction(0)


def _row(path: Path) -> dict[str, Any]:
    try:
        return asdict(inspect(path))
    except (ValueError, OSError) as error:
        return {"name": path.name, "error": str(error)}


def main(arguments: list[str]) -> None:
    """Probe the files named on the command line and print one JSON list."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (int(PROBE_SECONDS), int(PROBE_SECONDS) + 1))
    json.dump([_row(Path(argument)) for argument in arguments], sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
