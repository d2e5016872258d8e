"""Which ships are drawn? A tall ship on the horizon and small sailing boats, with reflections."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import skia

from tasks_app.providers.previz.camera.stage import Stage, swing
from tasks_app.providers.previz.drawing.canvas import Array, film, polygon, skia_color
from tasks_app.providers.previz.drawing.light import Light

Draw = Callable[[skia.Canvas, Array, bool], None]


def plant(stage: Stage, light: Light) -> None:
    """Add the plan's vessels, far ones paler than near ones."""
    if "ship" in stage.plan.details:
        _float(stage, light, _ship, x=0.60, down=3.2, size=1.25, depth=26.0)
    if "boat" in stage.plan.details:
        _float(stage, light, _boat, x=0.66, down=8.5, size=1.15, depth=11.0)
        _float(stage, light, _boat, x=0.40, down=2.0, size=0.42, depth=34.0)


def _float(
    stage: Stage, light: Light, draw: Draw, *, x: float, down: float, size: float, depth: float
) -> None:
    """Add one vessel; ``down``: its waterline below the horizon, in stage units."""
    far = min(1.0, depth * light.density * 0.55)
    dark = light.ambient * 0.10 + light.key * 0.006
    body = film(dark * (1 - far) + light.haze * far)
    line = stage.camera.vanishing[1] + down * stage.unit
    is_lit = stage.plan.time in ("night", "dusk")

    def above(canvas: skia.Canvas) -> None:
        canvas.translate(stage.width * x, line)
        canvas.scale(stage.unit * size, stage.unit * size)
        draw(canvas, body, is_lit)

    def below(canvas: skia.Canvas) -> None:
        canvas.translate(0, line)
        canvas.scale(1, -0.7)
        canvas.translate(0, -line)
        above(canvas)

    drift = stage.unit * 0.55 * size
    stage.paint(
        depth,
        below,
        blur=stage.unit * 0.35,
        drift=drift,
        opacity=lambda at: 0.42,
        heave=swing(3.7, stage.unit * 0.12 * size),
    )
    stage.paint(depth, above, drift=drift, heave=swing(3.7, stage.unit * 0.22 * size))


def _ship(canvas: skia.Canvas, body: Array, is_lit: bool) -> None:
    """Draw a three-master under sail, about 30 units long, bow to the right."""
    paint = skia.Paint(AntiAlias=True, Color=skia_color(body))
    hull = skia.Path()
    hull.moveTo(-13.5, -4.6)
    hull.lineTo(-9.2, -4.2)
    hull.quadTo(0, -2.3, 11.5, -3.6)
    hull.quadTo(12.2, -2.0, 9.6, 0.2)
    hull.lineTo(-11.2, 0.2)
    hull.quadTo(-12.8, -1.6, -13.5, -4.6)
    canvas.drawPath(hull, paint)
    line = skia.Paint(AntiAlias=True, Color=skia_color(body), Style=skia.Paint.kStroke_Style)
    line.setStrokeWidth(0.32)
    canvas.drawLine(11, -3.4, 17.5, -6.4, line)
    cloth = skia.Paint(AntiAlias=True, Color=skia_color(np.clip(body * 1.25 + 0.035, 0, 1)))
    for x, tall in ((-7.4, 15.5), (-0.4, 20.0), (6.6, 17.5)):
        canvas.drawLine(x, -2.5, x, -tall - 2.2, line)
        _sails(canvas, cloth, x, tall)
    line.setStrokeWidth(0.10)
    for foot, top in (
        ((17.2, -6.3), (6.6, -19)),
        ((6.6, -19), (-0.4, -9)),
        ((-7.4, -17), (-13, -4.6)),
    ):
        canvas.drawLine(*foot, *top, line)
    canvas.drawPath(polygon((16.2, -6.2), (7.4, -17), (8.6, -6.6)), cloth)
    if is_lit:
        warm = skia.Paint(AntiAlias=True, Color=skia.Color(255, 196, 110))
        for x in (-11.6, -10.4, -9.2):
            canvas.drawRect(skia.Rect(x, -3.3, x + 0.5, -2.7), warm)


def _sails(canvas: skia.Canvas, cloth: skia.Paint, x: float, tall: float) -> None:
    heights = (0.24, 0.52, 0.76, 0.94)
    for index, (low, high) in enumerate(pairwise(heights)):
        wide = 3.2 - 0.55 * index
        sail = skia.Path()
        sail.moveTo(x - wide + 0.25, -tall * high - 0.2)
        sail.lineTo(x + wide - 0.25, -tall * high - 0.2)
        sail.quadTo(x + wide + 1.5, -tall * (low + high) / 2, x + wide, -tall * low - 0.7)
        sail.quadTo(x, -tall * low - 1.5, x - wide, -tall * low - 0.7)
        sail.quadTo(x - wide + 1.1, -tall * (low + high) / 2, x - wide + 0.25, -tall * high - 0.2)
        canvas.drawPath(sail, cloth)


def _boat(canvas: skia.Canvas, body: Array, is_lit: bool) -> None:
    """Draw a small boat with main sail and jib, about 12 units long."""
    paint = skia.Paint(AntiAlias=True, Color=skia_color(body))
    hull = skia.Path()
    hull.moveTo(-6.2, -1.7)
    hull.quadTo(0, -1.0, 6.8, -2.0)
    hull.quadTo(5.4, 0.0, 3.8, 0.25)
    hull.lineTo(-5.2, 0.25)
    hull.close()
    canvas.drawPath(hull, paint)
    canvas.drawRect(skia.Rect(-0.12, -17, 0.12, -1.2), paint)
    cloth = skia.Paint(AntiAlias=True, Color=skia_color(np.clip(body * 1.9 + 0.10, 0, 1)))
    main = skia.Path()
    main.moveTo(-0.35, -16.6)
    main.quadTo(-4.6, -8.5, -5.8, -2.9)
    main.lineTo(-0.35, -2.5)
    main.close()
    jib = skia.Path()
    jib.moveTo(0.4, -14.6)
    jib.quadTo(3.9, -8.0, 5.9, -2.5)
    jib.lineTo(0.5, -2.8)
    jib.close()
    canvas.drawPath(main, cloth)
    canvas.drawPath(jib, cloth)
    if is_lit:
        warm = skia.Paint(AntiAlias=True, Color=skia.Color(255, 214, 150))
        canvas.drawCircle(0, -17.2, 0.28, warm)
