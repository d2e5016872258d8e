"""What does the temp score sound like? Pads, a slow melody and a pulse, by mood."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks_app.providers.previz.sound.loudness import Array

RATE = 48000


@dataclass(frozen=True, slots=True)
class Mood:
    """``chords``: semitones over the root; ``beat``: seconds; ``pulse``, ``melody``: loudness."""

    root: float
    chords: tuple[tuple[int, ...], ...]
    beat: float
    bright: float
    melody: float = 0.5
    pulse: float = 0.0


MOODS = {
    "epic": Mood(
        55.0, ((0, 7, 12, 16), (-4, 3, 8, 15), (-7, 5, 9, 12), (-5, 2, 7, 14)), 0.9, 0.5, 0.4, 0.3
    ),
    "calm": Mood(
        65.4, ((0, 7, 16, 23), (5, 12, 16, 21), (-3, 4, 12, 19), (-5, 7, 14, 17)), 1.1, 0.3, 0.7
    ),
    "sad": Mood(
        55.0, ((0, 7, 15, 22), (-4, 8, 15, 19), (-7, 5, 12, 20), (-5, 7, 14, 17)), 1.2, 0.3, 0.6
    ),
    "tense": Mood(
        43.65,
        ((0, 7, 12, 13), (0, 6, 12, 15), (-1, 6, 11, 14), (0, 7, 13, 18)),
        0.42,
        0.55,
        0.15,
        0.9,
    ),
    "eerie": Mood(
        49.0, ((0, 7, 15, 18), (-2, 6, 13, 17), (0, 8, 15, 20), (-1, 6, 11, 18)), 1.15, 0.28, 0.55
    ),
    "bright": Mood(
        65.4,
        ((0, 12, 16, 19), (5, 12, 17, 21), (-3, 9, 16, 19), (7, 11, 14, 19)),
        0.5,
        0.5,
        0.9,
        0.2,
    ),
}


def compose(mood: str, seconds: float, seed: int) -> Array:
    """Return music (samples, 2) at 48 kHz, faded at both ends, peak near 0.8."""
    plan = MOODS.get(mood, MOODS["calm"])
    rng = np.random.default_rng(seed)
    count = int(seconds * RATE)
    mix = np.zeros((count, 2), np.float32)
    bar = max(2.2, min(4.0, plan.beat * 4))
    for index in range(int(seconds / bar) + 1):
        chord = plan.chords[index % len(plan.chords)]
        _pad(mix, plan, chord, index * bar, bar * 1.5, rng)
        _notes(mix, plan, chord, index * bar, bar, rng)
    if plan.pulse:
        _pulses(mix, plan, seconds)
    mix = _reverberant(mix, rng)
    return faded(mix / max(1e-6, float(np.abs(mix).max())) * 0.8, 0.5, 1.2)


def _add(mix: Array, sound: Array, start: float, pan: float) -> None:
    first = int(start * RATE)
    part = sound[: max(0, len(mix) - first)]
    angle = (pan + 1) * np.pi / 4
    mix[first : first + len(part), 0] += part * np.float32(np.cos(angle))
    mix[first : first + len(part), 1] += part * np.float32(np.sin(angle))


def _frequency(plan: Mood, semitones: float) -> float:
    return float(plan.root * 2 ** (semitones / 12))


def _pad(
    mix: Array,
    plan: Mood,
    chord: tuple[int, ...],
    start: float,
    length: float,
    rng: np.random.Generator,
) -> None:
    t = np.arange(int(length * RATE), dtype=np.float32) / RATE
    swell = np.sin(np.pi * np.clip(t / length, 0, 1)) ** 0.8
    for voice, tone in enumerate(chord):
        base = _frequency(plan, tone)
        for detune in (-0.0025, 0.0028):
            phase = rng.random() * 6.28
            wave = np.zeros_like(t)
            for harmonic in range(1, 7):
                roll = harmonic ** -(2.6 - 1.4 * plan.bright)
                wave += roll * np.sin(
                    6.2832 * base * (1 + detune) * harmonic * t + phase * harmonic
                )
            _add(mix, wave * swell * 0.10, start, (voice - 1.5) * 0.4)


def _notes(
    mix: Array,
    plan: Mood,
    chord: tuple[int, ...],
    start: float,
    bar: float,
    rng: np.random.Generator,
) -> None:
    """Pick a few chord tones as a felt piano would play them."""
    steps = max(2, int(bar / plan.beat))
    for step in range(steps):
        if step and rng.random() < 0.35:
            continue
        tone = int(rng.choice(chord[1:])) + 12 * int(rng.integers(1, 3))
        sound = _piano(_frequency(plan, tone), 2.2) * plan.melody * 0.34
        _add(mix, sound, start + step * plan.beat, float(rng.uniform(-0.5, 0.5)))


def _piano(base: float, length: float) -> Array:
    t = np.arange(int(length * RATE), dtype=np.float32) / RATE
    wave = np.zeros_like(t)
    for harmonic in range(1, 6):
        stretched = harmonic * np.sqrt(1 + 0.0004 * harmonic * harmonic)  # stiff strings
        fall = np.exp(-t * (1.4 + 1.1 * harmonic))
        wave += fall * np.sin(6.2832 * base * stretched * t) / harmonic**1.7
    return wave * np.clip(t / 0.006, 0, 1)


def _pulses(mix: Array, plan: Mood, seconds: float) -> None:
    t = np.arange(int(0.5 * RATE), dtype=np.float32) / RATE
    sweep = 6.2832 * np.cumsum(42 + 55 * np.exp(-t * 32)) / RATE
    hit = np.sin(sweep) * np.exp(-t * 8) * plan.pulse * 0.8
    for index in range(int(seconds / plan.beat)):
        accent = 1.0 if index % 4 == 0 else 0.55
        _add(mix, hit * accent, index * plan.beat, 0.0)


def _reverberant(mix: Array, rng: np.random.Generator) -> Array:
    """Add a decaying, slightly dull room to (samples, 2)."""
    size = int(2.4 * RATE)
    fall = np.exp(-np.arange(size) / RATE * (5.5 / 2.4))[:, None]
    room = rng.normal(0, 1, (size, 2)) * fall
    room = np.cumsum(room * 0.25, axis=0) * 0.05 * fall + room * 0.6
    total = 1 << (len(mix) + size).bit_length()
    wet = np.fft.irfft(np.fft.rfft(mix, total, axis=0) * np.fft.rfft(room, total, axis=0), axis=0)
    wet = wet[: len(mix)]
    scale = float(np.abs(mix).max()) / max(1e-6, float(np.abs(wet).max()))
    return (mix * 0.75 + wet * scale * 0.5).astype(np.float32)


def faded(mix: Array, fade_in: float, fade_out: float) -> Array:
    """Fade (samples, channels) in and out, never longer than a third of it."""
    count = len(mix)
    first, last = (max(1, min(int(s * RATE), count // 3)) for s in (fade_in, fade_out))
    gain = np.ones(count, np.float32)
    gain[:first] = np.linspace(0, 1, first)
    gain[-last:] *= np.linspace(1, 0, last)
    return mix * gain[:, None]
