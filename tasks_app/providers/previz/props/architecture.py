"""How does a built place look? Its walls, lit and textured, drawn as plates by depth.

Haze is multiplied in per texel; a glossy floor shows the walls mirrored and smeared; bright things
have a glow around them.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import skia

from tasks_app.providers.previz.camera.place import Place, Quad
from tasks_app.providers.previz.camera.stage import Stage
from tasks_app.providers.previz.drawing.canvas import (
    LINEAR,
    film,
    image,
    premultiplied,
    resized,
    surface,
)
from tasks_app.providers.previz.drawing.shadows import light_map

BANDS = (1.2, 2.4, 3.6, 5.2, 8.0, 13.0, 22.0, 60.0)
#: Blur across and down in stage units, and strength, of the layers of light around a lamp.
BLOOM = ((0.6, 0.6, 0.5), (2.4, 2.4, 0.5), (7.0, 7.0, 0.4))
UNDERLAP = 0.84
NEAR = 1.2  # nothing closer to the camera is drawn


def plant(place: Place, stage: Stage) -> None:
    """Light the place and add it to ``stage``, far to near, with reflections in its floor."""
    pieces = [piece for quad in place.quads for piece in _split(quad)]
    pieces = [piece for piece in pieces if _in_sight(piece, place, stage)]
    pictures = [(piece, _textured(piece, place, stage)) for piece in pieces]
    pictures.sort(key=lambda pair: (-_farthest(pair[0]), not pair[0].is_floor))
    mirror = _reflection(pictures, place, stage) if place.gloss else None
    for near, far in reversed(list(pairwise(BANDS))):
        inside = [pair for pair in pictures if near <= _middle(pair[0]) < far]
        if inside:
            _plant_band(inside, place, stage, mirror)


def _split(quad: Quad) -> list[Quad]:
    """Cut a quad that runs into the depth at the bounds of the plates, and at the camera."""
    along = 0 if quad.across[2] else 1
    edge = (quad.across, quad.down)[along]
    if not edge[2]:
        return [quad] if quad.corner[2] >= NEAR else []
    z0, z1 = sorted((quad.corner[2], quad.corner[2] + edge[2]))
    cuts = [max(z0, NEAR), *(b for b in BANDS if max(z0, NEAR) < b < z1), z1]
    # Each piece reaches under the next nearer plate: gaps would open when the camera moves.
    under = [max(NEAR, z0, cut * UNDERLAP) for cut in cuts]
    return [_part(quad, along, u, b) for u, b in zip(under, cuts[1:], strict=False) if b - u > 1e-3]


def _in_sight(quad: Quad, place: Place, stage: Stage) -> bool:
    points = np.array([(p.x(), p.y()) for p in _corners(quad, place, stage)])
    edge = np.array((stage.width, stage.height)) * 0.12
    beyond = np.array((stage.width, stage.height)) + edge
    return bool((points.max(axis=0) > -edge).all() and (points.min(axis=0) < beyond).all())


def _part(quad: Quad, along: int, near: float, far: float) -> Quad:
    edge = np.array((quad.across, quad.down)[along])
    first, last = sorted((z - quad.corner[2]) / edge[2] for z in (near, far))
    corner = tuple(np.array(quad.corner) + edge * first)
    cut = tuple(edge * (last - first))
    across, down = (cut, quad.down) if along == 0 else (quad.across, cut)
    return replace(quad, corner=corner, across=across, down=down)


def _farthest(quad: Quad) -> float:
    return quad.corner[2] + max(0.0, quad.across[2]) + max(0.0, quad.down[2])


def _middle(quad: Quad) -> float:
    return quad.corner[2] + 0.5 * (quad.across[2] + quad.down[2])


def _textured(quad: Quad, place: Place, stage: Stage) -> skia.Image:
    """Return the quad's picture: light times texture, with haze, after the film curve."""
    across, down = np.array(quad.across), np.array(quad.down)
    wide, tall = float(np.linalg.norm(across)), float(np.linalg.norm(down))
    columns, rows = _texture_size(quad, place, stage)
    light = light_map(quad, place, (wide, tall), (columns, rows))
    light = np.stack([resized(light[..., c], columns, rows) for c in range(3)], axis=2)
    u = (np.arange(columns) + 0.5) / columns
    v = (np.arange(rows) + 0.5) / rows
    colour, glow = np.array(quad.colour, np.float32), np.array(quad.glow, np.float32)
    lit = np.maximum(light, 0) * colour + glow
    if quad.texture:
        a = np.array(quad.corner) @ (across / max(1e-6, wide)) + u[None, :] * wide
        b = v[:, None] * tall
        factor, shine = quad.texture(a, b, stage.rng)
        lit = lit * factor + shine
    z = quad.corner[2] + u[None, :] * across[2] + v[:, None] * down[2]
    fog = (1 - np.exp(-place.density * np.maximum(z - 1.5, 0)))[..., None]
    return image(premultiplied(film(lit * (1 - fog) + np.array(place.haze) * fog)), opaque=True)


def _texture_size(quad: Quad, place: Place, stage: Stage) -> tuple[int, int]:
    """Return columns and rows: about one per pixel that the quad covers, within limits."""
    corners = np.array([(p.x(), p.y()) for p in _corners(quad, place, stage)])
    sides = np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1)
    finest = 360 if quad.texture else 48
    columns, rows = max(sides[0], sides[2]) * 0.9, max(sides[1], sides[3]) * 0.9
    return int(np.clip(columns, 6, finest)), int(np.clip(rows, 6, finest))


def _plant_band(
    inside: list[tuple[Quad, skia.Image]],
    place: Place,
    stage: Stage,
    mirror: skia.Image | None,
) -> None:
    depth = float(np.mean([_middle(quad) for quad, _ in inside]))

    def draw(canvas: skia.Canvas) -> None:
        for quad, picture in inside:
            _draw_quad(canvas, quad, picture, place, stage)
            if quad.is_floor and mirror is not None:
                _draw_mirror(canvas, quad, mirror, place, stage)
        _draw_bloom(canvas, inside, place, stage)

    stage.paint(depth, draw)


def _draw_mirror(
    canvas: skia.Canvas, quad: Quad, mirror: skia.Image, place: Place, stage: Stage
) -> None:
    canvas.save()
    canvas.clipPath(skia.Path.Polygon(_corners(quad, place, stage), True), doAntiAlias=True)
    paint = skia.Paint(BlendMode=skia.BlendMode.kScreen, Alphaf=place.gloss)
    canvas.drawImage(mirror, 0, 0, skia.SamplingOptions(), paint)
    canvas.restore()


def _draw_bloom(
    canvas: skia.Canvas, inside: list[tuple[Quad, skia.Image]], place: Place, stage: Stage
) -> None:
    lamps = [pair for pair in inside if max(pair[0].glow) > 0.5]
    if not lamps:
        return
    glow = _softened(lamps, place, stage, BLOOM)
    paint = skia.Paint(BlendMode=skia.BlendMode.kScreen)
    whole = skia.Rect(stage.width, stage.height)
    canvas.drawImageRect(glow, whole, LINEAR, paint)


def _softened(
    pairs: list[tuple[Quad, skia.Image]],
    place: Place,
    stage: Stage,
    spreads: tuple[tuple[float, float, float], ...],
) -> skia.Image:
    """Draw ``pairs`` blurred, at a quarter of the size, since blur is the slowest step here.

    ``spreads``: horizontal and vertical radius in stage units, and strength, of each layer.
    """
    buffer, target = surface(-(-stage.width // 4), -(-stage.height // 4))
    canvas = target.getCanvas()
    canvas.scale(0.25, 0.25)
    for x, y, strength in spreads:
        soft = skia.ImageFilters.Blur(x * stage.unit, y * stage.unit)
        screen = skia.BlendMode.kScreen
        canvas.saveLayer(None, skia.Paint(ImageFilter=soft, BlendMode=screen, Alphaf=strength))
        for quad, picture in pairs:
            _draw_quad(canvas, quad, picture, place, stage)
        canvas.restore()
    target.flushAndSubmit()
    return image(buffer)


def project(place: Place, stage: Stage, x: float, y: float, z: float) -> tuple[float, float]:
    """Return where a point of the world falls on the picture at rest, in pixels."""
    vx, vy = stage.camera.vanishing
    focal = place.lens * max(stage.width, stage.height * 1.2)
    return vx + focal * x / z, vy - focal * y / z


def _corners(quad: Quad, place: Place, stage: Stage) -> list[skia.Point]:
    c, a, d = (np.array(part) for part in (quad.corner, quad.across, quad.down))
    return [skia.Point(*project(place, stage, *p)) for p in (c, c + a, c + a + d, c + d)]


def _draw_quad(
    canvas: skia.Canvas, quad: Quad, picture: skia.Image, place: Place, stage: Stage
) -> None:
    width, height = picture.width(), picture.height()
    # Half a texel is cut off: sampling beyond the edge would draw a dark seam.
    source = [skia.Point(0.5, 0.5), skia.Point(width - 0.5, 0.5)]
    source += [skia.Point(width - 0.5, height - 0.5), skia.Point(0.5, height - 0.5)]
    matrix = skia.Matrix()
    target = _corners(quad, place, stage)
    if not matrix.setPolyToPoly(source, target):
        return
    clamp = skia.TileMode.kClamp
    shader = picture.makeShader(clamp, clamp, LINEAR, matrix)
    # A thin outline of the same picture closes the seams between neighbours.
    paint = skia.Paint(
        Shader=shader, AntiAlias=True, Style=skia.Paint.kStrokeAndFill_Style, StrokeWidth=0.8
    )
    canvas.drawPath(skia.Path.Polygon(target, True), paint)


def _reflection(
    everything: list[tuple[Quad, skia.Image]], place: Place, stage: Stage
) -> skia.Image:
    """Return the reflection in the floor: every wall mirrored, smeared downwards, broken up."""
    below = [(_mirrored(q, place.floor), picture) for q, picture in everything if not q.is_floor]
    small = _softened(below, place, stage, ((0.35, 2.6, 1.0),))
    buffer, target = surface(stage.width, stage.height)
    whole = skia.Rect(stage.width, stage.height)
    target.getCanvas().drawImageRect(small, whole, LINEAR)
    target.flushAndSubmit()
    rows = np.linspace(0, 1, stage.height, dtype=np.float32)[:, None]
    stretch = stage.rng.random((stage.height // 5 + 2, stage.width // 60 + 2), dtype=np.float32)
    broken = resized(stretch, stage.width, stage.height)
    cover = np.clip(0.35 + 0.9 * broken, 0, 1) * (0.55 + 0.45 * rows)
    scaled = buffer.astype(np.float32) * cover[..., None]
    return image(scaled.astype(np.uint8))


def _mirrored(quad: Quad, floor: float) -> Quad:
    x, y, z = quad.corner
    down = (quad.down[0], -quad.down[1], quad.down[2])
    across = (quad.across[0], -quad.across[1], quad.across[2])
    return Quad((x, 2 * floor - y, z), across, down, quad.colour, quad.glow, None)
