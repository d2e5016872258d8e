"""Who stands or walks in the shot? Figures seen from behind, dark, with light at their edges."""

from __future__ import annotations

import math

import skia

from tasks_app.providers.previz.camera import Camera
from tasks_app.providers.previz.stage import Moment, Stage

STEP_SECONDS = 0.56  # one foot to the other; footsteps are heard at the same pace
#: role -> height, width at the hem, hat, in parts of a man's
SHAPES = {
    "detective": (1.0, 1.0, True),
    "man": (1.0, 0.8, False),
    "woman": (0.93, 0.95, False),
    "astronaut": (1.05, 1.15, False),
    "child": (0.66, 0.75, False),
    "robed": (1.0, 1.35, False),
}
DEPTH = 4.6
BODY, EDGE = skia.Color(7, 8, 11), skia.Color(96, 104, 124)


def plant(stage: Stage) -> None:
    """Add the plan's people in front of the set."""
    roles = stage.plan.roles
    for index, role in enumerate(roles):
        across = 0.5 + (index - (len(roles) - 1) / 2) * 0.13
        stage.add(Figure(stage, role, across))


class Figure:
    """One person; draws itself anew in each frame."""

    depth = DEPTH

    def __init__(self, stage: Stage, role: str, across: float) -> None:
        self._x = stage.width * across
        self._foot = stage.height * 0.90
        self._size = stage.unit * 50 * SHAPES[role][0]
        self._hem, self._hat = SHAPES[role][1:]
        self._walks = stage.plan.action == "walk"

    def draw(self, canvas: skia.Canvas, camera: Camera, at: Moment) -> None:
        """Draw the shadow, then the body with the light at its edge."""
        view = camera.view(self.depth, at.fraction)
        phase = math.pi * at.time / STEP_SECONDS if self._walks else 0.5
        path = self._outline(math.sin(phase))
        canvas.save()
        canvas.translate(view.x + self._x * view.scale, view.y + self._foot * view.scale)
        canvas.scale(view.scale * self._size, view.scale * self._size)
        canvas.translate(0, -0.008 * abs(math.cos(phase)))
        shade = skia.Paint(AntiAlias=True, Color=skia.Color(0, 0, 0, 110))
        canvas.drawOval(skia.Rect(-0.2, -0.015, 0.2, 0.03), shade)
        # Light from one side: the body once in its colour, then the dark a hair beside it.
        canvas.drawPath(path, skia.Paint(AntiAlias=True, Color=EDGE))
        canvas.translate(0.0045, 0.003)
        canvas.drawPath(path, skia.Paint(AntiAlias=True, Color=BODY))
        canvas.restore()

    def _outline(self, swing: float) -> skia.Path:
        """Return the body in units of its height, feet at the origin."""
        body = skia.Path()
        for side in (-1, 1):
            self._leg(body, side, max(0.0, side * swing))
        hem, sway = 0.135 * self._hem, 0.012 * swing
        coat = skia.Path()
        coat.moveTo(-0.035, -0.87)
        coat.cubicTo(-0.10, -0.85, -0.125, -0.82, -0.13, -0.74)
        coat.cubicTo(-0.14, -0.60, -0.115, -0.45, -hem + sway, -0.22)
        coat.quadTo(sway, -0.19, hem + sway, -0.225)
        coat.cubicTo(0.115, -0.45, 0.14, -0.60, 0.13, -0.74)
        coat.cubicTo(0.125, -0.82, 0.10, -0.85, 0.035, -0.87)
        coat.close()
        head = skia.Path()
        head.addOval(skia.Rect(-0.052, -0.99, 0.052, -0.85))
        whole = skia.Op(skia.Op(body, coat, skia.kUnion_PathOp), head, skia.kUnion_PathOp)
        return skia.Op(whole, _hat(), skia.kUnion_PathOp) if self._hat else whole

    @staticmethod
    def _leg(body: skia.Path, side: int, lift: float) -> None:
        foot = -0.075 * lift
        x = side * (0.055 - 0.012 * lift)
        body.moveTo(x - 0.045, -0.32)
        body.lineTo(x - 0.033, foot - 0.02)
        body.quadTo(x, foot + 0.012, x + 0.033 + 0.006 * side, foot - 0.02)
        body.lineTo(x + 0.045, -0.32)
        body.close()


def _hat() -> skia.Path:
    hat = skia.Path()
    hat.addOval(skia.Rect(-0.115, -0.968, 0.115, -0.925))
    crown = skia.Path()
    crown.moveTo(-0.066, -0.945)
    crown.cubicTo(-0.062, -1.03, -0.035, -1.045, 0, -1.028)
    crown.cubicTo(0.035, -1.045, 0.062, -1.03, 0.066, -0.945)
    crown.close()
    return skia.Op(hat, crown, skia.kUnion_PathOp)
