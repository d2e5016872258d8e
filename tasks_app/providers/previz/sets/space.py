"""Open space: stars and nebula, a planet with air around it, and what flies before it."""

from __future__ import annotations

import math

import numpy as np
import skia

from tasks_app.providers.previz.camera.stage import INFINITY, Stage
from tasks_app.providers.previz.drawing.canvas import (
    Array,
    film,
    noise,
    premultiplied,
    resized,
    sampled,
    smoothstep,
    spectral,
    surface,
)
from tasks_app.providers.previz.props import spacecraft

#: Towards the sun: left, up, and a little in front of the planet.
SUN = np.array((-0.80, 0.46, 0.38), np.float32)
PLANET_DEPTH, GROUND_DEPTH = 40.0, 4.2
COLD, WARM = np.array((0.03, 0.10, 0.22), np.float32), np.array((0.26, 0.07, 0.11), np.float32)


def build(stage: Stage) -> None:
    """Build the sky, then what flies, far to near."""
    details = stage.plan.details
    left, top, _, _ = stage.frame_of(INFINITY)
    stage.plant(premultiplied(painted_stars(stage)), INFINITY, left=left, top=top, is_opaque=True)
    if "galaxy" not in details:
        _planet(stage)
    if "asteroids" in details:
        spacecraft.plant_asteroids(stage, is_near=False)
    if "station" in details:
        spacecraft.plant_station(stage)
    if details & {"starship", "ship"}:
        spacecraft.plant_ship(stage)
    if "asteroids" in details:
        spacecraft.plant_asteroids(stage, is_near=True)
    if stage.plan.roles:
        _moon_ground(stage)


def painted_stars(stage: Stage) -> Array:
    """Return the sky of the stage in display values, as wide as its moves need."""
    _, _, width, height = stage.frame_of(INFINITY)
    sky = _nebula(stage, width, height)
    if "galaxy" in stage.plan.details:
        sky = sky + _galaxy(stage, width, height)
    buffer, target = surface(width, height)
    _stars(target.getCanvas(), stage, width, height)
    target.flushAndSubmit()
    shine = buffer[..., 2::-1].astype(np.float32) / 255
    return np.clip(film(sky) + shine, 0, 1)


def _nebula(stage: Stage, width: int, height: int) -> Array:
    rng = stage.rng
    strength = 1.9 if "nebula" in stage.plan.details else 0.42
    size = (max(2, width // 3), max(2, height // 3))
    broad, fine = (noise(rng, *size, stage.unit * cell / 3, 6) for cell in (95, 42))
    tint = noise(rng, *size, stage.unit * 40, 3)[..., None]
    x, y = np.meshgrid(np.linspace(-1, 1, size[0]), np.linspace(-1, 1, size[1]))
    band = np.exp(-(((y * 0.9 + x * 0.38 - 0.05) / 0.62) ** 2))
    cloud = smoothstep(0.36, 0.95, broad * 0.75 + fine * 0.35) * band
    dust = 1 - 0.75 * smoothstep(0.5, 0.72, fine) * band
    colour = (COLD * (1 - tint) + WARM * tint) * (cloud * dust * strength)[..., None]
    colour = colour + np.array((0.0022, 0.003, 0.006), np.float32)
    return np.stack([resized(colour[..., c], width, height) for c in range(3)], axis=2)


def _stars(canvas: skia.Canvas, stage: Stage, width: int, height: int) -> None:
    count = 1500
    places = stage.rng.random((count, 4))
    for x, y, size, tone in places.tolist():
        bright = size**9
        radius = stage.unit * (0.045 + 0.13 * bright)
        warm = (255, 236, 214) if tone > 0.6 else (206, 224, 255)
        paint = skia.Paint(AntiAlias=True, Color=skia.Color(*warm, int(60 + 195 * size**3)))
        canvas.drawCircle(x * width, y * height, max(0.5, radius), paint)
        if bright > 0.55:
            paint.setColor(skia.Color(*warm, 26))
            canvas.drawCircle(x * width, y * height, radius * 4.5, paint)


def _galaxy(stage: Stage, width: int, height: int) -> Array:
    """Return a spiral galaxy, tilted, in linear light."""
    x = (np.arange(width, dtype=np.float32)[None, :] - width * 0.54) / height
    y = (np.arange(height, dtype=np.float32)[:, None] - height * 0.47) / height
    u, v = x * 0.94 + y * 0.34, (y * 0.94 - x * 0.34) * 2.3
    far = np.hypot(u, v) + 1e-3
    arms = np.cos(2 * (np.arctan2(v, u) - 3.6 * np.log(far + 0.05)))
    lumps = noise(stage.rng, width, height, stage.unit * 14, 6)
    disc = np.exp(-far * 4.6) * (0.25 + 0.75 * smoothstep(-0.7, 1.2, arms + (lumps - 0.5) * 1.5))
    dust = 1 - 0.60 * smoothstep(0.42, 0.85, lumps) * smoothstep(0.05, 0.2, far)
    core = np.exp(-far * 17)
    blue, gold = np.array((0.42, 0.62, 1.0)), np.array((1.0, 0.74, 0.45))
    light = blue * (disc * dust * 1.7)[..., None] + gold * (core * 1.9)[..., None]
    return (light + gold * (np.exp(-far * 6) * 0.16)[..., None]).astype(np.float32)


def _planet(stage: Stage) -> None:
    """Add the planet: continents and clouds on a sphere, day, night and a rim of air."""
    is_named = "planet" in stage.plan.details
    radius = stage.height * (0.74 if is_named else 0.52)
    middle = (stage.width * 0.70, stage.height * (0.80 if is_named else 0.62))
    left, top, width, height = stage.frame_of(PLANET_DEPTH)
    x = ((np.arange(width, dtype=np.float32)[None, :] + left) - middle[0]) / radius
    y = (middle[1] - (np.arange(height, dtype=np.float32)[:, None] + top)) / radius
    far = np.hypot(x, y)
    z = np.sqrt(np.clip(1 - far * far, 0, 1))
    day = x * SUN[0] + y * SUN[1] + z * SUN[2]
    colour = _ground_of(stage, x, y, z) * np.stack(
        [smoothstep(low, 0.85, day) * 1.35 for low in (-0.16, -0.10, -0.07)], axis=2
    )
    air = np.array((0.22, 0.46, 1.0), np.float32)
    limb = (1 - z) ** 3.2
    colour = colour + air * (limb * smoothstep(-0.28, 0.5, day) * 1.25)[..., None]
    edge = max(1.5 / radius, 1e-4)
    inside = 1 - smoothstep(1 - edge, 1 + edge, far)
    unit = np.maximum(far, 1e-3)
    lit = smoothstep(-0.35, 0.75, (x * SUN[0] + y * SUN[1]) / unit)
    glow = np.exp(-np.maximum(far - 1, 0) / 0.022) * lit * (far >= 1 - edge) * 0.85
    wide = np.exp(-np.maximum(far - 1, 0) / 0.10) * lit * 0.16
    cover = np.clip(inside + (1 - inside) * (glow + wide), 0, 1)
    shown = colour * inside[..., None] + air * 1.2 * ((1 - inside) * lit)[..., None]
    stage.plant(premultiplied(film(shown), cover), PLANET_DEPTH, left=left, top=top)


def _ground_of(stage: Stage, x: Array, y: Array, z: Array) -> Array:
    """Return the albedo of a planet of seas, land, ice and clouds, seen from one side."""
    size = 512
    land, cloud = spectral(stage.rng, size, 1.9, lowest=2.0), spectral(stage.rng, size, 1.55, 3.0)
    tilt = 0.35
    up = y * math.cos(tilt) + x * math.sin(tilt)
    across = np.arctan2(x * math.cos(tilt) - y * math.sin(tilt), z + 1e-3)
    u = (across / math.pi * size * 0.42).astype(np.float32)
    v = (np.arcsin(np.clip(up, -1, 1)) / math.pi * size * 0.85).astype(np.float32)
    height = sampled(land, u, v)
    swirl = sampled(cloud, u * 0.9 + height * 9.0, v * 1.5 + height * 5.0)
    veil = smoothstep(-0.1, 2.3, swirl + 0.35 * sampled(cloud, u * 3.7, v * 5.1))
    is_land = smoothstep(0.25, 0.42, height)[..., None]
    earth = np.array((0.17, 0.125, 0.075), np.float32)
    green = np.array((0.045, 0.060, 0.030), np.float32)
    dry = smoothstep(0.5, 1.6, height)[..., None]
    colour = np.array((0.010, 0.032, 0.075), np.float32) * (1 - is_land)
    colour = colour + (green * (1 - dry) + earth * dry) * is_land
    ice = smoothstep(0.80, 0.93, np.abs(up) + 0.03 * height)[..., None]
    colour = colour * (1 - ice) + 0.62 * ice
    return colour * (1 - veil[..., None] * 0.85) + 0.66 * veil[..., None] * 0.85


def _moon_ground(stage: Stage) -> None:
    """Add bare ground for those who stand before the sky."""
    left, top, width, height = stage.frame_of(GROUND_DEPTH)
    crest = noise(stage.rng, width, 8, stage.unit * 45, 5)[4] - 0.5
    rows = np.arange(height, dtype=np.float32)[:, None] + top
    down = (rows - (stage.height * 0.84 + crest * stage.unit * 9)[None, :]) / stage.unit
    lumps = resized(noise(stage.rng, max(2, width // 3), height, stage.unit * 11, 6), width, height)
    slope = np.clip(0.5 + np.gradient(lumps, axis=1) * stage.unit * 2.2, 0, 1)
    lit = 0.02 + 0.30 * slope * lumps + 0.30 * np.exp(-np.maximum(down, 0) / 1.1)
    colour = np.array((0.42, 0.43, 0.46), np.float32) * lit[..., None]
    cover = smoothstep(0, 0.3, down)
    stage.plant(premultiplied(film(colour), cover), GROUND_DEPTH, left=left, top=top)
