"""What stands between the camera and the back of the set? Plates by depth, far to near.

A plate is painted once, for the camera at rest; drawing a frame means placing every plate by its
depth. Anything that changes (a walker, rain, a lamp) is an `Actor` and draws itself in each frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import skia

from tasks_app.providers.previz.camera.camera import Camera
from tasks_app.providers.previz.drawing.canvas import (
    LINEAR,
    NEAREST,
    Array,
    alpha_box,
    image,
    surface,
)
from tasks_app.providers.previz.script.breakdown import Breakdown

INFINITY = 1e6
#: A push in magnifies near plates; plates beyond this depth may be drawn at whole pixels.
STILL = 5e5


@dataclass(frozen=True, slots=True)
class Moment:
    """One instant of the shot: ``time`` in seconds, ``fraction`` 0..1, ``frame`` from 0."""

    time: float
    fraction: float
    frame: int


class Actor(Protocol):
    """Something that draws itself in each frame."""

    depth: float

    def draw(self, canvas: skia.Canvas, camera: Camera, at: Moment) -> None:
        """Draw into the picture (pixels, origin top left)."""


@dataclass(slots=True)
class Plate:
    """A painted plane. ``drift``: pixels per second to the right; ``heave``: pixels down at a
    moment; ``opacity``: 0..1 over time."""

    picture: skia.Image
    x: float
    y: float
    depth: float
    is_opaque: bool = False
    drift: float = 0.0
    opacity: Callable[[Moment], float] | None = None
    heave: Callable[[Moment], float] | None = None

    def draw(self, canvas: skia.Canvas, camera: Camera, at: Moment, strength: float = 1.0) -> None:
        """Place the plate where the camera sees it; ``strength`` fades it, 0..1."""
        paint = self._paint(at, strength)
        view = camera.view(self.depth, at.fraction)
        x = view.x + (self.x + self.drift * at.time) * view.scale
        y = view.y + (self.y + (self.heave(at) if self.heave else 0.0)) * view.scale
        canvas.save()
        if abs(view.scale - 1) < 1e-4 and self.drift == 0 and self.depth > STILL:
            canvas.drawImage(self.picture, round(x), round(y), NEAREST, paint)
        else:
            canvas.translate(x, y)
            canvas.scale(view.scale, view.scale)
            canvas.drawImage(self.picture, 0, 0, LINEAR, paint)
        canvas.restore()

    def _paint(self, at: Moment, strength: float) -> skia.Paint | None:
        if self.is_opaque:
            return skia.Paint(BlendMode=skia.BlendMode.kSrc)
        if self.opacity is not None:
            strength *= min(1.0, max(0.0, self.opacity(at)))
        return None if strength >= 1 else skia.Paint(Alphaf=strength)


@dataclass(slots=True)
class Cycle:
    """Plates of one thing at equal steps of time, cross-faded in an endless loop."""

    plates: list[Plate]
    period: float
    depth: float

    def draw(self, canvas: skia.Canvas, camera: Camera, at: Moment) -> None:
        """Draw the current plate, and the next one over it with growing opacity."""
        steps = at.time / self.period * len(self.plates)
        index, part = int(steps), steps - int(steps)
        self.plates[index % len(self.plates)].draw(canvas, camera, at)
        if len(self.plates) > 1:
            self.plates[(index + 1) % len(self.plates)].draw(canvas, camera, at, part)


class Stage:
    """A set being built: picture size, plan, light, camera, random numbers and plates so far."""

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
        """Add ``part`` in front of everything added before."""
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
        heave: Callable[[Moment], float] | None = None,
    ) -> None:
        """Add a premultiplied buffer as a plate, trimmed to what is visible of it."""
        plate = trimmed(buffer, depth, left=left, top=top)
        if plate:
            plate.is_opaque, plate.drift = is_opaque, drift
            plate.opacity, plate.heave = opacity, heave
            self.add(plate)

    def paint(
        self,
        depth: float,
        draw: Callable[[skia.Canvas], None],
        *,
        blur: float = 0.0,
        drift: float = 0.0,
        opacity: Callable[[Moment], float] | None = None,
        heave: Callable[[Moment], float] | None = None,
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
        self.plant(buffer, depth, left=left, top=top, drift=drift, opacity=opacity, heave=heave)

    def plates(self) -> Iterator[Plate]:
        """Yield every plate, those of cycles too."""
        for part in self.parts:
            if isinstance(part, Plate):
                yield part
            elif isinstance(part, Cycle):
                yield from part.plates

    def at_rest(self) -> Array:
        """Return the plates so far as the camera at rest sees them, BGRA (height, width, 4)."""
        buffer, target = surface(self.width, self.height)
        for plate in self.plates():
            target.getCanvas().drawImage(plate.picture, plate.x, plate.y)
        target.flushAndSubmit()
        return buffer

    def draw(self, canvas: skia.Canvas, at: Moment) -> None:
        """Draw the whole set as the camera sees it."""
        for part in self.parts:
            part.draw(canvas, self.camera, at)


def trimmed(buffer: Array, depth: float, *, left: int, top: int) -> Plate | None:
    """Return a premultiplied buffer as a plate without empty margins; None if all is empty."""
    box = alpha_box(buffer)
    if box is None:
        return None
    cut = buffer[box[1] : box[3], box[0] : box[2]]
    is_opaque = bool((cut[..., 3] == 255).all())
    return Plate(image(cut, opaque=is_opaque), left + box[0], top + box[1], depth)


def pulse(period: float, low: float, high: float, phase: float = 0.0) -> Callable[[Moment], float]:
    """Return an opacity that swings between ``low`` and ``high`` every ``period`` seconds."""

    def opacity(at: Moment) -> float:
        swing = 0.5 - 0.5 * math.cos(2 * math.pi * (at.time / period + phase))
        return low + (high - low) * swing

    return opacity


def swing(period: float, reach: float, phase: float = 0.0) -> Callable[[Moment], float]:
    """Return a heave of ``reach`` pixels up and down every ``period`` seconds."""

    def heave(at: Moment) -> float:
        return reach * math.sin(2 * math.pi * (at.time / period + phase))

    return heave
