"""Open land: mountains, hills, dunes and snow, with the sky above and trees in front."""

from __future__ import annotations

import math

import numpy as np
import skia

from tasks_app.providers.previz.camera.stage import INFINITY, Stage
from tasks_app.providers.previz.drawing.canvas import film, premultiplied, skia_color
from tasks_app.providers.previz.drawing.light import Light, light_of
from tasks_app.providers.previz.props import terrain
from tasks_app.providers.previz.props.sky import paint_sky


def build(stage: Stage) -> None:
    """Build sky, land in five depths, mist between them and what stands in front."""
    light = light_of(stage.plan)
    horizon = stage.camera.vanishing[1]
    plant_sky(stage, light, horizon)
    kind = stage.plan.setting if stage.plan.setting in terrain.GROUNDS else "mountains"
    land = terrain.Terrain(terrain.GROUNDS[kind], light, stage.rng)
    land.plant(stage, horizon)
    if kind in ("mountains", "snowfield", "meadow"):
        plant_pines(stage, light)


def plant_sky(stage: Stage, light: Light, horizon: float) -> None:
    """Add the opaque back of the set."""
    left, top, width, height = stage.frame_of(INFINITY)
    colours = film(paint_sky(light, stage.rng, width, height, horizon - top))
    stage.plant(premultiplied(colours), INFINITY, left=left, top=top, is_opaque=True)


def plant_pines(stage: Stage, light: Light, *, with_far: bool = True) -> None:
    """Add one or two stands of conifers that frame the view, the near one out of focus."""
    air = film(light.haze * 0.16 + light.ambient * 0.12)
    dark = film(light.haze * 0.035 + light.ambient * 0.03)
    unit, width, height = stage.unit, stage.width, stage.height
    rng = stage.rng

    def far(canvas: skia.Canvas) -> None:
        for _ in range(64):
            side = rng.choice((-1, 1))
            reach = rng.random() ** 1.7
            x = width / 2 + side * width * (0.53 - 0.30 * reach)
            size = unit * (13 + 12 * rng.random()) * (1.15 - 0.75 * reach)
            draw_pine(canvas, rng, x, height * (0.99 - 0.10 * reach), size, skia_color(air))

    def near(canvas: skia.Canvas) -> None:
        for x, size in ((-0.02, 66), (0.055, 44), (0.975, 52), (1.03, 78), (0.91, 30)):
            draw_pine(canvas, rng, width * x, height * 1.08, unit * size, skia_color(dark))

    if with_far:
        stage.paint(3.6, far)
    stage.paint(2.5, near, blur=unit * 0.28)


def draw_pine(
    canvas: skia.Canvas, rng: np.random.Generator, x: float, foot: float, size: float, colour: int
) -> None:
    """Draw one conifer: whorls of drooping, uneven branches on a thin trunk."""
    path = skia.Path()
    levels = max(9, int(size / 9))
    lean = rng.normal(0, 0.012) * size
    for level in range(levels):
        down = (level + 0.6) / levels
        y = foot - size * (1 - down * 0.93)
        middle = x + lean * (1 - down)
        _whorl(path, rng, middle, y, size * 0.185 * down**0.85, size / levels)
    paint = skia.Paint(AntiAlias=True, Color=colour)
    canvas.drawPath(path, paint)
    canvas.drawRect(skia.Rect(x - size * 0.011, foot - size * 0.9, x + size * 0.011, foot), paint)


def _whorl(
    path: skia.Path, rng: np.random.Generator, x: float, y: float, reach: float, step: float
) -> None:
    for side in (-1, 1):
        span = reach * (0.72 + 0.45 * rng.random())
        drop = step * (0.9 + 0.9 * rng.random()) + span * 0.16
        path.moveTo(x, y - step * 0.9)
        path.quadTo(x + side * span * 0.35, y + drop * 0.15, x + side * span, y + drop)
        ragged = 3
        for tooth in range(ragged):
            back = span * (1 - (tooth + 0.7) / ragged)
            path.lineTo(x + side * (back + span * 0.10), y + drop * (0.62 + 0.12 * math.sin(tooth)))
            path.lineTo(x + side * back, y + drop * 1.02)
        path.lineTo(x, y + step * 0.6)
        path.close()
