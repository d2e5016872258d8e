"""Who speaks? Five voices from one speech model, by moving its pitch and its formants.

The model (hibari-tts) predicts a spectrum and a pitch curve per 12.5 ms. Changing those before the
waveform is made sounds like another speaker; changing the waveform would sound like a slowed tape.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from tasks_app.providers.previz.sound.loudness import Array
from tasks_app.providers.previz.sound.soundfile import resampled

SAMPLE_RATE = 24000
PAUSE_SECONDS = 0.22


@dataclass(frozen=True, slots=True)
class Voice:
    """``pitch``: semitones; ``formants``: factor; ``swing``: of the melody; ``tremor``: 0..1."""

    pitch: float
    formants: float
    swing: float = 1.0
    pace: float = 1.0
    tremor: float = 0.0
    breath: float = 0.0


VOICES = {
    "narrator_female": Voice(0.0, 1.0),
    "lower_female": Voice(-3.0, 0.94, 0.9),
    "male": Voice(-8.0, 0.86, 0.85),
    "deep_male": Voice(-12.0, 0.79, 0.75, 0.95),
    "old": Voice(-6.0, 0.88, 1.1, 0.84, tremor=0.045, breath=0.5),
}


@lru_cache(maxsize=1)
def _model() -> Any:
    # ONNX Runtime's wheels report to their maker and keep an id of the device in the home
    # directory, unless this is set before they load; `disable_telemetry_events` comes too late.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    from hibari import Hibari

    return Hibari()


def speak(
    text: str, name: str, rate: int, *, seed: int, speed: float = 1.0, pitch: float = 0.0
) -> Array:
    """Return speech as float samples (n, 1) at ``rate`` Hz; ``pitch`` in semitones."""
    voice = VOICES[name]
    rng = np.random.default_rng(seed)
    gap = np.zeros(int(PAUSE_SECONDS * SAMPLE_RATE / speed), np.float32)
    parts: list[Array] = []
    for phonemes in _model().phonemize(text):
        parts += [_sentence(phonemes, voice, speed * voice.pace, pitch, rng), gap]
    if not parts:
        raise ValueError("there is nothing to pronounce in the text")
    return resampled(np.concatenate(parts[:-1])[:, None], SAMPLE_RATE, rate)


def _sentence(
    phonemes: str, voice: Voice, speed: float, pitch: float, rng: np.random.Generator
) -> Array:
    from hibari import dsp

    model = _model()
    inputs = {
        "ids": np.asarray([model.ids(phonemes)], np.int64),
        "speed": np.asarray([speed], np.float32),
    }
    lh, th, ln, lr, phi, f0 = (part[0] for part in model.sess.run(None, inputs))
    lh, ln, lr = (_moved(part, voice.formants) for part in (lh, ln, lr))
    # Upward shifts brighten, downward ones dull; the free-phase branch clashes with a new pitch.
    lr = lr - 1.5 * float(abs(voice.pitch + pitch) > 1)
    melody = _melody(f0, voice, pitch, rng)
    return dsp.synth(lh, th, ln + voice.breath, lr, phi, melody, rng)


def _moved(spectrum: Array, factor: float) -> Array:
    """Stretch the frequency axis (bins, frames) of a log spectrum by ``factor``."""
    if factor == 1.0:
        return spectrum
    bins = len(spectrum)
    at = np.minimum(np.arange(bins, dtype=np.float32) / factor, bins - 1.001)
    low = at.astype(np.int64)
    part = (at - low)[:, None]
    moved = spectrum[low] * (1 - part) + spectrum[low + 1] * part
    return moved.astype(np.float32)


def _melody(f0: Array, voice: Voice, pitch: float, rng: np.random.Generator) -> Array:
    voiced = f0 > 40
    if not voiced.any():
        return f0
    middle = float(np.median(f0[voiced]))
    shift = 2 ** ((voice.pitch + pitch) / 12)
    moved = (np.maximum(f0, 0) / middle) ** voice.swing * middle * shift
    shake = np.sin(np.arange(len(f0)) * 0.0125 * 2 * np.pi * 5.2 + rng.random() * 6)
    moved = np.clip(moved * (1 + voice.tremor * shake), 45, 700)
    return np.where(voiced, moved, 0).astype(np.float32)
