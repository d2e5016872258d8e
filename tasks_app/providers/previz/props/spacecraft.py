"""What flies in space? A ship, a wheel-shaped station, asteroids; lit from one side."""

from __future__ import annotations

import math

import numpy as np
import skia

from tasks_app.providers.previz.camera.stage import Stage, swing
from tasks_app.providers.previz.drawing.canvas import polygon

DARK, GREY, BRIGHT = skia.Color(10, 12, 17), skia.Color(70, 76, 88), skia.Color(178, 184, 194)
WINDOW = skia.Color(255, 226, 170)


def _lit(top: float, foot: float) -> skia.Paint:
    """Return metal that is bright above and falls into shade below."""
    ends = [skia.Point(0, top), skia.Point(0, foot)]
    shader = skia.GradientShader.MakeLinear(ends, [BRIGHT, GREY, DARK], [0.0, 0.38, 1.0])
    return skia.Paint(AntiAlias=True, Shader=shader)


def plant_ship(stage: Stage) -> None:
    """Add a long ship that crosses the picture, its engines burning."""
    x, y, unit = stage.width * 0.34, stage.height * 0.40, stage.unit

    def draw(canvas: skia.Canvas) -> None:
        canvas.translate(x, y)
        canvas.rotate(-5)
        canvas.scale(unit * 1.25, unit * 1.25)
        _engines(canvas)
        _hull(canvas)
        _plating(canvas, stage.rng)
        _windows(canvas, stage.rng)

    heave = swing(9, unit * 0.5)
    stage.paint(9.0, draw, drift=unit * 0.9, heave=heave)


def _hull(canvas: skia.Canvas) -> None:
    fin = polygon((-21, -2), (-25, -11), (-18, -11.6), (-7, -3))
    canvas.drawPath(fin, _lit(-12, 0))
    lower = polygon((-24, 2), (-20, 7.2), (-3, 5.6), (4, 2))
    canvas.drawPath(lower, _lit(-3, 6))
    body = skia.Path()
    body.moveTo(-27, -3.2)
    body.lineTo(-8, -5.0)
    body.cubicTo(8, -5.4, 22, -2.6, 31, 0.9)
    body.cubicTo(22, 2.6, 6, 3.9, -8, 4.0)
    body.lineTo(-27, 3.4)
    body.close()
    canvas.drawPath(body, _lit(-5.4, 4.4))
    bridge = polygon((-9, -4.6), (-6, -8.2), (1.5, -8.0), (6.5, -4.4))
    canvas.drawPath(bridge, _lit(-8.6, -3))
    glass = polygon((1.0, -7.4), (4.6, -5.6), (-1.5, -5.9), (-1.2, -7.4))
    canvas.drawPath(glass, skia.Paint(AntiAlias=True, Color=skia.Color(30, 52, 70)))
    canvas.drawRoundRect(skia.Rect(-29, 4.6, -9, 8.4), 1.6, 1.8, _lit(4.4, 8.4))


def _plating(canvas: skia.Canvas, rng: np.random.Generator) -> None:
    line = skia.Paint(AntiAlias=True, Color=skia.Color(8, 9, 12, 120), StrokeWidth=0.10)
    light = skia.Paint(AntiAlias=True, Color=skia.Color(220, 226, 236, 60), StrokeWidth=0.10)
    for start in range(-25, 22, 2):
        at = start + float(rng.uniform(-0.5, 0.5))
        reach = 3.6 - max(0.0, at - 6) * 0.14
        canvas.drawLine(at, -reach, at, reach * 0.75, line)
        canvas.drawLine(at + 0.14, -reach, at + 0.14, 0, light)
    for y in (-2.1, 1.3):
        canvas.drawLine(-26.5, y, 19 + y, y * 0.85, line)
    for _ in range(46):
        x, y = float(rng.uniform(-25, 14)), float(rng.uniform(-3.4, 2.4))
        plate = skia.Paint(AntiAlias=True, Color=skia.Color(6, 7, 10, int(rng.uniform(20, 70))))
        wide, tall = float(rng.uniform(0.5, 2.2)), float(rng.uniform(0.3, 0.8))
        canvas.drawRect(skia.Rect(x, y, x + wide, y + tall), plate)


def _windows(canvas: skia.Canvas, rng: np.random.Generator) -> None:
    for row, (first, last) in ((-0.6, (-20, 16)), (0.5, (-18, 12)), (-6.6, (-5, -2))):
        x = float(first)
        while x < last:
            if rng.random() < 0.72:
                paint = skia.Paint(AntiAlias=True, Color=WINDOW)
                paint.setAlpha(int(rng.uniform(120, 255)))
                canvas.drawRect(skia.Rect(x, row, x + 0.34, row + 0.26), paint)
            x += 0.95


def _engines(canvas: skia.Canvas) -> None:
    for y, reach in ((-0.2, 26.0), (6.5, 20.0)):
        for wide, alpha in ((3.6, 46), (1.9, 110), (0.8, 230)):
            ends = [skia.Point(-27, y), skia.Point(-27 - reach, y)]
            colours = [skia.Color(150, 205, 255, alpha), skia.Color(60, 120, 255, 0)]
            paint = skia.Paint(AntiAlias=True, BlendMode=skia.BlendMode.kPlus)
            paint.setShader(skia.GradientShader.MakeLinear(ends, colours))
            flame = skia.Path()
            flame.moveTo(-26, y - wide * 0.7)
            flame.quadTo(-30, y - wide, -27 - reach, y)
            flame.quadTo(-30, y + wide, -26, y + wide * 0.7)
            flame.close()
            canvas.drawPath(flame, paint)


def plant_station(stage: Stage) -> None:
    """Add a station like a wheel, seen at an angle, with lit windows around its rim."""
    x, y, unit = stage.width * 0.30, stage.height * 0.44, stage.unit

    def draw(canvas: skia.Canvas) -> None:
        canvas.translate(x, y)
        canvas.rotate(-17)
        canvas.scale(unit, unit)
        _wheel(canvas, stage.rng)

    stage.paint(14.0, draw, drift=unit * 0.25)


def _wheel(canvas: skia.Canvas, rng: np.random.Generator) -> None:
    flat = 0.40
    ring = skia.Paint(AntiAlias=True, Style=skia.Paint.kStroke_Style)
    for radius, wide, colour, shift in (
        (24, 4.6, DARK, 0.9),
        (24, 3.9, GREY, 0.0),
        (24.4, 1.5, BRIGHT, -1.0),
        (24, 0.25, DARK, 0.6),
    ):
        ring.setColor(colour)
        ring.setStrokeWidth(wide)
        canvas.drawOval(
            skia.Rect(-radius, -radius * flat + shift, radius, radius * flat + shift), ring
        )
    spoke = skia.Paint(AntiAlias=True, Color=GREY, StrokeWidth=1.3)
    for index in range(3):
        turn = math.pi * index / 3 + 0.35
        dx, dy = 22.6 * math.cos(turn), 22.6 * flat * math.sin(turn)
        canvas.drawLine(-dx, -dy, dx, dy, spoke)
    hub = skia.Rect(-4.2, -6.5, 4.2, 5.5)
    canvas.drawRoundRect(hub, 2.6, 2.2, _lit(-7, 5))
    canvas.drawRect(skia.Rect(-0.35, -16, 0.35, -6), _lit(-16, -4))
    lamp = skia.Paint(AntiAlias=True, Color=WINDOW)
    for index in range(96):
        turn = 2 * math.pi * index / 96
        if rng.random() < 0.72:
            x, y = 24 * math.cos(turn), 24 * flat * math.sin(turn) + 0.5
            lamp.setAlpha(int(rng.uniform(90, 255)))
            canvas.drawRect(skia.Rect(x - 0.22, y, x + 0.22, y + 0.38), lamp)


def plant_asteroids(stage: Stage, *, is_near: bool) -> None:
    """Add tumbling rocks: many small ones far away, or a few large ones close by."""
    rng, unit = stage.rng, stage.unit
    count, low, high = (4, 7.0, 15.0) if is_near else (26, 0.6, 3.4)

    def draw(canvas: skia.Canvas) -> None:
        for _ in range(count):
            x, y = rng.uniform(-0.02, 1.02) * stage.width, rng.normal(0.55, 0.2) * stage.height
            if is_near:
                x = stage.width * float(
                    rng.choice((rng.uniform(-0.03, 0.2), rng.uniform(0.8, 1.03)))
                )
            _asteroid(canvas, rng, float(x), float(y), float(rng.uniform(low, high)) * unit)

    stage.paint(4.5 if is_near else 18.0, draw, drift=-unit * (1.2 if is_near else 0.35))


def _asteroid(
    canvas: skia.Canvas, rng: np.random.Generator, x: float, y: float, size: float
) -> None:
    turns = np.linspace(0, 2 * math.pi, 22, endpoint=False)
    reach = (
        size * (0.78 + 0.28 * rng.random(22)) * (1 + 0.18 * np.cos(turns * 2 + rng.random() * 6))
    )
    around = zip(turns, reach, strict=True)
    rock = polygon(*((x + r * math.cos(t), y + 0.78 * r * math.sin(t)) for t, r in around))
    light = (x - size * 0.55, y - size * 0.55)
    colours = [skia.Color(150, 140, 128), skia.Color(66, 61, 58), skia.Color(8, 8, 10)]
    shader = skia.GradientShader.MakeRadial(light, size * 1.75, colours, [0.0, 0.42, 1.0])
    canvas.drawPath(rock, skia.Paint(AntiAlias=True, Shader=shader))
    canvas.save()
    canvas.clipPath(rock, doAntiAlias=True)
    for _ in range(9):
        dx, dy, wide = rng.normal(0, 0.4), rng.normal(0, 0.34), rng.uniform(0.06, 0.2) * size
        pit = skia.Paint(AntiAlias=True, Color=skia.Color(0, 0, 0, 70))
        canvas.drawCircle(x + dx * size, y + dy * size, wide, pit)
        pit.setColor(skia.Color(230, 220, 205, 34))
        canvas.drawCircle(x + dx * size + wide * 0.22, y + dy * size + wide * 0.24, wide * 0.9, pit)
    canvas.restore()
