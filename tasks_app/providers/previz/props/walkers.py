"""Who stands or walks in the shot? Figures from behind, dark, with light at their edges."""

from __future__ import annotations

import math

import skia

from tasks_app.providers.previz.camera.camera import Camera
from tasks_app.providers.previz.camera.stage import Moment, Stage
from tasks_app.providers.previz.drawing.canvas import film, skia_color
from tasks_app.providers.previz.drawing.light import light_of
from tasks_app.providers.previz.props import figures

STEP_SECONDS = 0.56  # time of one step; the sound of footsteps uses the same
DEPTH, FAR = 4.6, 7.5
SHADE = skia.Color(0, 0, 0, 96)


def plant(stage: Stage) -> None:
    """Add the plan's people in front of the set; a crowd stands in two rows."""
    roles = stage.plan.roles
    front = roles[: max(3, (len(roles) + 1) // 2)]
    behind = roles[len(front) :]
    for row, depth in ((behind, FAR), (front, DEPTH)):
        gap = 0.13 if len(row) < 4 else 0.105
        shift = 0.06 if depth == FAR else 0.0
        for index, role in enumerate(row):
            across = 0.5 + shift + (index - (len(row) - 1) / 2) * gap
            stage.add(Figure(stage, role, across, depth, index))


class Figure:
    """One person, drawn in each frame."""

    def __init__(self, stage: Stage, role: str, across: float, depth: float, index: int) -> None:
        build = figures.BUILDS[role]
        small = DEPTH / depth
        self.depth = depth
        self._build = build
        self._x = stage.width * across
        horizon = stage.camera.vanishing[1]
        self._foot = horizon + (stage.height * 0.90 - horizon) * small**0.5
        self._size = stage.unit * 50 * build.size * small**0.6
        self._walks = stage.plan.action == "walk"
        # Different phases and speeds: people do not walk in step, and children step faster.
        self._start = 0.37 * index + len(role) * 0.2
        self._pace = STEP_SECONDS * build.size**0.5
        light = light_of(stage.plan)
        self._side = 1 if light.azimuth < 0 else -1
        edge = light.key * 0.10 + light.ambient * 0.55
        self._edge = skia_color(film(edge))
        body = light.ambient * 0.035 + light.haze * (0.10 if depth == FAR else 0.02)
        if build.garment == "suit":  # a white one, even in shade
            body = body + light.ambient * 0.16 + 0.012
        self._body = skia_color(film(body))

    def draw(self, canvas: skia.Canvas, camera: Camera, at: Moment) -> None:
        """Draw the shadow, then the body with the light at its edge."""
        view = camera.view(self.depth, at.fraction)
        phase = math.pi * (at.time / self._pace + self._start) if self._walks else 0.0
        swing = math.sin(phase) if self._walks else 0.06 * math.sin(at.time * 0.9 + self._start)
        bob = abs(math.cos(phase)) if self._walks else 0.0
        parts = figures.outline(self._build, swing, bob)
        canvas.save()
        canvas.translate(view.x + self._x * view.scale, view.y + self._foot * view.scale)
        canvas.scale(view.scale * self._size, view.scale * self._size)
        shade = skia.Paint(AntiAlias=True, Color=SHADE)
        canvas.drawOval(skia.Rect(-0.19, -0.018, 0.19, 0.028), shade)
        # Rim light from one side: everything in its colour first, then dark with a small offset.
        for colour in (self._edge, self._body):
            paint = skia.Paint(AntiAlias=True, Color=colour)
            for part in parts:
                canvas.drawPath(part, paint)
            canvas.translate(0.0055 * self._side, 0.0035)
        canvas.restore()
