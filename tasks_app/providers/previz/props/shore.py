"""What is at the water's edge? Sand with surf, rocks, a pier, a lighthouse, mist over a lake."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import skia

from tasks_app.providers.previz.camera.camera import Camera
from tasks_app.providers.previz.camera.stage import Moment, Stage, swing
from tasks_app.providers.previz.drawing.canvas import (
    Array,
    film,
    noise,
    polygon,
    premultiplied,
    skia_color,
    smoothstep,
)
from tasks_app.providers.previz.drawing.light import Light

SAND = np.array((0.36, 0.285, 0.20), np.float32)
SAND_DEPTH, ROCK_DEPTH, TOWER_DEPTH = 4.6, 3.4, 30.0


def _mirrored_sky(light: Light) -> Array:
    """Return the light that flat wet things mirror, linear."""
    return light.low * 0.7 + light.haze * 0.3


def plant_mist(stage: Stage, light: Light, horizon: float) -> None:
    """Add a bank of mist that lies on the far water and drifts."""
    left, _, width, _ = stage.frame_of(30)
    tall = int(stage.unit * 16)
    rows = np.linspace(-1, 1, tall, dtype=np.float32)[:, None]
    lumps = noise(stage.rng, width, tall, stage.unit * 26, 3)
    cover = np.exp(-((rows / 0.42) ** 2)) * (0.25 + 0.75 * lumps) * 0.55
    air = film((light.haze * 1.15 + light.low * 0.12)[None, None, :])
    picture = premultiplied(np.broadcast_to(air, (tall, width, 3)), cover)
    stage.plant(picture, 30, left=left, top=int(horizon - tall * 0.56), drift=stage.unit * 0.35)


def plant_sand(stage: Stage, light: Light) -> None:
    """Add the beach: sand that is wet at the water's edge, and two sheets of surf on it."""
    left, top, width, height = stage.frame_of(SAND_DEPTH)
    rows = np.arange(height, dtype=np.float32)[:, None] + top
    edge = _shoreline(stage, width)
    down = (rows - edge) / stage.unit
    grain = stage.rng.random((height, width), dtype=np.float32) - 0.5
    lumps = noise(stage.rng, width, height, stage.unit * 14, 4) - 0.5
    wet = 1 - smoothstep(2.0, 9.0, down + lumps * 5)
    lit = light.ambient * 1.1 + light.key * (0.10 + 0.30 * max(0.0, light.direction[1]))
    dry = SAND * lit * (1 + lumps * 0.5 + grain * 0.28)[..., None]
    shine = _mirrored_sky(light) * 0.55 * (0.8 + 0.3 * lumps)[..., None]
    colour = dry * (1 - wet * 0.62)[..., None] + shine * (wet * 0.75)[..., None]
    cover = smoothstep(-0.3, 0.9, down)
    stage.plant(premultiplied(film(colour), cover), SAND_DEPTH, left=left, top=top)
    for index, (offset, reach) in enumerate(((-3.2, 1.0), (1.2, 2.4))):
        _surf(stage, light, edge + offset * stage.unit, reach * stage.unit, index)


def _shoreline(stage: Stage, width: int) -> Array:
    x = np.linspace(0, 1, width, dtype=np.float32)
    bend = 2.2 * np.sin(x * 5.1 + 0.6) + 1.1 * np.sin(x * 12.7 + 2) + 0.5 * np.sin(x * 31)
    slant = 7 * (x - 0.5)
    return (stage.height * 0.80 + stage.unit * (bend + slant))[None, :]


def _surf(stage: Stage, light: Light, edge: Array, reach: float, index: int) -> None:
    """Add a sheet of water with a foamy rim, which runs up the sand and back."""
    left, top, width, height = stage.frame_of(SAND_DEPTH)
    ragged = noise(stage.rng, width, 8, stage.unit * 9, 4)[4:5] - 0.5
    down = (np.arange(height, dtype=np.float32)[:, None] + top - edge) / stage.unit + ragged * 3
    lace = noise(stage.rng, width, height, stage.unit * 3.2, 4)
    veins = 1 - smoothstep(0.0, 0.10, np.abs(lace - 0.5))
    inside = 1 - smoothstep(-0.15, 0.15, down)
    rim = np.exp(-((down + 0.35) ** 2) / 0.22) + 0.4 * np.exp(-((down + 1.6) ** 2) / 0.9) * veins
    behind = np.exp(np.minimum(down, 0) / 3.4) * veins * inside
    foam = np.clip(rim * (0.55 + 0.75 * lace) + behind * 0.55, 0, 1) * (down < 0.6)
    sheet = inside * np.exp(np.minimum(down, 0) / 6.0) * 0.5
    cover = np.clip(foam * 0.9 + sheet * (1 - foam), 0, 1)
    white = light.ambient * 1.5 + light.key * 0.20
    share = (foam / np.maximum(cover, 1e-3))[..., None]
    colour = white * share + _mirrored_sky(light) * 0.6 * (1 - share)
    heave = swing(5.4, reach, 0.35 * index)
    picture = premultiplied(film(colour), cover)
    stage.plant(picture, SAND_DEPTH, left=left, top=top, heave=heave)


def plant_rocks(stage: Stage, light: Light) -> None:
    """Add dark rocks at both lower corners."""
    x = _across(stage)
    crags = noise(stage.rng, len(x), 8, stage.unit * 17, 5)[4]
    high = 50 * np.exp(-(((x + 0.02) / 0.17) ** 2)) + 34 * np.exp(-(((x - 1.02) / 0.16) ** 2))
    _heap(stage, light, (high + 4) * (0.45 + 0.9 * crags) - 5, (0.21, 0.19, 0.175))


def plant_bank(stage: Stage, light: Light) -> None:
    """Add the near bank of a lake, low in the middle, where the water shows."""
    x = _across(stage)
    lumps = noise(stage.rng, len(x), 8, stage.unit * 22, 4)[4]
    high = 19 * smoothstep(0.16, 0.56, np.abs(x - 0.52)) * (0.75 + 0.5 * lumps) + 2 * lumps - 1.5
    _heap(stage, light, high, (0.075, 0.085, 0.04))


def _across(stage: Stage) -> Array:
    return np.linspace(0, 1, stage.frame_of(ROCK_DEPTH)[2], dtype=np.float32)


def _heap(stage: Stage, light: Light, high: Array, tone: tuple[float, float, float]) -> None:
    """Add near ground of the given heights above the lower edge, in stage units."""
    left, top, width, height = stage.frame_of(ROCK_DEPTH)
    rows = np.arange(height, dtype=np.float32)[:, None] + top
    down = (rows - (stage.height * 1.01 - high * stage.unit)[None, :]) / stage.unit
    faces = noise(stage.rng, width, height, stage.unit * 9, 6)
    slope = np.gradient(noise(stage.rng, width, height, stage.unit * 6, 5), axis=1) * stage.unit
    towards = np.clip(0.4 + slope * 3.0 * math.copysign(1, light.azimuth), 0, 1)
    rim = np.exp(-np.maximum(down, 0) / 0.8)
    lit = light.ambient * (0.25 + 0.9 * faces**2)[..., None]
    lit = lit + light.key * (0.16 * towards * faces**2 + 0.14 * rim)[..., None]
    colour = np.array(tone, np.float32) * lit
    cover = smoothstep(0, 0.25, down)
    stage.plant(premultiplied(film(colour), cover), ROCK_DEPTH, left=left, top=top)


def plant_pier(stage: Stage, light: Light) -> None:
    """Add a wooden pier that leads from the near shore out over the water."""
    dark = skia_color(film(light.haze * 0.05 + light.ambient * 0.10))
    top = light.ambient * 0.16 + light.key * 0.03 + light.low * 0.05
    deck = film(top)
    focal, horizon = 0.95 * stage.width, stage.camera.vanishing[1]

    def at(x: float, y: float, z: float) -> tuple[float, float]:
        return stage.width * 0.47 + focal * x / z, horizon + focal * y / z

    def draw(canvas: skia.Canvas) -> None:
        edges = [3.0 + 0.34 * index for index in range(44)]
        posts = skia.Paint(AntiAlias=True, Color=dark)
        for z in reversed(edges[::5]):
            for x in (-0.66, 0.66):
                wide = focal * 0.042 / z
                (middle, low), (_, high) = at(x, 1.02, z), at(x, 0.52, z)
                canvas.drawRect(skia.Rect(middle - wide, high, middle + wide, low + wide), posts)
        for near, far in reversed(list(pairwise(edges))):
            tone = deck * (0.80 + 0.35 * ((int(near * 37) * 29) % 11) / 11)
            ends = ((-0.62, near), (0.62, near), (0.62, far - 0.03), (-0.62, far - 0.03))
            plank = polygon(*(at(x, 0.72, z) for x, z in ends))
            canvas.drawPath(plank, skia.Paint(AntiAlias=True, Color=skia_color(tone)))

    stage.paint(6.0, draw)


def plant_lighthouse(stage: Stage, light: Light) -> None:
    """Add the tower on its cliff, and its turning beam when the light is low."""
    x, foot = stage.width * 0.20, stage.camera.vanishing[1] - stage.unit * 6.5
    air = film(light.haze * 0.45 + light.ambient * 0.5 + light.key * 0.05)
    unit = stage.unit

    def draw(canvas: skia.Canvas) -> None:
        canvas.translate(x, foot)
        canvas.scale(unit, unit)
        _rock(canvas, skia_color(air * 0.42))
        _tower(canvas, air, is_lit=stage.plan.time not in ("day", "morning"))

    stage.paint(TOWER_DEPTH, draw)
    if stage.plan.time not in ("day", "morning"):
        stage.add(Beam(stage, x, foot - unit * 20.3))


def _rock(canvas: skia.Canvas, colour: int) -> None:
    left, right = ((-17, 7.0), (-12, 3.4), (-8.4, 2.6), (-5, 0.4)), ((6.6, 2.4), (9, 3), (14, 7.0))
    rock = polygon(*left, (4.4, 0.2), *right)
    canvas.drawPath(rock, skia.Paint(AntiAlias=True, Color=colour))


def _tower(canvas: skia.Canvas, air: Array, *, is_lit: bool) -> None:
    bright = skia.Paint(AntiAlias=True, Color=skia_color(np.clip(air * 1.35, 0, 1)))
    dark = skia.Paint(AntiAlias=True, Color=skia_color(air * 0.35))
    canvas.drawPath(polygon((-2.0, 1), (-1.25, -18), (1.25, -18), (2.0, 1)), bright)
    for low, high in ((-3.4, -7.6), (-11.6, -15.4)):
        foot, top = (2.0 + 0.75 * y / 19 for y in (low, high))
        canvas.drawPath(polygon((-foot, low), (-top, high), (top, high), (foot, low)), dark)
    canvas.drawRect(skia.Rect(-1.9, -18.7, 1.9, -18), dark)
    glass = skia.Color(255, 236, 178) if is_lit else skia_color(air * 0.7)
    canvas.drawRect(skia.Rect(-1.0, -21.6, 1.0, -18.7), skia.Paint(AntiAlias=True, Color=glass))
    canvas.drawPath(polygon((-1.5, -21.6), (0, -24), (1.5, -21.6)), dark)


class Beam:
    """The turning light of the tower: two cones that shorten as they point at the camera."""

    depth = TOWER_DEPTH

    def __init__(self, stage: Stage, x: float, y: float) -> None:
        self._x, self._y = x, y
        self._unit, self._reach = stage.unit, stage.width * 0.8

    def draw(self, canvas: skia.Canvas, camera: Camera, at: Moment) -> None:
        """Draw both cones and the flash around the lamp."""
        view = camera.view(self.depth, at.fraction)
        turn = 2 * math.pi * (at.time / 6.5 + 0.06)
        x, y = view.x + self._x * view.scale, view.y + self._y * view.scale
        for side in (0, math.pi):
            self._cone(canvas, x, y, math.cos(turn + side) * self._reach)
        flash = 0.35 + 0.65 * abs(math.sin(turn)) ** 6
        glow = skia.Paint(BlendMode=skia.BlendMode.kScreen)
        colours = [skia.Color(255, 232, 180, int(230 * flash)), skia.Color(255, 232, 180, 0)]
        glow.setShader(skia.GradientShader.MakeRadial((x, y), 11 * self._unit, colours))
        canvas.drawCircle(x, y, 11 * self._unit, glow)

    def _cone(self, canvas: skia.Canvas, x: float, y: float, reach: float) -> None:
        ends = [skia.Point(x, y), skia.Point(x + reach, y)]
        for wide in (1.0, 0.74, 0.5, 0.28):  # four cones in one another: a soft edge
            near, far = self._unit * 0.5 * wide, (abs(reach) * 0.075 + self._unit) * wide
            end = x + reach
            cone = polygon((x, y - near), (end, y - far), (end, y + far), (x, y + near))
            paint = skia.Paint(AntiAlias=True, BlendMode=skia.BlendMode.kScreen)
            colours = [skia.Color(255, 226, 160, alpha) for alpha in (64, 22, 0)]
            paint.setShader(skia.GradientShader.MakeLinear(ends, colours, [0.0, 0.35, 1.0]))
            canvas.drawPath(cone, paint)
