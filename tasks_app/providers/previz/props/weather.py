"""What falls through the air? Rain and snow, as tiles that scroll at whole pixels."""

from __future__ import annotations

from dataclasses import dataclass

import skia

from tasks_app.providers.previz.camera.camera import Camera
from tasks_app.providers.previz.camera.stage import Moment, Stage
from tasks_app.providers.previz.drawing.canvas import NEAREST, image, surface


@dataclass(frozen=True, slots=True)
class Fall:
    """One depth of falling things: how many a tile, how long, how fast (heights a second)."""

    count: int
    length: float
    thickness: float
    speed: float
    slant: float
    alpha: int


FALLS = {
    "rain": (Fall(420, 5, 0.11, 1.5, 0.05, 60), Fall(110, 11, 0.20, 2.6, 0.06, 85)),
    "storm": (Fall(560, 6, 0.11, 1.9, 0.22, 70), Fall(170, 13, 0.20, 3.0, 0.25, 95)),
    "snow": (Fall(340, 0, 0.32, 0.09, 0.05, 150), Fall(90, 0, 0.75, 0.17, 0.09, 170)),
}


def plant(stage: Stage) -> None:
    """Add the plan's rain or snow, outdoors only."""
    if stage.plan.is_interior or stage.plan.setting == "space":
        return
    for fall in FALLS.get(stage.plan.weather, ()):
        stage.add(Falling(stage, fall))


class Falling:
    """A picture-sized tile that scrolls and wraps around."""

    depth = 2.2

    def __init__(self, stage: Stage, fall: Fall) -> None:
        self._fall = fall
        self._width, self._height = stage.width, stage.height
        buffer, target = surface(stage.width, stage.height)
        paint = skia.Paint(AntiAlias=True, Color=skia.Color(200, 212, 228, fall.alpha))
        paint.setStrokeWidth(max(0.8, fall.thickness * stage.unit))
        paint.setStrokeCap(skia.Paint.kRound_Cap)
        length = fall.length * stage.unit
        for x, y in stage.rng.random((fall.count, 2)):
            for lower in (0, -stage.height):  # across the seam, once more at the top
                left, top = x * stage.width, y * stage.height + lower
                foot = (left - length * fall.slant, top + length)
                target.getCanvas().drawLine(left, top, *foot, paint)
        target.flushAndSubmit()
        self._tile = image(buffer)

    def draw(self, canvas: skia.Canvas, camera: Camera, at: Moment) -> None:
        """Draw the tile four times around its wrapped place."""
        moved = at.time * self._fall.speed * self._height
        y = round(moved) % self._height
        x = -round(moved * self._fall.slant) % self._width
        for left in (x - self._width, x):
            for top in (y - self._height, y):
                canvas.drawImage(self._tile, left, top, NEAREST)
