"""Rooms: a back wall with a window that throws its light in, and what the room is for."""

from __future__ import annotations

import skia

from tasks_app.providers.previz.camera.place import Lamp, Place, Triple, triple
from tasks_app.providers.previz.camera.stage import Stage
from tasks_app.providers.previz.drawing import textures
from tasks_app.providers.previz.drawing.canvas import film, noise, skia_color
from tasks_app.providers.previz.drawing.light import Light, light_of
from tasks_app.providers.previz.props import architecture, fittings, motes
from tasks_app.providers.previz.props.fittings import BACK, CEILING, FLOOR, HALF, Room
from tasks_app.providers.previz.sets.landscape import plant_sky

Box = tuple[float, float, float, float]  # left, right, low, high

WHITEWASH, SKIRTING = (0.62, 0.60, 0.57), (0.55, 0.52, 0.48)
FINE = 5.0  # factor for the number of texels where the window's light falls


def build(stage: Stage) -> None:
    """Build the view outside, the shell, its furniture, and the light in the air."""
    room, light = fittings.ROOMS[stage.plan.setting], light_of(stage.plan)
    plant_sky(stage, light, stage.camera.vanishing[1])
    _skyline(stage, light)
    place = _place(light)
    window = _window(stage, room)
    _shell(place, room, window)
    _panes(place, window, with_blinds="blinds" in stage.plan.details)
    _daylight(place, window, light)
    is_dim = stage.plan.time in ("night", "dusk") or stage.plan.weather in ("rain", "storm")
    is_on = is_dim or "lamp" in stage.plan.details
    room.fill(stage, place, is_on)
    fittings.add_named(stage, place)
    architecture.plant(place, stage)
    _halo(stage, place, window, light)
    if not light.is_night:
        motes.plant(stage)


def _place(light: Light) -> Place:
    night = light.is_night
    ambient = triple(light.ambient * (1.9 if night else 0.95))
    x, y, z = light.direction
    # From behind the window, high enough to reach the floor.
    slant = (x * 0.5, max(0.62, min(0.8, y)), z)
    sun = (slant, triple(light.key * (2.2 if night else 3.0)))
    return Place(ambient, triple(light.haze * 0.5), 0.012, floor=FLOOR, gloss=0.30, sun=sun)


def _window(stage: Stage, room: Room) -> Box:
    left, right, low, high = room.window
    if "window" in stage.plan.details:
        return left - 0.6, right + 0.6, low - 0.45, min(CEILING - 0.15, high + 0.35)
    return room.window


def _shell(place: Place, room: Room, window: Box) -> None:
    deep, tall = BACK - 1.2, CEILING - FLOOR
    plaster, foot, top = textures.plaster, (-HALF, FLOOR, BACK), (-HALF, CEILING, BACK)
    wide, ahead = (2 * HALF, 0, 0), (0, 0, -deep)
    place.wall(foot, wide, ahead, room.floor, room.ground, is_floor=True, texels=FINE)
    place.wall(top, wide, ahead, WHITEWASH, plaster)
    for x in (-HALF, HALF):
        place.wall((x, CEILING, BACK), ahead, (0, -tall, 0), room.wall, plaster, texels=3)
    _back_wall(place, room, window)
    _blind(place)
    _skirting(place)


def _back_wall(place: Place, room: Room, window: Box) -> None:
    """Add the wall around the window, and blockers so that sun enters by the window only."""
    left, right, low, high = window
    # It reaches beyond the corners, where gaps open when the camera moves.
    far, deep_down, up = HALF + 0.6, FLOOR - 0.4, CEILING + 0.6
    for x0, x1, y0, y1 in (
        (-far, left, deep_down, up),
        (right, far, deep_down, up),
        (left, right, deep_down, low),
        (left, right, high, up),
    ):
        sides = (x0, y1, BACK), (x1 - x0, 0, 0), (0, y0 - y1, 0)
        place.wall(*sides, room.wall, textures.plaster, texels=FINE)
        place.blocks.append((x0 - 0.01, y0, BACK + 0.05, x1 + 0.01, y1, BACK + 0.3))


def _blind(place: Place) -> None:
    """Block the sun at the ceiling and the side walls."""
    place.blocks.append((-9, CEILING + 0.05, 0, 9, CEILING + 0.3, BACK + 0.3))
    for side in (-1, 1):
        x0, x1 = sorted((side * (HALF + 0.05), side * (HALF + 0.3)))
        place.blocks.append((x0, FLOOR, 0, x1, CEILING, BACK + 0.3))


def _skirting(place: Place) -> None:
    for side in (-1, 1):
        x0, x1 = sorted((side * HALF, side * (HALF - 0.05)))
        place.box((x0, FLOOR, 1.3), (x1, FLOOR + 0.28, BACK), SKIRTING, casts=False)
    low, high = (-HALF, FLOOR, BACK - 0.05), (HALF, FLOOR + 0.28, BACK)
    place.box(low, high, SKIRTING, casts=False)


def _panes(place: Place, window: Box, *, with_blinds: bool) -> None:
    left, right, low, high = window
    white = (0.66, 0.63, 0.58)
    for x in (left, (left + right) / 2, right):
        place.box((x - 0.06, low, BACK - 0.06), (x + 0.06, high, BACK + 0.05), white)
    for y in (low, low + (high - low) * 0.62, high):
        place.box((left, y - 0.05, BACK - 0.06), (right, y + 0.05, BACK + 0.05), white)
    place.box((left - 0.2, low - 0.12, BACK - 0.3), (right + 0.2, low - 0.02, BACK), white)
    y = low + 0.1
    while with_blinds and y < high:
        place.box((left, y, BACK - 0.12), (right, y + 0.10, BACK - 0.09), (0.50, 0.47, 0.42))
        y += 0.22


def _daylight(place: Place, window: Box, light: Light) -> None:
    """Let the window itself light the room, as a wide soft lamp."""
    left, right, low, high = window
    strength = 8.0 if light.is_night else 10.0
    sky = light.zenith * 0.5 + light.low * 0.5 + light.ambient * 0.3
    middle = ((left + right) / 2, (low + high) / 2, BACK - 0.55)
    place.lamps.append(Lamp(middle, triple(sky * strength * (right - left) / 3), 1.1))


def _skyline(stage: Stage, light: Light) -> None:
    """Add roofs far outside, which the window frames."""
    left, top, width, height = stage.frame_of(40)
    steps = noise(stage.rng, 60, 8, 4, 3)[4]

    def draw(canvas: skia.Canvas) -> None:
        air = film(light.haze * 0.7 + light.ambient * 0.2)
        paint = skia.Paint(Color=skia_color(air * 0.8))
        for index, step in enumerate(steps):
            x = left + width * index / 60
            y = stage.camera.vanishing[1] - stage.unit * (2 + 13 * float(step))
            canvas.drawRect(skia.Rect(x, y, x + width / 60 + 1, height + top), paint)

    stage.paint(40, draw, blur=stage.unit * 0.25)


def _halo(stage: Stage, place: Place, window: Box, light: Light) -> None:
    """Add the glow around the window and the visible shafts of its light."""
    left, right, low, high = window
    bright = film(light.low * 0.8 + light.key * 0.25)
    x0, y0 = architecture.project(place, stage, left, high, BACK)
    x1, y1 = architecture.project(place, stage, right, low, BACK)
    middle = (left + right) / 2

    def glow(canvas: skia.Canvas) -> None:
        canvas.drawRect(skia.Rect(x0, y0, x1, y1), skia.Paint(Color=skia_color(bright, 0.30)))

    def shafts(canvas: skia.Canvas) -> None:
        stops = [skia_color(bright, 0.10 if light.is_night else 0.24), skia_color(bright, 0.02)]
        for pane in ((left, middle), (middle, right)):
            outline, ends = _shaft(place, stage, (*pane, low, high))
            paint = skia.Paint(AntiAlias=True)
            paint.setShader(skia.GradientShader.MakeLinear(ends, stops))
            canvas.drawPath(skia.Path.Polygon(outline, True), paint)

    stage.paint(BACK, glow, blur=stage.unit * 4)
    stage.paint(BACK * 0.7, shafts, blur=stage.unit * 0.9)


def _shaft(place: Place, stage: Stage, pane: Box) -> tuple[list[skia.Point], list[skia.Point]]:
    """Return the outline of the light that falls through a pane, and its two ends."""
    left, right, low, high = pane
    sun = place.sun[0] if place.sun else (0.0, 0.4, 1.0)
    corners = ((left, high), (right, high), (right, low), (left, low))
    a, b, c, d = (_cast(place, stage, corner, sun) for corner in corners)
    return [a[0], b[0], b[1], c[1], d[1], d[0]], [a[0], b[1]]


def _cast(
    place: Place, stage: Stage, at: tuple[float, float], sun: Triple
) -> tuple[skia.Point, skia.Point]:
    """Return a point of the window and where its light meets the floor, on the picture."""
    x, y = at
    run = min((y - FLOOR) / sun[1], (BACK - 2.2) / sun[2])
    end = (x - sun[0] * run, y - sun[1] * run, BACK - sun[2] * run)
    first = architecture.project(place, stage, x, y, BACK)
    return skia.Point(*first), skia.Point(*architecture.project(place, stage, *end))
