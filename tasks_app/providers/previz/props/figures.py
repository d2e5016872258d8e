"""How is a body drawn? Outlines of people from behind, in units of their height, feet at 0.

Everything is paths, so that a figure can be drawn in the colour of the light at its edge, and then
dark with a small offset.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import skia

from tasks_app.providers.previz.drawing.canvas import polygon


@dataclass(frozen=True, slots=True)
class Build:
    """How one person looks: height, shoulders, hem (width, height), head, and garments."""

    size: float = 1.0
    shoulder: float = 0.115
    waist: float = 0.088
    hem: float = 0.100
    hem_at: float = -0.42
    head: float = 0.049
    garment: str = "jacket"
    hat: str = ""


BUILDS = {
    "detective": Build(1.0, 0.130, 0.108, 0.140, -0.20, garment="coat", hat="fedora"),
    "man": Build(1.0, 0.124, 0.094, 0.098, -0.44),
    "woman": Build(0.94, 0.094, 0.064, 0.138, -0.28, 0.044, garment="dress", hat="hair"),
    "astronaut": Build(1.03, 0.150, 0.128, 0.132, -0.42, 0.088, garment="suit"),
    "child": Build(0.62, 0.112, 0.098, 0.112, -0.44, 0.068),
    "robed": Build(1.0, 0.120, 0.112, 0.185, -0.015, 0.058, garment="robe", hat="hood"),
}


def outline(build: Build, swing: float, bob: float) -> list[skia.Path]:
    """Return the body's parts; ``swing``: phase of the step, -1..1; ``bob``: its vertical lift.

    They overlap and are not united: skia's union of curves loses whole parts at some angles.
    """
    parts = [*_legs(build, swing), *_torso(build, swing), *_arms(build, swing), *_head(build)]
    for part in parts:
        part.transform(skia.Matrix.Translate(0.004 * swing, -0.010 * bob))
    return parts


def _limb(points: list[tuple[float, float, float]]) -> list[skia.Path]:
    """Return a limb along joints (x, y, half width), round at every joint."""
    parts = [skia.Path.Circle(*point) for point in points]
    for (x0, y0, w0), (x1, y1, w1) in pairwise(points):
        dx, dy = x1 - x0, y1 - y0
        long = math.hypot(dx, dy) or 1.0
        nx, ny = -dy / long, dx / long
        near, far = (x0 + nx * w0, y0 + ny * w0), (x1 + nx * w1, y1 + ny * w1)
        back = (x1 - nx * w1, y1 - ny * w1), (x0 - nx * w0, y0 - ny * w0)
        parts.append(polygon(near, far, *back))
    return parts


def _legs(build: Build, swing: float) -> list[skia.Path]:
    """Return both legs: seen from behind, the one that swings is bent and its foot lifted."""
    wide = {"suit": 1.5, "dress": 0.72}.get(build.garment, 1.0)
    parts = []
    for side in (-1, 1):
        lift, back = max(0.0, side * swing), max(0.0, -side * swing)
        hip, foot = side * 0.046 * max(1.0, wide * 0.9), side * (0.046 - 0.016 * lift)
        foot_y = -0.018 - 0.085 * lift - 0.012 * back
        knee = (side * 0.050, -0.265 + 0.010 * lift, 0.037 * wide)
        parts += _limb([(hip, -0.50, 0.052 * wide), knee, (foot, foot_y - 0.03, 0.027 * wide)])
        tall = 0.020 + 0.022 * lift  # the lifted sole is seen from behind
        half = 0.032 * wide
        sole = skia.Rect(foot - half, foot_y - tall, foot + half + 0.008 * side, foot_y + 0.02)
        parts.append(skia.Path.Oval(sole))
    return parts


def _torso(build: Build, swing: float) -> list[skia.Path]:
    """Return shoulders, waist and hem; a long hem sways with the step."""
    top, neck = -0.835, 0.030
    hem, low = build.hem, build.hem_at
    sway = swing * (0.020 if build.garment in ("coat", "dress", "robe") else 0.004)
    waist_at = -0.60 if build.garment == "dress" else -0.57
    torso = skia.Path()
    torso.moveTo(-neck, top - 0.035)
    torso.cubicTo(-neck, top, -build.shoulder, top - 0.005, -build.shoulder, top + 0.065)
    torso.cubicTo(-build.shoulder, -0.70, -build.waist, -0.68, -build.waist, waist_at)
    torso.cubicTo(-build.waist * 1.05, -0.48, -hem + sway, low - 0.12, -hem + sway, low)
    torso.quadTo(sway, low + 0.030, hem + sway, low)
    torso.cubicTo(hem + sway, low - 0.12, build.waist * 1.05, -0.48, build.waist, waist_at)
    torso.cubicTo(build.waist, -0.68, build.shoulder, -0.70, build.shoulder, top + 0.065)
    torso.cubicTo(build.shoulder, top - 0.005, neck, top, neck, top - 0.035)
    torso.close()
    if build.garment == "suit":
        pack = skia.RRect.MakeRectXY(skia.Rect(-0.105, -0.86, 0.105, -0.52), 0.03, 0.03)
        return [torso, skia.Path.RRect(pack)]
    return [torso]


def _arms(build: Build, swing: float) -> list[skia.Path]:
    """Return both arms, which swing against the legs; a coat's hands are in its pockets."""
    half = {"suit": 0.048, "coat": 0.040, "robe": 0.046, "dress": 0.024}.get(build.garment, 0.033)
    parts = []
    for side in (-1, 1):
        forward = -side * swing
        out = build.shoulder - half * 0.55
        hand_y = -0.44 - 0.045 * max(0.0, forward)
        reach = 0.010 + 0.010 * abs(swing) + (0.02 if build.garment in ("suit", "dress") else 0)
        joints = [
            (side * out, -0.775, half),
            (side * (out + reach), -0.62, half * 0.92),
            (side * (out + reach - 0.012 * forward), hand_y, half * 0.74),
        ]
        if build.garment == "coat":
            joints[-1] = (side * (out - 0.010), -0.475, half * 0.9)
        parts += _limb(joints)
    return parts


def _head(build: Build) -> list[skia.Path]:
    is_helmet = build.garment == "suit"
    tall = build.head * (1.0 if is_helmet else 1.28)
    middle = -1 + build.head * (1.05 if is_helmet else 1.30)
    head = skia.Path.Oval(skia.Rect(-build.head, middle - tall, build.head, middle + tall))
    neck = skia.Path.Rect(skia.Rect(-0.027, middle, 0.027, -0.83))
    worn = {"fedora": _fedora, "hair": _hair, "hood": _hood}.get(build.hat)
    return [neck, head, *(worn() if worn else ())]


def _fedora() -> list[skia.Path]:
    hat = skia.Path()
    hat.moveTo(-0.112, -0.930)
    hat.quadTo(-0.060, -0.962, 0, -0.958)
    hat.quadTo(0.060, -0.962, 0.112, -0.930)
    hat.quadTo(0.0, -0.905, -0.112, -0.930)
    crown = skia.Path()
    crown.moveTo(-0.064, -0.945)
    crown.cubicTo(-0.062, -1.015, -0.040, -1.038, 0, -1.020)
    crown.cubicTo(0.040, -1.038, 0.062, -1.015, 0.064, -0.945)
    crown.close()
    return [hat, crown]


def _hair() -> list[skia.Path]:
    hair = skia.Path()
    hair.moveTo(0, -1.006)
    hair.cubicTo(-0.072, -1.006, -0.062, -0.90, -0.070, -0.80)
    hair.quadTo(-0.03, -0.765, 0, -0.772)
    hair.quadTo(0.03, -0.765, 0.070, -0.80)
    hair.cubicTo(0.062, -0.90, 0.072, -1.006, 0, -1.006)
    hair.close()
    return [hair]


def _hood() -> list[skia.Path]:
    hood = skia.Path()
    hood.moveTo(0, -1.025)
    hood.cubicTo(-0.080, -1.010, -0.072, -0.88, -0.120, -0.80)
    hood.lineTo(0.120, -0.80)
    hood.cubicTo(0.072, -0.88, 0.080, -1.010, 0, -1.025)
    hood.close()
    return [hood]
