"""What floats in still air? Dust in the light, fireflies at night, falling leaves in autumn."""

from __future__ import annotations

import math

import numpy as np
import skia

from tasks_app.providers.previz.camera.camera import Camera
from tasks_app.providers.previz.camera.stage import Moment, Stage

COUNT = 46


def plant(stage: Stage) -> None:
    """Add the floating things that fit the plan's time of day and season."""
    if "autumn" in stage.plan.details:
        stage.add(Motes(stage, (214, 110, 34), size=0.75, fall=5.5, blink=0.0))
    if stage.plan.weather in ("rain", "storm", "snow"):
        return
    if stage.plan.time == "night":
        stage.add(Motes(stage, (214, 255, 130), size=0.34, fall=0.0, blink=1.0))
    else:
        stage.add(Motes(stage, (255, 236, 196), size=0.16, fall=0.4, blink=0.3))


class Motes:
    """Small things that drift, each at its own speed; ``fall`` in stage units per second."""

    depth = 5.0

    def __init__(
        self, stage: Stage, rgb: tuple[int, int, int], *, size: float, fall: float, blink: float
    ) -> None:
        self._rgb, self._size, self._fall, self._blink = rgb, size, fall, blink
        self._unit, self._width, self._height = stage.unit, stage.width, stage.height
        self._all: list[list[float]] = np.round(stage.rng.random((COUNT, 5)), 4).tolist()

    def draw(self, canvas: skia.Canvas, camera: Camera, at: Moment) -> None:
        """Draw each at its current place, with a halo if it glows."""
        view = camera.view(self.depth, at.fraction)
        for across, down, pace, phase, size in self._all:
            turn = 2 * math.pi * (at.time * (0.05 + 0.12 * pace) + phase)
            x = self._width * across + self._unit * 5 * math.sin(turn)
            span = self._height * 1.1
            y = self._height * down * 0.95 + self._unit * (2.6 * math.sin(turn * 1.7 + 4 * pace))
            y = (y + self._fall * (0.6 + 0.8 * pace) * self._unit * at.time) % span
            lit = 1 - self._blink * (
                0.5 + 0.5 * math.sin(2 * math.pi * at.time * 0.7 * (0.5 + pace) + 9 * phase)
            )
            self._mote(
                canvas, view.x + x * view.scale, view.y + y * view.scale, 0.5 + size, lit, turn
            )

    def _mote(
        self, canvas: skia.Canvas, x: float, y: float, size: float, lit: float, turn: float
    ) -> None:
        radius = self._size * self._unit * size
        paint = skia.Paint(AntiAlias=True, Color=skia.Color(*self._rgb, int(235 * lit)))
        if self._fall > 1:  # a leaf turns as it falls
            wide = radius * (0.25 + abs(math.cos(turn * 5)))
            canvas.drawOval(
                skia.Rect(x - wide, y - radius * 0.5, x + wide, y + radius * 0.5), paint
            )
            return
        canvas.drawCircle(x, y, max(0.7, radius), paint)
        if self._blink == 1.0:
            paint.setColor(skia.Color(*self._rgb, int(46 * lit)))
            canvas.drawCircle(x, y, radius * 3.4, paint)
