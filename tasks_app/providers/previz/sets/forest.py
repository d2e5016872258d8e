"""Inside a forest: trunks in six depths against lit mist, leaves above, ferns below."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import skia

from tasks_app.providers.previz.camera.stage import INFINITY, Stage, pulse
from tasks_app.providers.previz.drawing.canvas import (
    LINEAR,
    Array,
    film,
    image,
    noise,
    polygon,
    premultiplied,
    resized,
    skia_color,
    smoothstep,
)
from tasks_app.providers.previz.drawing.light import Light, light_of
from tasks_app.providers.previz.props import foliage, motes
from tasks_app.providers.previz.sets.landscape import draw_pine

#: Depth, how many trunks, and their width in stage units.
STANDS = ((34.0, 30, 1.1), (20.0, 20, 1.9), (12.5, 13, 3.2), (8.0, 8, 5.2), (5.2, 5, 8.6))
MISTY = (20.0, 8.0)  # stands with a plate of mist behind them
NEAR = 2.7
NEAR_LEAVES = ((0.06, 4), (0.18, 1), (0.92, 3), (0.82, 0), (0.70, -4), (0.30, -4), (0.12, 12))
NEAR_FERNS = (0.06, 0.15, 0.25, 0.34, 0.68, 0.78, 0.86, 0.95)
EYE = 62.0  # stage units from the horizon down to ground at a depth of 1, times five


@dataclass(frozen=True, slots=True)
class Wood:
    """The colours of a forest, linear: lit mist, leaves and bark without light on them."""

    light: Light
    air: Array
    leaf: Array
    bark: Array
    ground: Array

    def at(self, albedo: Array, depth: float, *, lit: float = 1.0) -> Array:
        """Return display values of a colour at ``depth`` through the mist."""
        fog = 1 - math.exp(-max(0.0, depth - 4.5) / 15 * (0.6 + self.light.density * 12))
        shone = albedo * (self.light.ambient * 0.9 + self.light.key * 0.06) * lit
        return film(shone * (1 - fog) + self.air * fog)


def build(stage: Stage) -> None:
    """Build the light behind the trees, then stand after stand with mist between them."""
    wood = _wood(stage)
    _glow(stage, wood)
    for depth, count, wide in STANDS:
        if depth in MISTY:
            _mist(stage, wood, depth)
        _stand(stage, wood, depth, count, wide)
        if depth == 12.5 and wood.light.clouds < 1:
            _rays(stage, wood)
    _near(stage, wood)
    motes.plant(stage)


def _wood(stage: Stage) -> Wood:
    light = light_of(stage.plan)
    leaf = np.array((0.20, 0.34, 0.07), np.float32)
    ground = np.array((0.13, 0.15, 0.05), np.float32)
    if "autumn" in stage.plan.details:
        leaf, ground = np.array((0.72, 0.24, 0.05), np.float32), ground * (2.6, 1.2, 0.8)
    if stage.plan.weather == "snow":
        leaf, ground = leaf * 0.4 + 0.42, ground * 0 + 0.75
    tint = np.array((0.88, 1.04, 0.80), np.float32)
    air = (light.haze * 0.85 + light.low * 0.20) * tint
    return Wood(light, air, leaf, np.array((0.20, 0.16, 0.13), np.float32), ground)


def _glow(stage: Stage, wood: Wood) -> None:
    """Add the opaque back: mist with the sun or moon somewhere behind it."""
    left, top, width, height = stage.frame_of(INFINITY)
    x = (np.arange(width, dtype=np.float32)[None, :] + left) / stage.width * 2 - 1
    y = (np.arange(height, dtype=np.float32)[:, None] + top) / stage.height
    far = np.hypot((x - wood.light.azimuth * 0.5) * 1.15, (y - 0.30) * 1.25)
    shine = np.exp(-far * 5.5) * 0.55 + np.exp(-far * 2.0) * 0.24
    lumps = noise(stage.rng, width, height, stage.unit * 30, 4)
    deep = 1.0 - 0.45 * np.abs(x)
    colour = wood.air * (deep * (0.75 + 0.5 * lumps))[..., None]
    colour = colour + wood.light.key * shine[..., None] * (0.9 if wood.light.is_night else 1.0)
    stage.plant(premultiplied(film(colour)), INFINITY, left=left, top=top, is_opaque=True)


def _conifers(canvas: skia.Canvas, stage: Stage, wood: Wood) -> None:
    colour = skia_color(wood.at(wood.leaf * 0.35, 44))
    for _ in range(26):
        x = stage.rng.uniform(-0.06, 1.06) * stage.width
        size = stage.unit * stage.rng.uniform(26, 62) * (0.55 + abs(x / stage.width - 0.5))
        draw_pine(canvas, stage.rng, x, _foot(stage, 40), size, colour)


def _foot(stage: Stage, depth: float) -> float:
    return stage.camera.vanishing[1] + stage.unit * EYE * 3.2 / depth


def _mist(stage: Stage, wood: Wood, depth: float) -> None:
    """Add drifting mist behind a stand; brightest towards the light."""
    left, top, width, height = stage.frame_of(depth * 1.2)
    small = (max(2, height // 4), max(2, width // 4))
    x = np.linspace(-1, 1, small[1], dtype=np.float32)[None, :]
    y = (np.linspace(0, height, small[0], dtype=np.float32)[:, None] + top) / stage.height
    lumps = noise(stage.rng, small[1], small[0], stage.unit * 11, 3)
    foot = _foot(stage, depth) / stage.height
    low = np.exp(-(((y - foot) / 0.13) ** 2))
    towards = np.exp(-(((x - wood.light.azimuth * 0.5) / 0.5) ** 2))
    cover = low * (0.3 + 0.7 * lumps) * (0.30 + 0.22 * towards) * (0.5 + wood.light.density * 11)
    colour = wood.air * 1.1 + wood.light.key * (towards * 0.10)[..., None]
    picture = premultiplied(film(np.broadcast_to(colour, (*small, 3))), np.clip(cover, 0, 0.75))
    _plant_enlarged(stage, picture, depth * 1.2, (left, top, width, height))


def _plant_enlarged(
    stage: Stage, small: Array, depth: float, frame: tuple[int, int, int, int]
) -> None:
    def draw(canvas: skia.Canvas) -> None:
        canvas.drawImageRect(image(small), skia.Rect.MakeXYWH(*frame), LINEAR)

    stage.paint(depth, draw, drift=stage.unit * 0.25)


def _floor(stage: Stage, wood: Wood, depth: float) -> tuple[skia.Image, int, int]:
    """Return the ground of one depth, dappled, down to the lower edge, and its corner."""
    left, top, width, height = stage.frame_of(depth)
    foot = _foot(stage, depth)
    first = max(0, int(foot - stage.unit * 6 - top))
    last = min(height, int(_foot(stage, max(2.4, depth * 0.5)) - top) + 2)
    rows = np.arange(first, max(last, first + 2), dtype=np.float32)[:, None] + top
    wave = noise(stage.rng, width, 8, stage.unit * 26, 3)[4] - 0.5
    edge = (foot + wave * stage.unit * (2 + 14 / depth))[None, :]
    lumps = _lying(stage, (width, len(rows)), stage.unit * 26 / depth)
    dapple = smoothstep(0.55, 0.75, _lying(stage, (width, len(rows)), stage.unit * 60 / depth))
    shade = wood.at(wood.ground, depth) * (0.70 + 0.5 * lumps)[..., None]
    bright = wood.at(wood.ground * 1.2, depth, lit=3.0) * (0.75 + 0.4 * lumps)[..., None]
    colour = shade + (bright - shade) * (dapple * 0.75)[..., None]
    if "path" in stage.plan.details:
        colour = _trodden(colour, stage, wood, depth, rows, left)
    cover = smoothstep(0, 0.8 + 3 / depth, (rows - edge) / stage.unit)
    return image(premultiplied(np.clip(colour, 0, 1), cover)), left, top + first


def _lying(stage: Stage, size: tuple[int, int], cell: float) -> Array:
    """Return noise with flat lumps, like ground seen from a low eye."""
    return resized(noise(stage.rng, max(2, size[0] // 4), size[1], cell, 5), *size)


def _trodden(
    colour: Array, stage: Stage, wood: Wood, depth: float, rows: Array, left: int
) -> Array:
    near = (rows - stage.camera.vanishing[1]) / stage.unit
    x = np.arange(colour.shape[1], dtype=np.float32)[None, :] + left
    middle = stage.width * 0.5 + stage.unit * 9 * np.sin(60 / np.maximum(near, 4))
    away = np.abs(x - middle) / (stage.unit * (0.8 + near * 0.36))
    path = (1 - smoothstep(0.75, 1.15, away))[..., None]
    earth = wood.at(np.array((0.42, 0.32, 0.21), np.float32), depth, lit=1.5)
    return colour * (1 - path) + earth * path * (0.8 + 0.4 * colour / max(colour.max(), 1e-3))


def _stand(stage: Stage, wood: Wood, depth: float, count: int, wide: float) -> None:
    rng, unit = stage.rng, stage.unit
    side = math.copysign(1, wood.light.azimuth)
    body, rim = wood.at(wood.bark * 0.24, depth), wood.at(wood.bark * 1.6, depth, lit=3.4)
    leaf = wood.at(wood.leaf, depth)
    foot = _foot(stage, depth)
    ground = _floor(stage, wood, depth)

    def draw(canvas: skia.Canvas) -> None:
        if depth == STANDS[0][0]:
            _conifers(canvas, stage, wood)
        canvas.drawImage(*ground)
        for x in _places(stage, count, wide):
            draw_at = foot + rng.uniform(-1.5, 1.5) * unit * 6 / depth
            size = wide * unit * rng.uniform(0.65, 1.25)
            foliage.draw_trunk(
                canvas,
                rng,
                x=x,
                foot=draw_at,
                wide=size,
                tall=foot + unit * 12,
                body=body,
                rim=rim,
                side=side,
            )
            foliage.draw_bush(
                canvas, rng, x + rng.normal(0, 2) * size, draw_at + unit, size * 1.6, leaf * 0.7
            )
        _canopy(canvas, stage, depth, leaf)
        _undergrowth(canvas, stage, depth, leaf, foot)

    stage.paint(depth, draw)


def _places(stage: Stage, count: int, wide: float) -> list[float]:
    """Return where trunks stand: anywhere at the sides, few in the middle of the view."""
    spread = (np.arange(count) + stage.rng.uniform(0.15, 0.85, count)) / count * 2 - 1
    clear = min(0.34, 0.03 + wide * 0.034)
    moved = np.sign(spread) * (clear + (1.06 - clear) * np.abs(spread))
    return [float(stage.width * (0.5 + 0.5 * x)) for x in moved]


def _canopy(canvas: skia.Canvas, stage: Stage, depth: float, leaf: Array) -> None:
    rng, unit = stage.rng, stage.unit
    for _ in range(int(20 + depth * 0.7)):
        x = rng.uniform(-0.05, 1.05)
        low = 9 + 58 * abs(x - 0.5) ** 1.3 + 20 / depth
        middle = (x * stage.width, unit * (low * rng.random() ** 1.6 - 3))
        reach = unit * rng.uniform(7, 13)
        foliage.draw_leaves(
            canvas,
            rng,
            middle,
            (reach, reach * 0.5),
            size=unit * (0.30 + 4.0 / depth),
            count=int(70 + 4 * depth),
            colour=leaf * rng.uniform(0.6, 1.0),
        )


def _undergrowth(canvas: skia.Canvas, stage: Stage, depth: float, leaf: Array, foot: float) -> None:
    rng, unit = stage.rng, stage.unit
    for _ in range(int(10 + depth * 0.5)):
        x = rng.uniform(-0.05, 1.05)
        if abs(x - 0.5) < 0.9 / depth + 0.03:
            continue
        size = unit * 46 / depth * rng.uniform(0.6, 1.1)
        draw = foliage.draw_fern if rng.random() < 0.7 else foliage.draw_bush
        draw(canvas, rng, x * stage.width, foot + unit * rng.uniform(0, 9) * 4 / depth, size, leaf)


def _rays(stage: Stage, wood: Wood) -> None:
    """Add shafts of light that slant through the stand; the brightness of each varies slowly."""
    unit, rng = stage.unit, stage.rng
    start = stage.width * (0.5 + wood.light.azimuth * 0.32)
    warm = (wood.light.key / wood.light.key.max()) ** 0.4
    strength = 0.34 if not wood.light.is_night else 0.22
    for index in range(4):
        x = start + unit * (index - 1.5) * 19 + rng.normal(0, 4) * unit
        lean = (x - start) * 0.9 - math.copysign(unit * 34, wood.light.azimuth)
        wide = unit * rng.uniform(3, 7.5)

        def draw(canvas: skia.Canvas, x: float = x, lean: float = lean, wide: float = wide) -> None:
            low = stage.height * 0.93
            top, foot = -unit * 8, x + lean
            right, left = (foot + wide * 1.7, low), (foot - wide * 1.2, low)
            path = polygon((x - wide * 0.5, top), (x + wide * 0.5, top), right, left)
            ends = [skia.Point(x, 0), skia.Point(x + lean, low)]
            colours = [skia_color(warm, strength * part) for part in (1.0, 0.7, 0.0)]
            shader = skia.GradientShader.MakeLinear(ends, colours, [0.0, 0.45, 1.0])
            canvas.drawPath(path, skia.Paint(AntiAlias=True, Shader=shader))

        breath = pulse(rng.uniform(5, 9), 0.45, 1.0, rng.random())
        stage.paint(10.0, draw, blur=unit * 1.6, opacity=breath)


def _near(stage: Stage, wood: Wood) -> None:
    """Add what frames the view out of focus: two trunks, leaves above, ferns below."""
    rng, unit, width, height = stage.rng, stage.unit, stage.width, stage.height
    body, leaf = wood.at(wood.bark * 0.10, NEAR), wood.at(wood.leaf * 0.16, NEAR)
    rim, side = wood.at(wood.bark * 0.5, NEAR), math.copysign(1, wood.light.azimuth)

    def draw(canvas: skia.Canvas) -> None:
        trunk = {"foot": height * 1.25, "wide": unit * 19, "tall": height * 1.6, "side": side}
        for x in (0.02, 0.985):
            foliage.draw_trunk(canvas, rng, x=width * x, body=body, rim=rim, **trunk)
        for x, y in NEAR_LEAVES:
            at, reach = (width * x, unit * y), (unit * 15, unit * 9)
            foliage.draw_leaves(canvas, rng, at, reach, size=unit * 2.3, count=70, colour=leaf)
        for x in NEAR_FERNS:
            size = unit * rng.uniform(15, 27) * (0.5 + abs(x - 0.5) * 1.1)
            foliage.draw_fern(canvas, rng, width * x, height, size, leaf)

    stage.paint(NEAR, draw, blur=unit * 0.45)
