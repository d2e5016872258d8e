"""How is sound written to a file, and drawn? wav, mp3, m4a, ogg, flac and a waveform."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image, ImageDraw

from tasks_app.providers.previz.sound.loudness import Array

#: format -> (container, codec, sample format, bit rate, media type, codec as probed)
FORMATS = {
    "wav": ("wav", "pcm_s16le", "s16", 0, "audio/wav", "pcm_s16le"),
    "mp3": ("mp3", "libmp3lame", "fltp", 192_000, "audio/mpeg", "mp3float"),
    "m4a": ("ipod", "aac", "fltp", 160_000, "audio/mp4", "aac"),
    "ogg": ("ogg", "libopus", "flt", 128_000, "audio/ogg", "opus"),
    "flac": ("flac", "flac", "s16", 0, "audio/flac", "flac"),
}
#: An index that comes first; a stream number that is not drawn by lot.
OPTIONS = {"m4a": {"movflags": "+faststart"}, "ogg": {"fflags": "bitexact"}}
OPUS_RATE = 48000  # Opus always decodes at 48 kHz; other rates are its encoder's business
BLOCK = 4096
WAVEFORM_SIZE = (1200, 240)


def resampled(samples: Array, rate: int, wanted: int) -> Array:
    """Resample (n, channels) through its spectrum, so that nothing aliases."""
    if rate == wanted:
        return samples
    count = round(len(samples) * wanted / rate)
    pad = rate // 20
    padded = np.pad(samples, ((pad, pad), (0, 0)))
    size = round(len(padded) * wanted / rate)
    spectrum = np.fft.rfft(padded, axis=0)[: size // 2 + 1]
    spectrum = np.pad(spectrum, ((0, size // 2 + 1 - len(spectrum)), (0, 0)))
    whole = np.fft.irfft(spectrum, size, axis=0) * (size / len(padded))
    first = round(pad * wanted / rate)
    return whole[first : first + count].astype(np.float32)


def write(path: Path, samples: Array, rate: int, kind: str, tags: dict[str, str]) -> None:
    """Encode (n, channels) float samples at ``rate`` into ``path``."""
    container_name, codec, layout_format, bit_rate, *_ = FORMATS[kind]
    if kind == "ogg":
        samples, rate = resampled(samples, rate, OPUS_RATE), OPUS_RATE
    layout = "mono" if samples.shape[1] == 1 else "stereo"
    options = OPTIONS.get(kind, {})
    with av.open(str(path), "w", format=container_name, options=options) as container:
        container.metadata.update(tags)
        stream: Any = container.add_stream(codec, rate=rate, layout=layout)
        stream.codec_context.format = layout_format
        if bit_rate:
            stream.bit_rate = bit_rate
        for start in range(0, len(samples), BLOCK):
            frame = _frame(samples[start : start + BLOCK], layout_format, layout)
            frame.sample_rate, frame.pts = rate, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _frame(block: Array, kind: str, layout: str) -> av.AudioFrame:
    if kind == "fltp":
        values = np.ascontiguousarray(block.T, np.float32)
    elif kind == "flt":
        values = np.ascontiguousarray(block.reshape(1, -1), np.float32)
    else:
        whole = np.clip(np.rint(block * 32767), -32768, 32767)
        values = np.ascontiguousarray(whole.reshape(1, -1), np.int16)
    return av.AudioFrame.from_ndarray(values, format=kind, layout=layout)


def draw_waveform(path: Path, samples: Array) -> None:
    """Draw the envelope of (n, channels) as a small dark PNG."""
    width, height = WAVEFORM_SIZE
    level = np.abs(samples).max(axis=1)
    edges = np.linspace(0, len(level), width + 1).astype(int)[:-1]
    peaks = np.maximum.reduceat(level, np.minimum(edges, len(level) - 1))
    picture = Image.new("RGB", (width, height), (18, 20, 24))
    pen = ImageDraw.Draw(picture)
    for x, peak in enumerate(peaks):
        reach = max(1.0, float(peak) * height * 0.47)
        pen.line((x, height / 2 - reach, x, height / 2 + reach), fill=(236, 178, 72))
    picture.save(path, "PNG")
