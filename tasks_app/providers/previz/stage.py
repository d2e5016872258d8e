"""What stands between the camera and the back of the set? Plates by depth, far to near.

A plate is a picture painted once for the camera at rest; drawing a frame is placing
every plate where its depth says. Anything that lives (a walker, rain, a lamp) is an
`Actor` and draws itself each frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import skia

from tasks_app.providers.previz.breakdown import Breakdown
from tasks_app.providers.previz.camera import Camera
from tasks_app.providers.previz.canvas import LINEAR, NEAREST, Array, alpha_box, image, surface

INFINITY = 1e6
#: A push in magnifies near plates; beyond this depth they may be drawn at whole pixels.
STILL = 5e5


@dataclass(frozen=True, slots=True)
class Moment:
    """One instant of the shot: ``time`` in seconds, ``fraction`` 0..1, ``frame`` from 0."""

    time: float
    fraction: float
    frame: int


class Actor(Protocol):
    """Something that draws itself anew in each frame."""

    depth: float

    def draw(self, canvas: skia.Canvas, camera: Camera, at: Moment) -> None:
        """Draw into the picture (pixels, origin top left)."""


@dataclass(slots=True)
class Plate:
    """A painted plane. ``drift``: pixels a second; ``opacity``: 0..1 over time."""

    picture: skia.Image
    x: float
    y: float
    depth: float
    is_opaque: bool = False
    drift: float = 0.0
    opacity: Callable[[Moment], float] | None = None

    def draw(self, canvas: skia.Canvas, camera: Camera, at: Moment) -> None:
        """Place the plate where the camera sees it."""
        view = camera.view(self.depth, at.fraction)
        x = view.x + (self.x + self.drift * at.time) * view.scale
        y = view.y + self.y * view.scale
        canvas.save()
        if abs(view.scale - 1) < 1e-4 and self.drift == 0 and self.depth > STILL:
            canvas.drawImage(self.picture, round(x), round(y), NEAREST, self._paint(at))
        else:
            canvas.translate(x, y)
            canvas.scale(view.scale, view.scale)
            canvas.drawImage(self.picture, 0, 0, LINEAR, self._paint(at))
        canvas.restore()

    def _paint(self, at: Moment) -> skia.Paint | None:
        if self.is_opaque:
            return skia.Paint(BlendMode=skia.BlendMode.kSrc)
        if self.opacity is None:
            return None
        return skia.Paint(Alphaf=min(1.0, max(0.0, self.opacity(at))))


class Stage:
    """A set being built: picture size, plan, light, camera, chance and the plates so far."""

    def __init__(
        self, width: int, height: int, plan: Breakdown, camera: Camera, rng: np.random.Generator
    ) -> None:
        self.width, self.height = width, height
        self.plan, self.camera, self.rng = plan, camera, rng
        self.parts: list[Actor] = []

    @property
    def unit(self) -> float:
        """Return one hundredth of the picture's height or 16:9 height, in pixels."""
        return min(self.height, self.width * 0.6) / 100

    def frame_of(self, depth: float) -> tuple[int, int, int, int]:
        """Return left, top, width, height of the area to paint at ``depth``."""
        mx, my = self.camera.margins(depth)
        return -mx, -my, self.width + 2 * mx, self.height + 2 * my

    def add(self, part: Actor) -> None:
        """Put ``part`` in front of all that is there."""
        self.parts.append(part)

    def plant(
        self,
        buffer: Array,
        depth: float,
        *,
        left: int,
        top: int,
        is_opaque: bool = False,
        drift: float = 0.0,
        opacity: Callable[[Moment], float] | None = None,
    ) -> None:
        """Add a premultiplied buffer as a plate, trimmed to what is visible of it."""
        box = alpha_box(buffer)
        if box is None:
            return
        cut = buffer[box[1] : box[3], box[0] : box[2]]
        picture = image(cut, opaque=is_opaque)
        place = (left + box[0], top + box[1])
        self.add(Plate(picture, *place, depth, is_opaque, drift, opacity))

    def paint(
        self,
        depth: float,
        draw: Callable[[skia.Canvas], None],
        *,
        blur: float = 0.0,
        drift: float = 0.0,
        opacity: Callable[[Moment], float] | None = None,
    ) -> None:
        """Add a plate drawn with skia in picture coordinates; ``blur`` in pixels."""
        left, top, width, height = self.frame_of(depth)
        buffer, target = surface(width, height)
        canvas = target.getCanvas()
        canvas.translate(-left, -top)
        if blur > 0:
            soft = skia.ImageFilters.Blur(blur, blur)
            canvas.saveLayer(None, skia.Paint(ImageFilter=soft))
        draw(canvas)
        if blur > 0:
            canvas.restore()
        target.flushAndSubmit()
        self.plant(buffer, depth, left=left, top=top, drift=drift, opacity=opacity)

    def draw(self, canvas: skia.Canvas, at: Moment) -> None:
        """Draw the whole set as the camera sees it."""
        for part in self.parts:
            part.draw(canvas, self.camera, at)

    def flattened(self) -> Array:
        """Return what stands so far, at the first moment, as BGRA (height, width, 4)."""
        buffer, target = surface(self.width, self.height)
        self.draw(target.getCanvas(), Moment(0.0, 0.0, 0))
        target.flushAndSubmit()
        return buffer


def pulse(period: float, low: float, high: float, phase: float = 0.0) -> Callable[[Moment], float]:
    """Return an opacity that swings between ``low`` and ``high`` every ``period`` seconds."""

    def opacity(at: Moment) -> float:
        swing = 0.5 - 0.5 * math.cos(2 * math.pi * (at.time / period + phase))
        return low + (high - low) * swing

    return opacity
