"""How does a landscape look from a height? A height field seen in perspective, as plates.

Samples lie on lines of equal depth; for every column the running minimum of their
screen rows, near to far, says which sample each pixel sees. All columns at once, so
that two thousand by eight hundred pixels take a fraction of a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tasks_app.providers.previz.camera.stage import Stage
from tasks_app.providers.previz.drawing.canvas import (
    Array,
    Color,
    film,
    premultiplied,
    sampled,
    smoothstep,
    spectral,
)
from tasks_app.providers.previz.drawing.light import Light

SIZE = 1024  # samples of the height field, which repeats
TILE = 64.0  # its side in depth units
SHADOW_STEPS = 28


@dataclass(frozen=True, slots=True)
class Ground:
    """What the land is made of. Colours linear; heights in depth units.

    ``steep``: colour of slopes; ``flat``: of level ground; ``snow_line``: height above
    which level ground is white; ``valley``: 0..1, how much the middle is kept low.
    """

    kind: str
    height: float
    flat: Color
    steep: Color
    snow_line: float = 99.0
    valley: float = 0.8
    near_height: float = 0.25
    eye: float = 1.6
    lens: float = 1.25
    mist: float = 0.6
    rough: float = 1.0


GROUNDS = {
    "mountains": Ground(
        "ridged", 6.4, (0.030, 0.042, 0.022), (0.060, 0.055, 0.054), snow_line=2.6, mist=0.9
    ),
    "meadow": Ground(
        "rolling",
        2.2,
        (0.095, 0.135, 0.035),
        (0.10, 0.10, 0.05),
        valley=0.35,
        mist=0.35,
        rough=0.35,
    ),
    "desert": Ground(
        "dunes", 2.3, (0.42, 0.24, 0.115), (0.36, 0.19, 0.085), valley=0.3, mist=0.2, rough=0.12
    ),
    "snowfield": Ground(
        "ridged", 4.4, (0.62, 0.68, 0.76), (0.12, 0.13, 0.15), snow_line=-9, mist=0.7, valley=0.6
    ),
}
#: Depth bounds of the plates, near to far.
BANDS = (2.4, 4.5, 8.0, 14.0, 24.0, 60.0)


class Terrain:
    """A height field with its light, ready to be looked at."""

    def __init__(self, ground: Ground, light: Light, rng: np.random.Generator) -> None:
        self.ground, self.light = ground, light
        self._field = _field(ground.kind, rng)
        self._shade = _lit(self._field * ground.height, light)
        self._detail = spectral(rng, SIZE, 1.1, lowest=24.0)
        self._offset = rng.random(2) * TILE

    def plant(self, stage: Stage, horizon: float, bands: tuple[float, ...] = BANDS) -> None:
        """Add the land to ``stage`` as one plate per depth band, far to near."""
        for near, far in reversed(list(pairwise(bands))):
            depth = (near * far) ** 0.5 if far < 50 else near * 1.4
            left, top, width, height = stage.frame_of(depth)
            seen = _View(left, top, width, height, stage.width, horizon)
            colour, alpha = self._band(near, far, seen)
            stage.plant(premultiplied(film(colour), alpha), depth, left=left, top=top)

    def _band(self, near: float, far: float, seen: _View) -> tuple[Array, Array]:
        z = np.geomspace(near, far, 300, dtype=np.float32)[:, None]
        focal = self.ground.lens * seen.picture
        x = (np.arange(seen.width, dtype=np.float32) + seen.left - seen.picture / 2) / focal * z
        heights, colour = self._sampled(x, z)
        rows = seen.horizon - seen.top + focal * (self.ground.eye - heights) / z
        index, alpha = _visible(rows, seen.height)
        columns = np.arange(seen.width)[None, :]
        return colour[index, columns], alpha

    def _sampled(self, x: Array, z: Array) -> tuple[Array, Array]:
        u = ((x + self._offset[0]) * (SIZE / TILE)).astype(np.float32)
        v = np.broadcast_to((z + self._offset[1]) * (SIZE / TILE), u.shape).astype(np.float32)
        base = sampled(self._field, u, v)
        fine = sampled(self._detail, u * 5.3, v * 5.3)
        heights = self._profile(base, x, z) + fine * 0.004 * self.ground.rough * np.sqrt(z)
        slope, sun = sampled(self._shade[0], u, v), sampled(self._shade[1], u, v)
        return heights, self._coloured(heights, slope, sun, fine, x=x, z=z)

    def _profile(self, base: Array, x: Array, z: Array) -> Array:
        ground = self.ground
        rise = ground.near_height + (1 - ground.near_height) * smoothstep(4, 34, z)
        side = smoothstep(0.05, 0.5, np.abs(x / z + 0.06 * np.sin(z * 0.22)))
        keep = 1 - ground.valley * (1 - side) * (1 - smoothstep(22, 40, z))
        return base * ground.height * rise * keep

    def _coloured(
        self, heights: Array, slope: Array, sun: Array, fine: Array, *, x: Array, z: Array
    ) -> Array:
        ground, light = self.ground, self.light
        level = smoothstep(0.62, 0.86, slope + fine * 0.05)[..., None]
        albedo = np.array(ground.steep, np.float32) * (1 - level)
        albedo = albedo + np.array(ground.flat, np.float32) * level
        line = ground.snow_line + fine * 0.5
        snow = smoothstep(line, line + 1.3, heights) * smoothstep(0.45, 0.75, slope)
        albedo = albedo * (1 - snow[..., None]) + 0.72 * snow[..., None]
        albedo = albedo * (1 + np.clip(fine, -2, 2) * 0.10)[..., None]
        lit = light.ambient * (0.5 + 0.5 * slope)[..., None] + light.key * sun[..., None]
        return self._hazed(albedo * lit * 1.5, heights, x / z, z)

    def _hazed(self, colour: Array, heights: Array, across: Array, z: Array) -> Array:
        light, ground = self.light, self.ground
        low = np.exp(-np.maximum(heights, 0) / (0.55 + 0.02 * z)) * ground.mist
        thick = light.density * np.maximum(z - 3, 0) * (0.28 + 1.1 * low)
        fog = (1 - np.exp(-thick))[..., None]
        towards = np.exp(-(((across * ground.lens - light.azimuth * 0.5) / 0.26) ** 2))
        air = light.haze + light.key * (towards * (0.03 if light.is_night else 0.10))[..., None]
        return colour * (1 - fog) + air * fog


@dataclass(frozen=True, slots=True)
class _View:
    """The painted area: its corner, size, the picture's width and the horizon's row."""

    left: int
    top: int
    width: int
    height: int
    picture: int
    horizon: float


def _field(kind: str, rng: np.random.Generator) -> Array:
    """Return heights 0..1 (SIZE, SIZE), repeating."""
    broad = spectral(rng, SIZE, 2.3, lowest=2.0)
    if kind == "ridged":
        ridges = 1 - np.abs(broad) * 0.75
        second = 1 - np.abs(spectral(rng, SIZE, 2.1, lowest=7.0)) * 0.7
        field = np.clip(ridges, 0, 1) ** 1.6 * (0.66 + 0.34 * np.clip(second, 0, 1))
        return _unit(field + spectral(rng, SIZE, 1.9, lowest=20.0) * 0.016)
    if kind == "dunes":
        return _dunes(broad)
    smooth = spectral(rng, SIZE, 2.6, lowest=3.0)
    return _unit(smooth + 0.03 * broad)


def _dunes(broad: Array) -> Array:
    """Return long waves with a gentle windward side and a sharp crest."""
    rows, columns = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) / SIZE
    phase = (columns * 5 + rows * 11 + broad * 0.42) % 1.0
    wave = np.where(phase < 0.72, phase / 0.72, (1 - phase) / 0.28)
    shape = wave**1.5 * (0.55 + 0.45 * np.clip(broad * 0.5 + 0.5, 0, 1))
    return _unit(shape + broad * 0.12)


def _unit(field: Array) -> Array:
    low, high = np.percentile(field, 1), field.max()
    return np.clip((field - low) / (high - low), 0, 1).astype(np.float32)


def _lit(heights: Array, light: Light) -> tuple[Array, Array]:
    """Return the vertical part of the normal, and the key light after slope and cast shadow."""
    step = TILE / SIZE
    dz, dx = np.gradient(heights, step)
    up = 1 / np.sqrt(1 + (dx * 0.8) ** 2 + (dz * 0.8) ** 2)
    lx, ly, lz = light.direction
    facing = np.clip((-dx * lx + ly - dz * lz) * up, 0, None)
    shadow = _shadow(heights, light, step)
    # Scattered light: otherwise a low sun would leave half the land black.
    wrap = np.clip((-dx * lx + ly * 2 + 0.25) * up, 0, 1) * 0.16
    sun = facing * shadow + wrap
    return up.astype(np.float32), sun.astype(np.float32)


def _shadow(heights: Array, light: Light, step: float) -> Array:
    lx, ly, lz = light.direction
    flat = max(1e-3, (lx * lx + lz * lz) ** 0.5)
    blocked = np.zeros_like(heights)
    for index in range(1, SHADOW_STEPS):
        run = 2.2 * index
        shift = (-round(run * lz / flat), -round(run * lx / flat))
        other = np.roll(heights, shift, (0, 1)) - run * step * ly / flat
        blocked = np.maximum(blocked, other - heights)
    return 1 - smoothstep(0.0, 0.25, blocked)


def _visible(rows: Array, height: int) -> tuple[Array, Array]:
    """Return for each pixel the index of the sample it sees, and how covered it is."""
    edge = np.minimum.accumulate(rows, axis=0)
    samples, width = edge.shape
    whole = np.clip(np.ceil(edge), 0, height).astype(np.int64)
    flat = whole * width + np.arange(width)[None, :]
    counts = np.bincount(flat.ravel(), minlength=(height + 1) * width)
    below = counts.reshape(height + 1, width)[::-1].cumsum(axis=0)[::-1]
    # Samples whose edge lies below a pixel have been passed over; the next one is seen.
    index = np.minimum(below[1:], samples - 1)
    cover = np.arange(height, dtype=np.float32)[:, None] + 1 - edge[-1][None, :]
    return index, np.clip(cover, 0, 1)
