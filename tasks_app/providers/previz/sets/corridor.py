"""A corridor with doors to its end: of a house that is too large, or of a spaceship."""

from __future__ import annotations

from dataclasses import dataclass

from tasks_app.providers.previz.camera.place import Lamp, Place, Texture, Triple, triple
from tasks_app.providers.previz.camera.stage import INFINITY, Stage
from tasks_app.providers.previz.drawing import textures
from tasks_app.providers.previz.drawing.canvas import Color, premultiplied
from tasks_app.providers.previz.props import architecture
from tasks_app.providers.previz.sets.space import painted_stars

HALF, FLOOR, CEILING, END = 2.0, -1.7, 1.75, 27.0
#: Where lamps hang or ribs stand, along the corridor.
BAYS = (3.4, 6.4, 9.4, 12.4, 15.4, 18.4, 21.4, 24.4)
DOOR: Color = (0.30, 0.22, 0.17)


@dataclass(frozen=True, slots=True)
class Look:
    """The surfaces and the light of one kind of corridor."""

    wall: Color
    floor: Color
    lining: Texture
    ground: Texture
    lamp: Triple
    ambient: Triple
    haze: Triple
    gloss: float


DAY = Look(
    (0.62, 0.62, 0.57),
    (0.40, 0.38, 0.35),
    textures.plaster,
    textures.tiles(0.9),
    (1.5, 1.45, 1.25),
    (0.10, 0.10, 0.095),
    (0.10, 0.10, 0.09),
    0.45,
)
NIGHT = Look(
    (0.46, 0.52, 0.48),
    (0.34, 0.36, 0.36),
    textures.plaster,
    textures.tiles(0.9),
    (1.15, 1.35, 1.0),
    (0.012, 0.016, 0.016),
    (0.006, 0.010, 0.010),
    0.6,
)
SHIP = Look(
    (0.50, 0.52, 0.55),
    (0.26, 0.27, 0.30),
    textures.panels(1.5, 1.1),
    textures.panels(1.2, 1.2),
    (0.75, 1.15, 1.5),
    (0.030, 0.036, 0.046),
    (0.020, 0.030, 0.042),
    0.55,
)
ALERT: Triple = (1.5, 0.05, 0.03)


def build(stage: Stage) -> None:
    """Build the shell, bay after bay, and what is to be seen at the end."""
    is_ship = stage.plan.setting == "spaceship"
    look = SHIP if is_ship else NIGHT if stage.plan.time in ("night", "dusk") else DAY
    stage.plant(premultiplied(painted_stars(stage)), INFINITY, left=-3, top=-3, is_opaque=True)
    place = Place(look.ambient, look.haze, 0.045, floor=FLOOR, gloss=look.gloss)
    _shell(place, look)
    if is_ship:
        _ribs(place, ALERT if "alert" in stage.plan.details else look.lamp)
        _hatch(place, look)
    else:
        _doors(place)
        _tubes(place, look, stage)
        _end(place, look)
    architecture.plant(place, stage)


def _shell(place: Place, look: Look) -> None:
    long, tall = END - 1.2, CEILING - FLOOR
    floor, up = (-HALF, FLOOR, END), (-HALF, CEILING, END)
    place.wall(floor, (2 * HALF, 0, 0), (0, 0, -long), look.floor, look.ground, is_floor=True)
    place.wall(up, (2 * HALF, 0, 0), (0, 0, -long), look.wall, look.lining)
    for x in (-HALF, HALF):
        place.wall((x, CEILING, END), (0, 0, -long), (0, -tall, 0), look.wall, look.lining)


def _slab(
    place: Place,
    side: int,
    thick: float,
    span: tuple[float, float, float, float],
    colour: Color,
    *,
    glow: Triple = (0, 0, 0),
) -> None:
    """Add something flat on a side wall; ``span``: low, high, near, far."""
    x0, x1 = sorted((side * HALF, side * (HALF - thick)))
    low, high, near, far = span
    place.box((x0, low, near), (x1, high, far), colour, glow=glow, casts=False)


def _doors(place: Place) -> None:
    for z in BAYS[:-1]:
        for side in (-1, 1):
            top = FLOOR + 2.75
            _slab(place, side, 0.10, (FLOOR, top + 0.12, z - 0.12, z + 1.52), (0.42, 0.38, 0.33))
            _slab(place, side, 0.12, (FLOOR, top, z, z + 1.4), DOOR)
            _slab(
                place, side, 0.18, (FLOOR + 1.2, FLOOR + 1.28, z + 0.12, z + 0.26), (0.7, 0.6, 0.35)
            )
    for side in (-1, 1):
        _slab(place, side, 0.04, (FLOOR, FLOOR + 0.3, 1.3, END), (0.26, 0.25, 0.23))
        _slab(place, side, 0.05, (FLOOR + 1.15, FLOOR + 1.25, 1.3, END), (0.36, 0.33, 0.29))


def _tubes(place: Place, look: Look, stage: Stage) -> None:
    """Add the ceiling lamps; at night some of them are off."""
    for index, z in enumerate(BAYS):
        is_on = look is DAY or index in (1, 3, 4, 6)
        glow = triple(part * 2.2 for part in look.lamp) if is_on else (0.02, 0.02, 0.02)
        low, high = (-0.75, CEILING - 0.07, z), (0.75, CEILING - 0.02, z + 0.4)
        place.box(low, high, (0.6, 0.6, 0.6), glow=glow, casts=False)
        if is_on:
            power = triple(part * 1.7 for part in look.lamp)
            place.lamps.append(Lamp((0, CEILING - 0.25, z + 0.2), power, 0.5))


def _end(place: Place, look: Look) -> None:
    place.wall(
        (-HALF - 1, CEILING + 1, END),
        (2 * HALF + 2, 0, 0),
        (0, FLOOR - CEILING - 2, 0),
        look.wall,
        look.lining,
    )
    place.box((-0.85, FLOOR, END - 0.1), (0.85, FLOOR + 2.8, END - 0.02), DOOR, casts=False)
    bright = (4.2, 3.7, 2.7) if look is DAY else (1.2, 1.7, 1.9)
    for x in (-0.62, 0.12):
        pane = ((x, FLOOR + 1.35, END - 0.14), (x + 0.5, FLOOR + 2.5, END - 0.12))
        place.box(*pane, (0.5, 0.5, 0.5), glow=bright, casts=False)
    place.lamps.append(Lamp((0, FLOOR + 1.9, END - 0.8), bright, 0.6))


def _ribs(place: Place, lamp: Triple) -> None:
    """Add the frames of the hull, with a strip of light on each and along the floor."""
    dark = (0.20, 0.21, 0.23)
    strip = triple(part * 2.6 for part in lamp)
    for z in BAYS:
        for side in (-1, 1):
            _slab(place, side, 0.34, (FLOOR, CEILING, z, z + 0.5), dark)
            _slab(place, side, 0.60, (CEILING - 0.5, CEILING, z, z + 0.5), dark)
            _slab(place, side, 0.52, (FLOOR, FLOOR + 0.35, z, z + 0.5), dark)
            x0, x1 = sorted((side * (HALF - 0.30), side * (HALF - 0.36)))
            low, high = (x0, FLOOR + 0.6, z - 0.03), (x1, CEILING - 0.6, z - 0.01)
            place.box(low, high, dark, glow=strip, casts=False)
            _slab(
                place,
                side,
                0.10,
                (-0.25, 0.45, z + 1.1, z + 2.2),
                (0.1, 0.1, 0.11),
                glow=(0.10, 0.20, 0.26),
            )
        place.box((-HALF, CEILING - 0.22, z), (HALF, CEILING, z + 0.5), dark, casts=False)
        place.box(
            (-0.8, CEILING - 0.26, z + 0.1),
            (0.8, CEILING - 0.23, z + 0.4),
            dark,
            glow=strip,
            casts=False,
        )
        power = triple(part * 1.5 for part in lamp)
        place.lamps.append(Lamp((0, CEILING - 0.5, z - 0.1), power, 0.5))
    faint = triple(part * 0.9 for part in lamp)
    for side in (-1, 1):
        _slab(place, side, 0.05, (FLOOR + 0.42, FLOOR + 0.48, 1.3, END), dark, glow=faint)


def _hatch(place: Place, look: Look) -> None:
    """Add the end: a frame around a wide window, through which the stars are seen."""
    dark = (0.16, 0.17, 0.19)
    for low, high in (
        ((-HALF - 1, FLOOR - 1, END), (-1.15, CEILING + 1, END + 0.3)),
        ((1.15, FLOOR - 1, END), (HALF + 1, CEILING + 1, END + 0.3)),
        ((-1.15, FLOOR - 1, END), (1.15, FLOOR + 0.55, END + 0.3)),
        ((-1.15, CEILING - 0.5, END), (1.15, CEILING + 1, END + 0.3)),
        ((-0.05, FLOOR + 0.55, END), (0.05, CEILING - 0.5, END + 0.2)),
    ):
        place.box(low, high, dark, texture=look.lining)
