"""The city at ground level: an alley or a street between houses, wet if it rains."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import skia

from tasks_app.providers.previz.camera.place import Lamp, Place, Quad, Triple, triple
from tasks_app.providers.previz.camera.stage import INFINITY, Stage
from tasks_app.providers.previz.drawing import textures
from tasks_app.providers.previz.drawing.canvas import film, premultiplied
from tasks_app.providers.previz.drawing.light import Light, light_of
from tasks_app.providers.previz.props import architecture
from tasks_app.providers.previz.props.sky import paint_sky

NEON = (
    (3.6, 0.30, 0.85),
    (0.20, 1.9, 2.9),
    (3.2, 1.25, 0.20),
    (0.55, 2.6, 0.9),
    (2.6, 0.15, 0.18),
)
FLOOR = -1.7


@dataclass(frozen=True, slots=True)
class Town:
    """Half the width between the house fronts, and how the houses are lit."""

    half: float
    lit: float
    neon: int


def build(stage: Stage) -> None:
    """Build sky, houses on both sides, lamps, signs and the ground."""
    light = light_of(stage.plan)
    is_alley = stage.plan.setting == "alley"
    has_neon = "neon" in stage.plan.details
    signs = (7 if light.is_night else 3) + (7 if has_neon else 0)
    town = Town(1.9 if is_alley else 4.2, 0.28 if light.is_night else 0.10, signs)
    _plant_sky(stage, light)
    place = _place(stage, light)
    _houses(place, town, stage.rng)
    _ground(place, town)
    if light.is_night or stage.plan.time == "dusk":
        _street_lamps(place, town)
    if light.is_night or stage.plan.time == "dusk" or has_neon:
        _signs(place, town, stage.rng)
    _clutter(place, town, stage.rng)
    architecture.plant(place, stage)
    if is_alley:
        _cables(stage, place, town)


def _plant_sky(stage: Stage, light: Light) -> None:
    left, top, width, height = stage.frame_of(INFINITY)
    sky = paint_sky(light, stage.rng, width, height, stage.camera.vanishing[1] - top)
    if light.is_night:
        sky = sky * 0.6 + np.array((0.020, 0.022, 0.034), np.float32)
    stage.plant(premultiplied(film(sky)), INFINITY, left=left, top=top, is_opaque=True)


def _place(stage: Stage, light: Light) -> Place:
    wet = stage.plan.weather in ("rain", "storm") or "water" in stage.plan.details
    night = light.is_night
    return Place(
        (0.040, 0.052, 0.085) if night else triple(light.ambient * 1.4),
        (0.030, 0.042, 0.062) if night else triple(light.haze * 0.8),
        0.055 if night else 0.03,
        floor=FLOOR,
        gloss=0.85 if wet else 0.22 if night else 0.0,
        sun=None if night else (light.direction, triple(light.key)),
    )


def _houses(place: Place, town: Town, rng: np.random.Generator) -> None:
    for side in (-1, 1):
        z = 0.5
        while z < 44:
            length = float(rng.uniform(3.0, 6.5))
            _house(place, town, side, z, length, rng)
            z += length + (0.0 if rng.random() < 0.7 else 0.8)
    tall = float(rng.uniform(6, 9))
    place.box(
        (-9, FLOOR, 46),
        (9, tall, 48),
        (0.30, 0.29, 0.30),
        texture=textures.facade((1.5, 0.9, 0.4), 0.3),
    )


def _house(
    place: Place, town: Town, side: int, z: float, length: float, rng: np.random.Generator
) -> None:
    inner = town.half + float(rng.uniform(-0.12, 0.30))
    tall = float(rng.uniform(5.5, 13))
    x0, x1 = sorted((side * inner, side * (inner + 5)))
    tone = float(rng.uniform(0.26, 0.44))
    colour = (tone * 1.08, tone * 0.94, tone * 0.86) if rng.random() < 0.6 else (tone,) * 3
    warm = (1.7, 0.95, 0.40) if rng.random() < 0.75 else (0.55, 0.9, 1.0)
    base = textures.bricks if rng.random() < 0.7 else textures.plaster
    front = textures.facade(warm, town.lit, base=base)
    place.box((x0, FLOOR, z), (x1, tall, z + length), triple(colour), texture=front)
    _ledges(place, side, inner, z, length, rng)


def _ledges(
    place: Place, side: int, inner: float, z: float, length: float, rng: np.random.Generator
) -> None:
    """Add a cornice, a pipe, a door step and the landings of a fire escape."""
    dark = (0.16, 0.16, 0.17)
    near, far = sorted((side * (inner - 0.16), side * inner))
    place.box((near, 1.25, max(z, 1.3)), (far, 1.36, z + length), dark, casts=False)
    pipe = sorted((side * (inner - 0.10), side * (inner - 0.02)))
    place.box((pipe[0], FLOOR, z + length - 0.3), (pipe[1], 6, z + length - 0.2), dark, casts=False)
    if rng.random() < 0.55 and z > 2:
        out = sorted((side * (inner - 0.75), side * inner))
        for level in (2.0, 3.5, 5.0):
            place.box((out[0], level, z + 0.8), (out[1], level + 0.07, z + 2.4), dark, casts=False)
            place.box(
                (out[0], level, z + 0.8), (out[0] + 0.04, level + 0.5, z + 0.84), dark, casts=False
            )


def _ground(place: Place, town: Town) -> None:
    width = town.half + 0.6
    road = Quad(
        (-width, FLOOR, 48),
        (2 * width, 0, 0),
        (0, 0, -47),
        (0.040, 0.041, 0.045),
        texture=textures.asphalt,
        is_floor=True,
        texels=1.5,
    )
    place.quads.append(road)
    if town.half > 3:
        for side in (-1, 1):
            x0, x1 = sorted((side * (town.half - 1.3), side * (town.half + 0.5)))
            place.box(
                (x0, FLOOR, 1.2),
                (x1, FLOOR + 0.12, 46),
                (0.36, 0.36, 0.36),
                texture=textures.tiles(0.6),
            )


def _street_lamps(place: Place, town: Town) -> None:
    for index, z in enumerate((4.4, 8.6, 14.5, 23.0)):
        side = 1 if index % 2 else -1
        x = side * (town.half - 0.45)
        place.box(
            (x - 0.16, 2.05, z - 0.16),
            (x + 0.16, 2.16, z + 0.16),
            (0.1,) * 3,
            glow=(5.5, 3.6, 1.7),
            casts=False,
        )
        arm = sorted((x, side * town.half))
        place.box((arm[0], 2.17, z - 0.03), (arm[1], 2.22, z + 0.03), (0.1,) * 3, casts=False)
        place.lamps.append(Lamp((x, 1.95, z), (3.4, 2.1, 0.95), 0.25))


def _signs(place: Place, town: Town, rng: np.random.Generator) -> None:
    for index in range(town.neon):
        colour = NEON[(index + int(rng.integers(0, 2))) % len(NEON)]
        side = -1 if index % 2 else 1
        z = 3.1 + index * 2.0 + float(rng.uniform(0, 0.7))
        y = float(rng.uniform(0.35, 1.9))
        _sign(place, (side * (town.half - 0.55), y, z), side, colour, rng)


def _sign(
    place: Place,
    at: Triple,
    side: int,
    colour: Triple,
    rng: np.random.Generator,
) -> None:
    x, y, z = at
    tall = float(rng.uniform(0.8, 1.5))
    half = 0.24
    place.box(
        (x - half - 0.05, y, z + 0.01),
        (x + half + 0.05, y + tall, z + 0.12),
        (0.07,) * 3,
        casts=False,
    )
    rows = int(tall / 0.34)
    for row in range(rows):
        _glyph(place, x, y + tall - 0.30 * (row + 1) - 0.05, z, colour, rng)
    for edge in (x - half - 0.03, x + half):
        place.box(
            (edge, y + 0.03, z),
            (edge + 0.03, y + tall - 0.03, z + 0.02),
            (0.2,) * 3,
            glow=colour,
            casts=False,
        )
    power = triple(0.62 * part for part in colour)
    place.lamps.append(Lamp((x - side * 0.1, y + tall / 2, z - 0.35), power, 0.4))


def _glyph(
    place: Place,
    x: float,
    y: float,
    z: float,
    colour: Triple,
    rng: np.random.Generator,
) -> None:
    """Add one sign character: strokes on a small grid, in no script."""
    strokes = (
        (-0.15, 0.20, 0.30, 0.03),
        (-0.15, 0.0, 0.30, 0.03),
        (-0.15, 0.1, 0.30, 0.03),
        (-0.15, 0.0, 0.03, 0.22),
        (0.12, 0.0, 0.03, 0.22),
        (-0.015, 0.0, 0.03, 0.22),
    )
    for dx, dy, wide, tall in strokes:
        if rng.random() < 0.6:
            low = (x + dx, y + dy, z)
            place.box(
                low, (low[0] + wide, low[1] + tall, z + 0.02), (0.2,) * 3, glow=colour, casts=False
            )


def _clutter(place: Place, town: Town, rng: np.random.Generator) -> None:
    """Add bins, crates and a skip along the walls."""
    for _ in range(9):
        side = int(rng.choice((-1, 1)))
        wide, tall, long = (float(rng.uniform(*r)) for r in ((0.35, 0.7), (0.4, 0.95), (0.4, 1.2)))
        z = float(rng.uniform(3.2, 15))
        x0, x1 = sorted((side * (town.half - 0.05), side * (town.half - wide)))
        tone = float(rng.uniform(0.14, 0.3))
        place.box(
            (x0, FLOOR, z),
            (x1, FLOOR + tall, z + long),
            (tone, tone * 1.05, tone),
            texture=textures.panels(0.5, 0.4),
        )


def _cables(stage: Stage, place: Place, town: Town) -> None:
    def draw(canvas: skia.Canvas) -> None:
        paint = skia.Paint(
            AntiAlias=True, Color=skia.Color(6, 7, 10), Style=skia.Paint.kStroke_Style
        )
        paint.setStrokeWidth(stage.unit * 0.22)
        for index in range(4):
            a = architecture.project(
                place, stage, -town.half, 2.2 + 0.35 * index, 2.6 + index * 0.4
            )
            b = architecture.project(
                place, stage, town.half, 2.5 + 0.2 * math.sin(index * 2.0), 3.2 + index * 0.2
            )
            path = skia.Path()
            path.moveTo(*a)
            path.quadTo((a[0] + b[0]) / 2, max(a[1], b[1]) + stage.unit * (9 + 3 * index), *b)
            canvas.drawPath(path, paint)

    stage.paint(3.0, draw)
