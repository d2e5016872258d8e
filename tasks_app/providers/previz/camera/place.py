"""What is a built place made of? Boxes, walls, lamps and air, before anything is drawn.

The world has x right, y up, z away from a camera at the origin; one unit is about half a metre.
Colours are linear light.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from tasks_app.providers.previz.drawing.canvas import Array, Color, linear

Triple = tuple[float, float, float]
#: A texture maps world coordinates along both edges to albedo factors and emission.
Texture = Callable[[Array, Array, np.random.Generator], tuple[Array, Array]]


def triple(values: Iterable[float]) -> Triple:
    """Return three numbers of any kind as plain ones."""
    first, second, third = map(float, values)
    return first, second, third


@dataclass(frozen=True, slots=True)
class Lamp:
    """A light: position, linear colour times power, and its radius (softness)."""

    at: Triple
    colour: Triple
    radius: float = 0.3


@dataclass(frozen=True, slots=True)
class Quad:
    """A wall: a corner, two edges, linear colour, own light, texture and sharpness."""

    corner: Triple
    across: Triple
    down: Triple
    colour: Triple
    glow: Triple = (0, 0, 0)
    texture: Texture | None = None
    is_floor: bool = False
    texels: float = 1.0


@dataclass(slots=True)
class Place:
    """A set under construction: walls, shadow-casting boxes, lamps and air."""

    ambient: Triple
    haze: Triple = (0, 0, 0)
    density: float = 0.0
    floor: float = -1.6
    gloss: float = 0.0
    lens: float = 0.62
    sun: tuple[Triple, Triple] | None = None
    quads: list[Quad] = field(default_factory=list)
    blocks: list[tuple[float, ...]] = field(default_factory=list)
    lamps: list[Lamp] = field(default_factory=list)

    def wall(
        self,
        corner: Triple,
        across: Triple,
        down: Triple,
        colour: Color,
        texture: Texture,
        *,
        is_floor: bool = False,
        texels: float = 2.0,
    ) -> None:
        """Add a quad that casts no shadow; ``colour`` is a display value."""
        tint = triple(linear(colour))
        self.quads.append(Quad(corner, across, down, tint, (0, 0, 0), texture, is_floor, texels))

    def box(
        self,
        low: Triple,
        high: Triple,
        colour: Color,
        *,
        glow: Triple = (0, 0, 0),
        texture: Texture | None = None,
        casts: bool = True,
    ) -> None:
        """Add the faces of a box that the camera can see; colours are display values."""
        if casts:
            self.blocks.append((*low, *high))
        tint = triple(linear(colour))
        for face in _faces(low, high):
            self.quads.append(Quad(*face, tint, glow, texture))


def _faces(low: tuple[float, ...], high: tuple[float, ...]) -> list[tuple[Triple, Triple, Triple]]:
    (x0, y0, z0), (x1, y1, z1) = low, high
    faces: list[tuple[Triple, Triple, Triple]] = []
    if y1 < 0:
        faces.append(((x0, y1, z1), (x1 - x0, 0, 0), (0, 0, z0 - z1)))
    if y0 > 0:
        faces.append(((x0, y0, z0), (x1 - x0, 0, 0), (0, 0, z1 - z0)))
    if x1 < 0:
        faces.append(((x1, y1, z0), (0, 0, z1 - z0), (0, y0 - y1, 0)))
    if x0 > 0:
        faces.append(((x0, y1, z0), (0, 0, z1 - z0), (0, y0 - y1, 0)))
    faces.append(((x0, y1, z0), (x1 - x0, 0, 0), (0, y0 - y1, 0)))
    return faces
