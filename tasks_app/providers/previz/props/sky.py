"""What does the sky look like? Gradient, sun or moon, clouds and stars in linear light."""

from __future__ import annotations

import numpy as np

from tasks_app.providers.previz.drawing.canvas import Array, noise, resized, smoothstep, spectral
from tasks_app.providers.previz.drawing.light import Light


def paint_sky(
    light: Light, rng: np.random.Generator, width: int, height: int, horizon: float
) -> Array:
    """Return (height, width, 3) linear light; ``horizon`` in pixels from the top."""
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    up = np.clip((horizon - np.arange(height, dtype=np.float32)[:, None]) / horizon, 0, 1)
    mix = up[..., None] ** np.float32(0.55)
    sky = light.low * (1 - mix) + light.zenith * mix
    # The distance to sun or moon on the picture, in picture heights.
    across = (x - light.azimuth) * (width / height) * 0.5
    far = np.hypot(across, (up - height_of(light)) * (horizon / height))
    glow = np.exp(-far * 9) + 0.55 * np.exp(-far * 3.0) + 0.25 * np.exp(-far * 1.2)
    sky = sky + light.key * (glow * (0.10 if light.is_night else 0.22))[..., None]
    if light.is_night:
        sky += _stars(rng, width, height, up)[..., None]
    radius = 0.022 if light.is_night else 0.020
    disc = 1 - smoothstep(radius * 0.94, radius * 1.06, far)
    sky += light.key * (disc * 3.0 * (light.clouds < 1))[..., None]
    return _clouded(sky, light, rng, up, glow)


def height_of(light: Light) -> float:
    """Return how high sun or moon stands, as a share of the way from horizon to top."""
    return min(0.86, 0.10 + light.elevation * 1.25)


def _stars(rng: np.random.Generator, width: int, height: int, up: Array) -> Array:
    field = np.zeros((height, width), np.float32)
    count = width * height // 2200
    rows, columns = rng.integers(0, height, count), rng.integers(0, width, count)
    field[rows, columns] = rng.random(count, dtype=np.float32) ** 5 * 0.9
    return field * smoothstep(0.15, 0.7, up)


def _clouded(sky: Array, light: Light, rng: np.random.Generator, up: Array, glow: Array) -> Array:
    height, width = sky.shape[:2]
    deck = _deck(rng, width, height, up)
    streaks = noise(rng, width // 4, height // 4, width / 22, 4)
    deck = deck * 0.75 + resized(streaks, width, height) * 0.25
    low = 1.02 - light.clouds * 0.75
    cover = smoothstep(low, low + 0.42, deck) * smoothstep(0.0, 0.22, up) * 0.92
    edge = smoothstep(low - 0.05, low + 0.25, deck) - smoothstep(low + 0.2, low + 0.6, deck) * 0.8
    lit = light.key * ((0.05 + glow * 0.42) * (0.35 + edge))[..., None]
    colour = light.ambient * 0.8 + light.low * 0.12 + lit
    return sky * (1 - cover[..., None]) + colour * cover[..., None]


def _deck(rng: np.random.Generator, width: int, height: int, up: Array) -> Array:
    """Return noise of a flat cloud deck in perspective (lumps get flat at the horizon)."""
    size = 512
    field = spectral(rng, size, 1.55, lowest=3.0)
    far = 1 / (up + 0.10)
    across = np.linspace(-1, 1, width, dtype=np.float32)[None, :] * far * 42
    rows = np.broadcast_to((far * 62).astype(np.int64) % size, (height, width))
    columns = across.astype(np.int64) % size
    rough = field[rows, columns] * 0.22 + 0.5
    # Whole-number look-ups are blocky; a light resample hides it.
    soft = resized(resized(rough, width // 2, height // 2), width, height)
    return np.clip(soft, 0, 1)
