"""How does a plan become frames? Builds the set, its grade and its slate for one frame size."""

from __future__ import annotations

import math

import numpy as np

from tasks_app.providers.previz import sets
from tasks_app.providers.previz.camera.camera import Camera
from tasks_app.providers.previz.camera.stage import INFINITY, Moment, Stage
from tasks_app.providers.previz.drawing import grade, pencil
from tasks_app.providers.previz.drawing.canvas import Array, surface_on
from tasks_app.providers.previz.drawing.overlay import Slate
from tasks_app.providers.previz.script.breakdown import Breakdown

#: Aspect ratio of the picture in the frame; text goes into the bars above and below.
WIDE = 2.39


def picture_rows(width: int, height: int, *, with_bars: bool) -> slice:
    """Return the rows of the frame that hold the picture; even numbers, as chroma needs."""
    wanted = min(height, int(width / WIDE)) if with_bars and width > height else height
    bar = (height - wanted) // 4 * 2
    return slice(bar, height - bar)


class Shot:
    """A set that draws frames into a reusable buffer (height, width, 4) BGRA."""

    def __init__(
        self, plan: Breakdown, seed: int, width: int, height: int, slate: Slate | None, rows: slice
    ) -> None:
        self.rows = rows
        self._slate = slate
        self.buffer: Array = np.zeros((height, width, 4), np.uint8)
        self.buffer[..., 3] = 255
        tall = rows.stop - rows.start
        camera = Camera(
            plan.camera,
            width,
            tall,
            horizon=sets.HORIZONS.get(plan.setting, 0.5),
            reach=sets.REACH.get(plan.setting, 1.0),
        )
        self.stage = Stage(width, tall, plan, camera, np.random.default_rng(seed))
        sets.build(self.stage)
        if plan.style in pencil.STYLES:
            pencil.redraw(self.stage)
        else:
            # Wide enough for a pan: a plate of the picture's size would leave a bright edge.
            left, top, *size = self.stage.frame_of(INFINITY)
            self.stage.plant(grade.vignette(*size), INFINITY, left=left, top=top)
        self._frame = surface_on(self.buffer)
        self._picture = surface_on(self.buffer[rows])
        if slate:
            slate.draw_fixed(self._frame.getCanvas())

    def draw(self, at: Moment, caption: str = "") -> Array:
        """Draw one frame into the buffer and return it."""
        self.stage.draw(self._picture.getCanvas(), at)
        self._picture.flushAndSubmit()
        if self._slate:
            canvas = self._frame.getCanvas()
            if self.rows.start == 0:
                self._slate.draw_fixed(canvas)
            self._slate.draw_running(canvas, at.frame, caption)
            self._frame.flushAndSubmit()
        return self.buffer


def moments(seconds: float, fps: int) -> list[Moment]:
    """Return the instants of all frames of a shot."""
    count = max(1, math.floor(seconds * fps + 0.5))
    last = max(1, count - 1)
    return [Moment(index / fps, index / last, index) for index in range(count)]
