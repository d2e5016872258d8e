"""What fills a room? The furniture of each kind of room, and what a prompt names in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tasks_app.providers.previz.camera.place import Lamp, Place, Texture
from tasks_app.providers.previz.camera.stage import Stage
from tasks_app.providers.previz.drawing import textures
from tasks_app.providers.previz.drawing.canvas import Color
from tasks_app.providers.previz.props import furniture

#: The shell of every room, in the units of `place`.
FLOOR, CEILING, BACK, HALF = -1.7, 2.1, 8.8, 4.1


@dataclass(frozen=True, slots=True)
class Room:
    """What one kind of room looks like: colours, the window's box, and what fills it."""

    wall: Color
    floor: Color
    window: tuple[float, float, float, float]
    fill: Callable[[Stage, Place, bool], None]
    ground: Texture


def add_named(stage: Stage, place: Place) -> None:
    """Add what the prompt names besides the usual things of the room."""
    details = stage.plan.details
    has_table = stage.plan.setting in ("kitchen", "living_room", "room", "bar")
    if "table" in details and has_table:
        furniture.laid(place, 1.2, 5.1, 1.42)
    if "candles" in details:
        low = 1.42 if has_table else 0.0
        furniture.candles(place, 1.7 if has_table else 2.6, 4.85 if has_table else 5.4, low)
    if "books" in details:
        furniture.shelves(place, -2.9, BACK - 0.35, 2.2, 3.2, stage.rng)
    if "door" in details:
        _door(place)


def _door(place: Place) -> None:
    """Add a door in the right wall that lets light in."""
    x = HALF - 0.03
    place.box((x - 0.05, FLOOR, 6.2), (x, FLOOR + 3.1, 7.7), (0.50, 0.47, 0.42), casts=False)
    place.box(
        (x - 0.09, FLOOR, 6.35),
        (x - 0.05, FLOOR + 2.95, 7.55),
        (0.2, 0.2, 0.2),
        glow=(1.9, 1.25, 0.62),
        casts=False,
    )
    place.box((x - 1.2, FLOOR, 7.5), (x - 0.1, FLOOR + 2.95, 7.6), furniture.WOOD)
    place.lamps.append(Lamp((x - 0.6, FLOOR + 1.6, 6.9), (1.7, 1.05, 0.5), 0.7))


def _picture(place: Place, x: float, y: float, wide: float, tall: float) -> None:
    place.box(
        (x, y, BACK - 0.07), (x + wide, y + tall, BACK - 0.01), furniture.DARK_WOOD, casts=False
    )
    inner = (x + 0.1, y + 0.1, BACK - 0.09)
    place.box(inner, (x + wide - 0.1, y + tall - 0.1, BACK - 0.08), (0.36, 0.42, 0.44), casts=False)


def _living(stage: Stage, place: Place, is_on: bool) -> None:
    furniture.block(place, -0.2, 6.2, 0, (4.6, 0.03, 3.0), (0.46, 0.20, 0.16))
    furniture.sofa(place, -2.25, 6.7, 3.0)
    furniture.standing_lamp(place, -3.8, 6.9, is_on=is_on)
    furniture.table(place, -0.1, 5.7, (1.7, 0.7, 0.9))
    furniture.block(place, 0.1, 5.7, 0.7, (0.5, 0.06, 0.36), (0.22, 0.34, 0.38))
    _picture(place, 2.2, 0.05, 1.3, 0.95)
    furniture.block(place, 2.9, BACK - 0.4, 0, (1.9, 1.25, 0.7), furniture.DARK_WOOD)
    furniture.block(place, 2.6, BACK - 0.4, 1.25, (0.26, 0.4, 0.26), (0.30, 0.42, 0.40))
    furniture.table_lamp(place, 3.3, BACK - 0.4, 1.25, is_on=is_on)
    if "table" in stage.plan.details or "candles" in stage.plan.details:
        _dining(place)


def _plain(stage: Stage, place: Place, is_on: bool) -> None:
    furniture.block(place, 2.9, BACK - 0.4, 0, (1.9, 1.25, 0.7), furniture.DARK_WOOD)
    furniture.table_lamp(place, 3.3, BACK - 0.4, 1.25, is_on=is_on)
    _picture(place, -3.2, 0.1, 1.2, 0.9)
    _dining(place)
    furniture.pendant(place, 1.25, 5.1, 2.75, CEILING, is_on=is_on)


def _dining(place: Place) -> None:
    """Add the table in front, with its chairs."""
    furniture.chair(place, 0.75, 5.85, back=1)
    furniture.chair(place, 1.75, 5.85, back=1)
    furniture.table(place, 1.25, 5.1, (2.3, 1.42, 1.1))
    furniture.chair(place, 2.75, 5.0, back=1)


def _kitchen(stage: Stage, place: Place, is_on: bool) -> None:
    stone, front = (0.60, 0.58, 0.55), (0.28, 0.38, 0.38)
    furniture.block(place, 0, BACK - 0.55, 0, (8.1, 1.62, 0.9), front)
    for index in range(9):
        x = -3.75 + index * 0.94
        furniture.block(place, x, BACK - 1.02, 0.2, (0.84, 1.25, 0.03), (0.33, 0.44, 0.43))
        furniture.block(place, x + 0.3, BACK - 1.06, 1.2, (0.05, 0.18, 0.03), furniture.METAL)
    furniture.block(place, 0, BACK - 0.55, 1.62, (8.2, 0.09, 1.0), stone)
    for side in (-1, 1):
        furniture.block(place, side * 3.1, BACK - 0.3, 2.55, (1.7, 1.1, 0.6), front)
    for x, tall in ((-2.6, 0.5), (-2.25, 0.34), (2.5, 0.42), (2.9, 0.3)):
        furniture.block(place, x, BACK - 0.45, 1.71, (0.26, tall, 0.26), (0.55, 0.34, 0.22))
    _dining(place)
    for x in (0.75, 1.75):
        furniture.pendant(place, x, 5.1, 2.75, CEILING, is_on=is_on)


def _bedroom(stage: Stage, place: Place, is_on: bool) -> None:
    furniture.block(place, -0.6, 4.9, 0, (5.0, 0.03, 2.6), (0.40, 0.36, 0.33))
    furniture.bed(place, -1.9, 6.8)
    furniture.block(place, 0.15, 8.2, 0, (0.85, 0.95, 0.7), furniture.DARK_WOOD)
    furniture.table_lamp(place, 0.15, 8.2, 0.95, is_on=is_on)
    _picture(place, -2.7, 0.35, 1.6, 0.85)
    furniture.chair(place, 2.3, 6.4, back=1)


def _office(stage: Stage, place: Place, is_on: bool) -> None:
    for x, z in ((-2.4, 7.2), (1.9, 7.2), (-1.9, 4.9), (2.2, 4.7)):
        furniture.desk(place, x, z, is_on=is_on or stage.plan.time != "day", has_chair=z > 6)
    for index in range(3):
        furniture.block(place, -3.7, 7.9 - index * 0.9, 0, (0.7, 2.2, 0.8), furniture.METAL)
    glow = (2.0, 2.1, 2.0) if is_on else (0.25, 0.26, 0.26)
    for x in (-1.9, 1.9):
        for z in (4.2, 6.8):
            tube = ((x - 0.7, CEILING - 0.06, z), (x + 0.7, CEILING - 0.02, z + 0.4))
            place.box(*tube, (0.7, 0.7, 0.7), glow=glow, casts=False)
            if is_on:
                place.lamps.append(Lamp((x, CEILING - 0.2, z), (1.0, 1.1, 1.05), 0.5))


def _bar(stage: Stage, place: Place, is_on: bool) -> None:
    furniture.block(place, -2.2, 7.1, 0, (3.8, 2.0, 0.7), furniture.DARK_WOOD)
    furniture.block(place, -2.2, 7.0, 2.0, (4.0, 0.1, 1.0), (0.36, 0.20, 0.11))
    for index in range(4):
        furniture.stool(place, -3.6 + index * 0.95, 6.1)
    for low in (2.1, 2.75):
        furniture.block(place, -2.4, BACK - 0.25, low - 0.06, (3.2, 0.05, 0.4), furniture.WOOD)
        furniture.block(
            place, -2.4, BACK - 0.08, low, (3.1, 0.5, 0.02), furniture.WOOD, glow=(0.55, 0.28, 0.09)
        )
        for index in range(13):
            tone = ((0.14, 0.26, 0.13), (0.36, 0.18, 0.06), (0.52, 0.44, 0.34))[index % 3]
            tall = 0.30 + 0.16 * ((index * 7) % 4) / 3
            furniture.block(place, -3.8 + index * 0.235, BACK - 0.25, low, (0.12, tall, 0.12), tone)
    place.lamps.append(Lamp((-2.4, FLOOR + 2.9, BACK - 0.7), (0.9, 0.46, 0.16), 0.5))
    for x in (-3.4, -2.2, -1.0):
        furniture.pendant(place, x, 6.9, 2.9, CEILING, is_on=True)
    _dining(place)
    furniture.pendant(place, 1.0, 5.0, 2.75, CEILING, is_on=is_on)


BOARDS = textures.boards(0.55)
LIVING = Room((0.56, 0.53, 0.47), (0.44, 0.29, 0.19), (-1.0, 1.5, -0.55, 1.5), _living, BOARDS)
ROOMS = {
    "room": Room(LIVING.wall, LIVING.floor, (-1.3, 1.0, -0.5, 1.5), _plain, BOARDS),
    "living_room": LIVING,
    "kitchen": Room(
        (0.66, 0.63, 0.54),
        (0.50, 0.44, 0.38),
        (-1.5, 1.5, 0.12, 1.55),
        _kitchen,
        textures.tiles(0.8),
    ),
    "bedroom": Room(
        (0.44, 0.47, 0.52), (0.42, 0.29, 0.20), (0.9, 3.0, -0.5, 1.5), _bedroom, BOARDS
    ),
    "office": Room(
        (0.56, 0.58, 0.58), (0.30, 0.31, 0.33), (-2.9, 2.9, -0.4, 1.5), _office, textures.tiles(1.2)
    ),
    "bar": Room((0.36, 0.22, 0.16), (0.30, 0.19, 0.12), (0.9, 2.9, -0.4, 1.3), _bar, BOARDS),
}
