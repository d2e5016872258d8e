"""What is really in this file? Probing of media by content, in a killable child process.

A decoder fed with hostile or broken bytes may crash, hang or eat memory, so the file
is opened in a child (`python -m tasks_app.media.probe CPU_SECONDS PATH...`) with limits of its own.
Nothing here trusts a name or a header that came with the file.

The limit is CPU time, since on a busy machine elapsed time says nothing about the file. If it is
too short, the same file is probed again with twice as much, because generating it again may take
long or cost money.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import structlog

from tasks_app import PROJECT_ROOT
from tasks_app.providers.base import Cancelled, Context, MediaOutput, ProviderError
from webhooks_app import traces

logger = structlog.get_logger(__name__)

#: CPU seconds for each file at the first try; 28 s of light 4K film take 12.5 on two cores.
CPU_SECONDS = 60
#: Tries for the same files; each try doubles the CPU time.
TRIES = 3
#: A try may take this multiple of its CPU time by the clock: a twentieth of a processor suffices.
CLOCK_FACTOR = 20
WATCH_SECONDS = 0.25
MEMORY_BYTES = 4 << 30
#: FFmpeg's container name -> media types with and without a video stream.
CONTAINERS = {
    "mov,mp4,m4a,3gp,3g2,mj2": ("video/mp4", "audio/mp4"),
    "matroska,webm": ("video/webm", "audio/webm"),
    "wav": ("", "audio/wav"),
    "mp3": ("", "audio/mpeg"),
    "ogg": ("video/ogg", "audio/ogg"),
    "flac": ("", "audio/flac"),
}
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
IMAGE_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF", b"GIF8")


@dataclass(frozen=True, slots=True)
class ProbedFile:
    """What decoding showed. Pixels, seconds, frames per second; None if the file has none."""

    media_type: str
    size_bytes: int
    sha256: str
    codecs: tuple[str, ...]
    width: int | None = None
    height: int | None = None
    duration: float | None = None
    fps: float | None = None

    def as_output(self, role: str, path: Path) -> MediaOutput:
        """Return the description of the file, which lies at ``path``, as a provider's output."""
        return MediaOutput(role=role, path=path, **asdict(self))


@dataclass(frozen=True, slots=True)
class Expected:
    """What a file must be; None means anything. ``tolerance``: seconds of duration."""

    media_type: str | None = None
    codecs: tuple[str, ...] | None = None
    width: int | None = None
    height: int | None = None
    duration: float | None = None
    tolerance: float = 1 / 24

    def problem(self, found: ProbedFile) -> str:
        """Return a sentence on what differs, "" if nothing does."""
        for name in ("media_type", "codecs", "width", "height"):
            want, have = getattr(self, name), getattr(found, name)
            if want is not None and want != have:
                return f"{name} is {have}, not {want}"
        want, have = self.duration, found.duration
        if want is None or (have is not None and abs(have - want) <= self.tolerance + 1e-3):
            return ""
        return f"duration is {have} s, not {want} s"


def probe(
    path: Path, expected: Expected | None = None, *, context: Context | None = None
) -> ProbedFile:
    """Decode ``path`` in a child process and return what it contains; see `probe_all`."""
    return probe_all([(path, expected)], context)[0]


def probe_all(
    files: Sequence[tuple[Path, Expected | None]], context: Context | None = None
) -> list[ProbedFile]:
    """Decode files in a child process and return what they contain.

    Raises:
        ProviderError: ``output_invalid`` (retryable) when one is not whole, sound media or
            differs from what is expected; ``probe_timed_out`` when every try ran out of time;
            ``timed_out`` when the task's own time is over.
        Cancelled: the context asked to stop.
    """
    found = []
    with traces.span("probe", files=len(files)):
        rows = _rows([path for path, _ in files], context)
    for (path, expected), row in zip(files, rows, strict=True):
        if "error" in row:
            raise ProviderError("output_invalid", f"{path.name}: {row['error']}")
        file = ProbedFile(**{**row, "codecs": tuple(row["codecs"])})
        found.append(file)
        problem = expected.problem(file) if expected else ""
        if problem:
            raise ProviderError("output_invalid", f"{path.name}: {problem}.")
    return found


def _rows(paths: list[Path], context: Context | None) -> list[dict[str, Any]]:
    cpu_seconds = CPU_SECONDS * len(paths)
    for number in range(TRIES):
        rows = _try(paths, cpu_seconds * 2**number, context)
        if rows is not None:
            return rows
        logger.warning("Probing ran out of time", cpu_seconds=cpu_seconds * 2**number)
    raise ProviderError("probe_timed_out", f"The files were not probed in {TRIES} tries.")


def _try(
    paths: list[Path], cpu_seconds: int, context: Context | None
) -> list[dict[str, Any]] | None:
    """Probe once; None when the child's CPU time or the clock's limit was reached."""
    command = [sys.executable, "-m", "tasks_app.media.probe", str(cpu_seconds)]
    with subprocess.Popen(
        [*command, *(str(path.resolve()) for path in paths)],
        stdin=subprocess.PIPE,  # closed when we die, which ends the child
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.defpath, "PYTHONPATH": str(PROJECT_ROOT)},
        cwd=PROJECT_ROOT,
    ) as child:
        try:
            output = _output(child, time.monotonic() + cpu_seconds * CLOCK_FACTOR, context)
        finally:
            child.kill()
    if output is None or child.returncode == -signal.SIGXCPU:
        return None
    if child.returncode != 0:
        raise ProviderError("output_invalid", "The file could not be probed: the decoder died.")
    rows: list[dict[str, Any]] = json.loads(output)
    return rows


def _output(
    child: subprocess.Popen[bytes], deadline: float, context: Context | None
) -> bytes | None:
    """Wait for the child and return its output; None when the deadline passes."""
    assert child.stdout is not None
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(WATCH_SECONDS)
            return child.stdout.read()  # safe after the end: the output fits into the pipe's 64 KiB
        if context is not None and context.cancelled():
            raise Cancelled
        if context is not None and context.seconds_left() <= 0:
            raise ProviderError("timed_out", "The task's time was over while probing.")
        if time.monotonic() > deadline:
            return None


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
            image.load()  # Pillow notices a truncated file only when it decodes it
            name, size = str(image.format), {"width": image.width, "height": image.height}
            return {"media_type": Image.MIME[name], "codecs": (name.lower(),), **size}
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"not a whole image ({error})".replace(str(path), path.name)) from error


def _stream_facts(path: Path) -> dict[str, Any]:
    import av

    try:
        # "file" only: a playlist inside a download must not make us open other URLs.
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
    seconds = _decode(container, streams)
    declared = container.duration / 1e6 if container.duration else seconds
    if seconds + 0.25 < declared:
        raise ValueError(f"cut short: {seconds:.2f} s of {declared:.2f} s")
    facts = {"media_type": media_type, "codecs": codecs, "duration": round(seconds, 3)}
    if video:
        fps = float(video[0].average_rate) if video[0].average_rate else None
        facts |= {"width": video[0].width, "height": video[0].height, "fps": fps}
    return facts


def _decode(container: Any, streams: list[Any]) -> float:
    """Decode everything and return the seconds that the main stream covers."""
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


def _row(path: str) -> dict[str, Any]:
    try:
        return asdict(inspect(Path(path)))
    except (ValueError, OSError) as error:
        return {"error": str(error)}


def _end_with_parent() -> None:
    # Raw read: a daemon thread inside buffered stdin would hold its lock for ever.
    while os.read(0, 1024):
        pass
    os._exit(1)


def main(arguments: list[str]) -> None:
    """Set the limits, probe the files on the command line, and print one JSON list."""
    cpu_seconds = int(arguments[0])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    json.dump([_row(path) for path in arguments[1:]], sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
