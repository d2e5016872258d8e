"""What stands in a room? Tables, chairs, shelves, beds and lamps, built of boxes.

Places are on the floor: ``x`` right, ``z`` away, in the units of `place`; colours are
display values.
"""

from __future__ import annotations

import numpy as np

from tasks_app.providers.previz.camera.place import Lamp, Place, Triple, triple
from tasks_app.providers.previz.drawing.canvas import Color

WOOD, DARK_WOOD, CLOTH = (0.46, 0.30, 0.19), (0.27, 0.17, 0.11), (0.32, 0.36, 0.38)
CREAM, METAL, BLACK = (0.80, 0.76, 0.68), (0.42, 0.43, 0.45), (0.08, 0.08, 0.09)
WARM: Triple = (4.2, 2.45, 1.05)
BOOKS = ((0.45, 0.14, 0.11), (0.16, 0.26, 0.34), (0.52, 0.42, 0.22), (0.18, 0.28, 0.19))


def block(
    place: Place,
    x: float,
    z: float,
    low: float,
    size: Triple,
    colour: Color,
    *,
    glow: Triple = (0, 0, 0),
    casts: bool = True,
) -> None:
    """Add a box whose middle is at ``x``, ``z`` and whose foot is ``low`` above the floor."""
    wide, tall, deep = size
    foot = place.floor + low
    place.box(
        (x - wide / 2, foot, z - deep / 2),
        (x + wide / 2, foot + tall, z + deep / 2),
        colour,
        glow=glow,
        casts=casts and max(glow) == 0,
    )


def table(place: Place, x: float, z: float, size: Triple, colour: Color = WOOD) -> None:
    """Add a table; ``size``: wide, tall, deep."""
    wide, tall, deep = size
    for side in (-1, 1):
        for end in (1, -1):
            at = (x + side * (wide / 2 - 0.08), z + end * (deep / 2 - 0.08))
            block(place, *at, 0, (0.09, tall - 0.08, 0.09), colour)
    block(place, x, z, tall - 0.08, (wide, 0.08, deep), colour)


def laid(place: Place, x: float, z: float, tall: float) -> None:
    """Add plates, a bowl and a bottle to a table of that height."""
    for side in (-1, 1):
        block(place, x + side * 0.55, z, tall, (0.40, 0.03, 0.36), CREAM)
        block(place, x + side * 0.24, z + 0.15, tall, (0.10, 0.17, 0.10), (0.55, 0.66, 0.68))
    block(place, x, z, tall, (0.42, 0.14, 0.32), (0.55, 0.24, 0.13))
    block(place, x + 0.06, z + 0.3, tall, (0.12, 0.46, 0.12), (0.10, 0.24, 0.14))


def chair(place: Place, x: float, z: float, *, back: int, colour: Color = DARK_WOOD) -> None:
    """Add a chair; ``back``: -1 if its back is towards the camera, 1 away from it."""
    for side in (-1, 1):
        for end in (1, -1):
            block(place, x + side * 0.30, z + end * 0.28, 0, (0.07, 0.78, 0.07), colour)
    block(place, x, z, 0.78, (0.70, 0.07, 0.66), colour)
    for side in (-1, 1):
        block(place, x + side * 0.30, z + back * 0.28, 0.85, (0.07, 0.9, 0.07), colour)
    for low in (1.15, 1.5):
        block(place, x, z + back * 0.28, low, (0.62, 0.2, 0.05), colour)


def sofa(place: Place, x: float, z: float, wide: float, colour: Color = CLOTH) -> None:
    """Add a sofa that faces the camera."""
    block(place, x, z + 0.45, 0.1, (wide, 1.55, 0.35), colour)
    block(place, x, z, 0.1, (wide, 0.55, 1.1), colour)
    count, lighter = max(2, int(wide / 1.2)), triple(1.12 * part for part in colour)
    for index in range(count):
        at = x + (index - (count - 1) / 2) * (wide - 0.5) / count
        block(place, at, z - 0.02, 0.65, ((wide - 0.6) / count, 0.2, 1.0), lighter)
    for side in (-1, 1):
        block(place, x + side * (wide / 2 - 0.14), z, 0.1, (0.3, 0.95, 1.15), colour)


def standing_lamp(place: Place, x: float, z: float, *, is_on: bool) -> None:
    """Add a lamp on a pole with a shade, and its light."""
    block(place, x, z, 0, (0.5, 0.05, 0.5), BLACK)
    block(place, x, z, 0.05, (0.05, 2.3, 0.05), BLACK)
    _shade(place, x, z, 2.3, (0.62, 0.5, 0.5), is_on=is_on)


def table_lamp(place: Place, x: float, z: float, low: float, *, is_on: bool) -> None:
    """Add a lamp that stands ``low`` above the floor."""
    block(place, x, z, low, (0.16, 0.34, 0.16), DARK_WOOD)
    _shade(place, x, z, low + 0.34, (0.46, 0.36, 0.4), is_on=is_on)


def pendant(place: Place, x: float, z: float, low: float, ceiling: float, *, is_on: bool) -> None:
    """Add a lamp that hangs from the ceiling; ``low``: of its shade."""
    block(place, x, z, low + 0.2, (0.025, ceiling - place.floor - low - 0.2, 0.025), BLACK)
    _shade(place, x, z, low, (0.52, 0.22, 0.4), is_on=is_on, colour=(0.12, 0.13, 0.13))


def _shade(
    place: Place,
    x: float,
    z: float,
    low: float,
    size: Triple,
    *,
    is_on: bool,
    colour: Color = CREAM,
) -> None:
    glow = (2.3, 1.45, 0.62) if is_on else (0.0, 0.0, 0.0)
    if colour != CREAM and is_on:  # a metal shade glows at its lower rim only
        rim = (size[0] * 0.9, 0.06, size[2] * 0.9)
        block(place, x, z, low - 0.05, rim, colour, glow=(4, 2.6, 1.2))
        glow = (0.0, 0.0, 0.0)
    block(place, x, z, low, size, colour, glow=glow, casts=False)
    if is_on:
        place.lamps.append(Lamp((x, place.floor + low - 0.12, z - 0.1), WARM, 0.35))


def shelves(
    place: Place, x: float, z: float, wide: float, tall: float, rng: np.random.Generator
) -> None:
    """Add a bookcase against the back wall, full of books."""
    block(place, x, z + 0.28, 0, (wide, tall, 0.06), DARK_WOOD)
    for side in (-1, 1):
        block(place, x + side * wide / 2, z, 0, (0.08, tall, 0.6), DARK_WOOD)
    rows = int(tall / 0.62)
    for row in range(rows + 1):
        block(place, x, z, row * tall / rows - (0.06 if row else 0), (wide, 0.06, 0.6), DARK_WOOD)
        if row < rows:
            _books(place, x, z, (row * tall / rows, wide), rng)


def _books(
    place: Place, x: float, z: float, shelf: tuple[float, float], rng: np.random.Generator
) -> None:
    low, wide = shelf
    at = x - wide / 2 + 0.1
    while at < x + wide / 2 - 0.25:
        thick, tall = float(rng.uniform(0.12, 0.30)), float(rng.uniform(0.32, 0.50))
        if rng.random() < 0.9:
            colour = BOOKS[int(rng.integers(0, len(BOOKS)))]
            block(place, at + thick / 2, z + 0.02, low + 0.02, (thick * 0.94, tall, 0.4), colour)
        at += thick


def bed(place: Place, x: float, z: float) -> None:
    """Add a double bed, its head at the back."""
    block(place, x, z + 1.75, 0, (3.0, 1.9, 0.14), DARK_WOOD)
    block(place, x, z, 0.1, (2.8, 0.5, 3.4), DARK_WOOD)
    block(place, x, z - 0.02, 0.6, (2.76, 0.28, 3.4), CREAM)
    block(place, x, z - 0.55, 0.66, (2.9, 0.28, 2.4), (0.33, 0.38, 0.47))
    for side in (-1, 1):
        block(place, x + side * 0.66, z + 1.3, 0.88, (1.1, 0.24, 0.6), (0.86, 0.84, 0.80))


def desk(place: Place, x: float, z: float, *, is_on: bool, has_chair: bool) -> None:
    """Add a desk with a screen on it, and perhaps a chair before it."""
    table(place, x, z, (2.2, 1.35, 1.0), (0.40, 0.31, 0.24))
    block(place, x + 0.75, z, 0.1, (0.55, 1.1, 0.8), METAL)
    glow = (0.35, 0.62, 0.85) if is_on else (0.02, 0.03, 0.04)
    block(place, x, z + 0.18, 1.35, (0.3, 0.22, 0.2), BLACK)
    block(place, x, z + 0.2, 1.52, (1.06, 0.66, 0.07), BLACK)
    block(place, x, z + 0.15, 1.57, (0.96, 0.56, 0.02), BLACK, glow=glow)
    if is_on:
        place.lamps.append(Lamp((x, place.floor + 1.8, z - 0.35), (0.25, 0.42, 0.55), 0.4))
    block(place, x - 0.7, z - 0.1, 1.35, (0.4, 0.05, 0.5), CREAM)
    if has_chair:
        chair(place, x - 0.1, z - 0.75, back=-1, colour=(0.13, 0.14, 0.16))


def stool(place: Place, x: float, z: float) -> None:
    """Add a bar stool."""
    block(place, x, z, 0, (0.5, 0.05, 0.5), METAL)
    block(place, x, z, 0.05, (0.08, 1.15, 0.08), METAL)
    block(place, x, z, 1.2, (0.6, 0.14, 0.55), (0.42, 0.10, 0.09))


def candles(place: Place, x: float, z: float, low: float) -> None:
    """Add three candles of different heights, burning."""
    for dx, tall in ((-0.22, 0.34), (0.0, 0.5), (0.22, 0.26)):
        block(place, x + dx, z, low, (0.09, tall, 0.09), CREAM)
        block(place, x + dx, z, low + tall + 0.02, (0.045, 0.13, 0.03), CREAM, glow=(5.0, 3.0, 1.0))
    place.lamps.append(Lamp((x, place.floor + low + 0.9, z - 0.2), (1.5, 0.8, 0.28), 0.3))
