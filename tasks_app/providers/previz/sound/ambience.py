"""What does the place sound like? Wind, rain, sea, city, room and engines, from noise."""

from __future__ import annotations

import numpy as np

from tasks_app.providers.previz.script.breakdown import Breakdown
from tasks_app.providers.previz.sound.loudness import Array
from tasks_app.providers.previz.sound.score import RATE, faded


def make(plan: Breakdown, seconds: float, seed: int) -> Array:
    """Return ambience (samples, 2) at 48 kHz, peak 0.7."""
    rng = np.random.default_rng(seed + 1)
    count = int(seconds * RATE)
    mix = _place(plan, count, rng)
    if plan.weather in ("rain", "storm"):
        mix = mix + _rain(count, rng) * (0.45 if plan.is_interior else 1.0)
    if plan.weather == "storm":
        mix = mix + _thunder(count, rng)
    if plan.roles and plan.action == "walk":
        mix = mix + _steps(count, rng)
    peak = max(1e-6, float(np.abs(mix).max()))
    return faded((mix / peak * 0.7).astype(np.float32), 0.25, 0.6)


def _coloured(count: int, rng: np.random.Generator, low: float, high: float, slope: float) -> Array:
    """Return stereo noise between two frequencies (Hz); ``slope`` as power of frequency."""
    size = 1 << (count - 1).bit_length()
    f = np.fft.rfftfreq(size, 1 / RATE)
    shape = np.maximum(f, 1.0) ** slope
    shape *= 1 / (1 + (low / np.maximum(f, 1e-3)) ** 4) / (1 + (f / high) ** 4)
    spectrum = rng.normal(size=(2, len(f))) + 1j * rng.normal(size=(2, len(f)))
    noise = np.fft.irfft(spectrum * shape, size, axis=1)[:, :count].T
    return noise / max(1e-9, float(noise.std()))


def _swell(count: int, rng: np.random.Generator, period: float, depth: float) -> Array:
    points = rng.random(max(4, int(count / RATE / period) + 4))
    at = np.linspace(0.5, len(points) - 1.5, count)
    return (1 - depth + depth * np.interp(at, np.arange(len(points)), points))[:, None]


def _place(plan: Breakdown, count: int, rng: np.random.Generator) -> Array:
    if plan.setting == "sea":
        waves = _coloured(count, rng, 80, 5000, -0.6) * _swell(count, rng, 2.2, 0.85)
        return waves * 0.5 + _coloured(count, rng, 30, 300, -0.5) * 0.2
    if plan.setting in ("street", "alley"):
        hum = _coloured(count, rng, 35, 260, -0.8) * _swell(count, rng, 3.0, 0.4)
        return hum * 0.4 + _coloured(count, rng, 400, 2500, -0.8) * 0.04
    if plan.setting in ("spaceship", "hallway", "space"):
        return _engines(plan, count, rng)
    if plan.is_interior:
        return _coloured(count, rng, 60, 1200, -1.0) * 0.25 + _birds(plan, count, rng) * 0.25
    wind = _coloured(count, rng, 120, 1400, -0.7) * _swell(count, rng, 1.6, 0.75)
    return wind * 0.45 + _birds(plan, count, rng)


def _engines(plan: Breakdown, count: int, rng: np.random.Generator) -> Array:
    t = np.arange(count) / RATE
    hum = sum(np.sin(2 * np.pi * f * t + rng.random() * 6) / f for f in (48, 72.3, 96.5, 144.2))
    mix = np.repeat((np.asarray(hum) * 12)[:, None], 2, axis=1)
    mix += _coloured(count, rng, 100, 900, -0.8) * 0.25
    if "alert" in plan.details:
        horn = np.sign(np.sin(2 * np.pi * 311 * t)) * 0.25 + np.sin(2 * np.pi * 466 * t) * 0.5
        mix += (horn * (np.sin(2 * np.pi * t / 1.2) > 0.1) * 0.22)[:, None]
    return mix


def _birds(plan: Breakdown, count: int, rng: np.random.Generator) -> Array:
    mix = np.zeros((count, 2))
    if plan.time == "night" or plan.setting in ("desert", "snowfield"):
        return mix
    for _ in range(int(count / RATE * 0.9)):
        start, pan = int(rng.random() * count), rng.random()
        for chirp in range(int(rng.integers(2, 6))):
            _chirp(mix, start + chirp * int(0.13 * RATE), rng.uniform(2600, 4800), pan, rng)
    return mix


def _chirp(mix: Array, first: int, pitch: float, pan: float, rng: np.random.Generator) -> None:
    length = int(rng.uniform(0.05, 0.1) * RATE)
    part = max(0, min(length, len(mix) - first))
    if not part:
        return
    t = np.arange(length) / RATE
    bend = pitch * (1 + rng.uniform(-0.25, 0.25) * t / t[-1])
    sound = np.sin(2 * np.pi * np.cumsum(bend) / RATE) * np.sin(np.pi * t / t[-1]) ** 2
    mix[first : first + part] += sound[:part, None] * np.array([1 - pan, pan]) * 0.22


def _rain(count: int, rng: np.random.Generator) -> Array:
    hiss = _coloured(count, rng, 700, 9000, -0.25) * 0.30
    drops = np.zeros((count, 2))
    at = rng.integers(0, count, count // 900)
    drops[at, rng.integers(0, 2, len(at))] = rng.exponential(1.0, len(at))
    kernel = np.exp(-np.arange(240) / 36) * np.sin(np.arange(240) * 0.38)
    heard = np.stack([np.convolve(drops[:, c], kernel)[:count] for c in (0, 1)], axis=1)
    return hiss + heard * 0.25 + _coloured(count, rng, 90, 500, -0.6) * 0.15


def _thunder(count: int, rng: np.random.Generator) -> Array:
    t = np.arange(count) / RATE
    start = min(1.2, t[-1] * 0.3)
    after = np.maximum(t - start, 0)
    roll = (after > 0) * np.exp(-after * 0.9) * (1 - np.exp(-after * 18))
    return _coloured(count, rng, 28, 220, -0.7) * roll[:, None] * 2.2


def _steps(count: int, rng: np.random.Generator) -> Array:
    mix = np.zeros((count, 2))
    length = int(0.16 * RATE)
    fall = np.exp(-np.arange(length) / RATE * 42)[:, None]
    for first in range(int(0.3 * RATE), count - length, int(0.56 * RATE)):
        hit = _coloured(length, rng, 120, 2200, -0.5) * fall
        mix[first : first + length] += hit * rng.uniform(0.55, 0.8)
    return mix
