"""What grows? Trunks, leaves, ferns and bushes, drawn with skia in one colour of light each."""

from __future__ import annotations

import math

import numpy as np
import skia

from tasks_app.providers.previz.drawing.canvas import Array, skia_color


def draw_trunk(
    canvas: skia.Canvas,
    rng: np.random.Generator,
    *,
    x: float,
    foot: float,
    wide: float,
    tall: float,
    body: Array,
    rim: Array,
    side: float,
) -> None:
    """Draw a trunk that leaves the picture at the top, lit at its edge on ``side`` (-1, 1)."""
    lean, bow = rng.normal(0, 0.035) * tall, rng.normal(0, 0.016) * tall
    path = skia.Path()
    path.moveTo(x - wide * 0.95, foot + wide * 0.15)
    path.quadTo(x - wide * 0.5, foot - wide * 0.9, x - wide * 0.46, foot - wide * 2.6)
    path.quadTo(x - wide * 0.40 + bow, foot - tall * 0.5, x + lean - wide * 0.27, foot - tall)
    path.lineTo(x + lean + wide * 0.27, foot - tall)
    path.quadTo(x + wide * 0.40 + bow, foot - tall * 0.5, x + wide * 0.46, foot - wide * 2.6)
    path.quadTo(x + wide * 0.5, foot - wide * 0.9, x + wide * 1.0, foot + wide * 0.15)
    path.close()
    paint = skia.Paint(AntiAlias=True, Shader=_rounded(x, wide, body, rim, side))
    for _ in range(int(rng.integers(0, 3))):
        _branch(canvas, rng, x, foot - tall * rng.uniform(0.45, 0.9), wide, skia_color(body))
    canvas.drawPath(path, paint)
    canvas.save()
    canvas.clipPath(path, doAntiAlias=True)
    _bark(canvas, rng, x + lean / 2, foot, wide, tall, body)
    canvas.restore()


def _rounded(x: float, wide: float, body: Array, rim: Array, side: float) -> skia.Shader:
    """Return colours across a trunk: light grazes one edge, a little air shows at the other."""
    stops = [rim, body * 1.15, body * 0.85, body, body * 1.5]
    colours = [skia_color(np.clip(stop, 0, 1)) for stop in stops]
    ends = [skia.Point(x + side * wide * 0.5, 0), skia.Point(x - side * wide * 0.5, 0)]
    return skia.GradientShader.MakeLinear(ends, colours, [0.0, 0.16, 0.42, 0.85, 1.0])


def _branch(
    canvas: skia.Canvas, rng: np.random.Generator, x: float, y: float, wide: float, colour: int
) -> None:
    side = rng.choice((-1, 1))
    reach, rise = wide * rng.uniform(1.8, 4.2), wide * rng.uniform(0.8, 2.8)
    path = skia.Path()
    path.moveTo(x, y + wide * 0.13)
    path.quadTo(x + side * reach * 0.5, y - rise * 0.2, x + side * reach, y - rise)
    path.quadTo(x + side * reach * 0.5, y - rise * 0.35 - wide * 0.08, x, y - wide * 0.12)
    path.close()
    canvas.drawPath(path, skia.Paint(AntiAlias=True, Color=colour))


def _bark(
    canvas: skia.Canvas,
    rng: np.random.Generator,
    x: float,
    foot: float,
    wide: float,
    tall: float,
    body: Array,
) -> None:
    """Draw furrows and their bright ridges along a trunk that is wide enough to show them."""
    if wide < 9:
        return
    paint = skia.Paint(AntiAlias=True, Style=skia.Paint.kStroke_Style)
    for index in range(int(26 + wide * 0.8)):
        at, down = x + rng.uniform(-0.6, 0.6) * wide, foot - rng.random() * tall
        long = wide * rng.uniform(0.5, 1.9)
        tone = body * (0.45 if index % 3 else 1.5)
        paint.setColor(skia_color(np.clip(tone, 0, 1), 0.55))
        paint.setStrokeWidth(max(1.0, wide * rng.uniform(0.015, 0.05)))
        path = skia.Path()
        path.moveTo(at, down)
        path.quadTo(at + wide * rng.uniform(-0.10, 0.10), down - long / 2, at, down - long)
        canvas.drawPath(path, paint)


def draw_leaves(
    canvas: skia.Canvas,
    rng: np.random.Generator,
    middle: tuple[float, float],
    reach: tuple[float, float],
    *,
    size: float,
    count: int,
    colour: Array,
) -> None:
    """Draw a cluster of leaves in three tones, dark ones first."""
    for tone, share in ((0.62, 0.4), (1.0, 0.4), (1.55, 0.2)):
        path = skia.Path()
        for _ in range(int(count * share)):
            x, y = rng.normal(0, 0.42, 2)
            _leaf(path, middle[0] + x * reach[0], middle[1] + y * reach[1] - tone * size, size, rng)
        paint = skia.Paint(AntiAlias=True, Color=skia_color(np.clip(colour * tone, 0, 1)))
        canvas.drawPath(path, paint)


def _leaf(path: skia.Path, x: float, y: float, size: float, rng: np.random.Generator) -> None:
    angle = rng.uniform(0, math.pi)
    long, wide = size * rng.uniform(0.8, 1.4), size * rng.uniform(0.30, 0.55)
    dx, dy = math.cos(angle) * long, math.sin(angle) * long
    px, py = -math.sin(angle) * wide, math.cos(angle) * wide
    path.moveTo(x - dx, y - dy)
    path.quadTo(x + px, y + py, x + dx, y + dy)
    path.quadTo(x - px, y - py, x - dx, y - dy)


def draw_fern(
    canvas: skia.Canvas, rng: np.random.Generator, x: float, foot: float, size: float, colour: Array
) -> None:
    """Draw a fern: arching fronds with paired leaflets."""
    fronds = int(rng.integers(6, 10))
    for index in range(fronds):
        side = (index / (fronds - 1) * 2 - 1) * 1.0 + rng.normal(0, 0.08)
        path = skia.Path()
        _frond(path, x, foot, side * size * 0.95, size * (1.05 - 0.45 * abs(side)))
        tone = colour * rng.uniform(0.75, 1.35)
        canvas.drawPath(path, skia.Paint(AntiAlias=True, Color=skia_color(np.clip(tone, 0, 1))))


def _frond(path: skia.Path, x: float, foot: float, out: float, up: float) -> None:
    last = (x, foot)
    for step in range(1, 19):
        t = step / 18
        at = (x + out * t * (0.55 + 0.45 * t), foot - up * (2 * t - t * t * 1.35))
        dx, dy = at[0] - last[0], at[1] - last[1]
        long = abs(up) * 0.20 * math.sin(math.pi * min(1.0, t * 0.93 + 0.07)) ** 0.7
        for side in (-1, 1):
            norm = math.hypot(dx, dy) or 1.0
            nx, ny = -dy / norm * side * long + dx * 0.8, dx / norm * side * long + dy * 0.8
            path.moveTo(*last)
            path.lineTo(last[0] + nx + dx * 0.3, last[1] + ny + abs(long) * 0.25)
            path.lineTo(*at)
            path.close()
        last = at


def draw_bush(
    canvas: skia.Canvas, rng: np.random.Generator, x: float, foot: float, size: float, colour: Array
) -> None:
    """Draw a low mound of leaves."""
    for _ in range(5):
        middle = (x + rng.normal(0, 0.55) * size, foot - size * rng.uniform(0.1, 0.42))
        draw_leaves(
            canvas,
            rng,
            middle,
            (size * 0.7, size * 0.42),
            size=max(1.2, size * 0.055),
            count=70,
            colour=colour * rng.uniform(0.8, 1.2),
        )
