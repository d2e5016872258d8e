"""How do frames and sound become a file? H.264 High and AAC in an MP4 that starts at once."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from tasks_app.providers.previz.drawing.canvas import Array

#: One encoder thread: the same seed then gives the same bytes on one machine.
PRESETS = {
    # Motion search to a quarter pixel took a third of the encoder's time, without visible gain.
    "final": {"preset": "veryfast", "crf": "20", "x264-params": "subme=1"},
    "draft": {"preset": "ultrafast", "crf": "26"},
}
#: With AVX-512, x264's macroblock tree reads memory that it has never set, and the same seed gave
#: other bytes in another process. Without it encoding takes as long.
WITHOUT_AVX512 = "asm=AVX2,FMA3,BMI1,BMI2,LZCNT"
SAMPLE_RATE = 48000
AAC_BIT_RATE = 160_000
DEPTH = 3  # frames drawn ahead of the encoder


def write_film(
    path: Path,
    frames: Iterator[Array],
    finish: Callable[[Any, int], None],
    sound: Array,
    *,
    size: tuple[int, int],
    fps: int,
    quality: str,
    tags: dict[str, str],
) -> None:
    """Encode BGRA ``frames`` (scaled to ``size``) and ``sound`` (samples, 2) float.

    Drawing holds the interpreter's lock and encoding does not, so the encoder runs in a
    thread of its own a few frames behind. ``finish`` grades each YUV frame in place.
    """
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        container.metadata.update(tags)
        first = next(frames)
        video = _video_stream(container, size, fps, quality)
        audio = _audio_stream(container)
        encoder = _Encoder(container, video)
        convert = partial(_converted, VideoReformatter(), size, finish)
        encoder.put(convert(first, 0))
        for number, pixels in enumerate(frames, start=1):
            encoder.put(convert(pixels, number))
        encoder.close()
        _write_sound(container, audio, sound)


def _video_stream(container: Any, size: tuple[int, int], fps: int, quality: str) -> Any:
    options = {**PRESETS[quality], "profile": "high", "threads": "1"}
    if _has_avx512():
        given = options.get("x264-params")
        options["x264-params"] = f"{given}:{WITHOUT_AVX512}" if given else WITHOUT_AVX512
    stream = container.add_stream("libx264", rate=fps, options=options)
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.thread_count = 1
    context.color_range, context.colorspace = ColorRange.MPEG, Colorspace.ITU709
    context.color_primaries = context.color_trc = 1  # BT.709, as the conversion below
    return stream


@cache
def _has_avx512() -> bool:
    try:
        return "avx512f" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def _audio_stream(container: Any) -> Any:
    stream = container.add_stream("aac", rate=SAMPLE_RATE, layout="stereo")
    stream.bit_rate = AAC_BIT_RATE
    return stream


def _converted(
    reformatter: VideoReformatter,
    size: tuple[int, int],
    finish: Callable[[Any, int], None],
    pixels: Array,
    number: int,
) -> av.VideoFrame:
    source = av.VideoFrame.from_numpy_buffer(pixels, format="bgra")
    frame = reformatter.reformat(source, *size, format="yuv420p", dst_colorspace=Colorspace.ITU709)
    finish(frame, number)
    frame.pts = number
    return frame


class _Encoder:
    """The encoder's thread; an error in it surfaces in `put` or `close`."""

    def __init__(self, container: Any, stream: Any) -> None:
        self._container, self._stream = container, stream
        self._frames: queue.Queue[av.VideoFrame | None] = queue.Queue(DEPTH)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def put(self, frame: av.VideoFrame | None) -> None:
        while self._error is None:
            try:
                return self._frames.put(frame, timeout=1)
            except queue.Full:
                continue
        raise self._error

    def close(self) -> None:
        self.put(None)
        self._thread.join()
        if self._error:
            raise self._error

    def _run(self) -> None:
        try:
            while (frame := self._frames.get()) is not None:
                self._container.mux(self._stream.encode(frame))
            self._container.mux(self._stream.encode(None))
        except (av.FFmpegError, ValueError, MemoryError) as error:
            self._error = error


def _write_sound(container: Any, stream: Any, sound: Array) -> None:
    step = 1024
    for start in range(0, len(sound), step):
        part = np.ascontiguousarray(sound[start : start + step].T, np.float32)
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = SAMPLE_RATE, start
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
