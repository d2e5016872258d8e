"""How much light reaches a wall? Small light maps, by shadow rays against the boxes."""

from __future__ import annotations

import numpy as np

from tasks_app.providers.previz.camera.place import Lamp, Place, Quad
from tasks_app.providers.previz.drawing.canvas import Array

FAINTEST = 0.012  # light from farther lamps is left out
FINE = 3.0  # times the usual texels: where shadows are looked at
LIGHT_TEXELS = 2.4  # of a light map, per unit of length


def light_map(quad: Quad, place: Place, sides: tuple[float, float], most: tuple[int, int]) -> Array:
    """Return light arriving at the quad, (rows, columns, 3) linear.

    ``most``: columns and rows of its picture; a finer map would not be seen.
    """
    per = LIGHT_TEXELS * quad.texels
    finest = 26 * quad.texels
    columns, rows = (
        int(np.clip(side * per, 3, max(3, min(finest, pixels))))
        for side, pixels in zip(sides, most, strict=True)
    )
    u, v = np.meshgrid((np.arange(columns) + 0.5) / columns, (np.arange(rows) + 0.5) / rows)
    across, down = np.array(quad.across), np.array(quad.down)
    normal = np.cross(across, down)
    normal = normal / np.linalg.norm(normal)
    points = np.array(quad.corner) + u[..., None] * across + v[..., None] * down
    points = points.reshape(-1, 3)
    if normal @ points.mean(axis=0) > 0:
        normal = -normal
    points = points + normal * 0.02
    total = np.array(place.ambient) * _openness(points, normal, place)[:, None]
    for lamp in place.lamps:
        nearest = np.linalg.norm(points - np.array(lamp.at), axis=1).min()
        if max(lamp.colour) > FAINTEST * (nearest * nearest + 0.15):
            total = total + _from_lamp(points, normal, lamp, place)
    if place.sun:
        total = total + _from_sun(points, normal, place)
    lit = total.reshape(rows, columns, 3).astype(np.float32)
    # A fine map shows the steps of its hard shadows, which a real lamp's size would soften.
    return _softened(lit) if quad.texels >= FINE else lit


def _softened(lit: Array) -> Array:
    for axis in (0, 1, 0, 1):
        padded = np.pad(lit, [(1, 1) if i == axis else (0, 0) for i in range(3)], "edge")
        count = lit.shape[axis]
        before, after = (np.take(padded, range(at, at + count), axis) for at in (0, 2))
        lit = lit * 0.5 + (before + after) * 0.25
    return lit


def _openness(points: Array, normal: Array, place: Place) -> Array:
    """Return 0..1, how much a point sees beyond what stands close to it."""
    rng = np.random.default_rng(3)
    ways = rng.normal(size=(7, 3)) + normal * 1.4
    free = np.zeros(len(points))
    for way in ways:
        way = way / np.linalg.norm(way)
        free += ~_blocked(points, np.broadcast_to(way, points.shape), 1.6, place)
    return 0.3 + 0.7 * free / len(ways)


def _from_lamp(points: Array, normal: Array, lamp: Lamp, place: Place) -> Array:
    way = np.array(lamp.at) - points
    square = (way**2).sum(axis=1)
    distance = np.sqrt(square)
    way = way / distance[:, None]
    facing = np.clip(way @ normal, 0, None)
    seen = ~_blocked(points, way, np.maximum(distance - lamp.radius, 0.05), place)
    power = facing * seen / (square + lamp.radius**2 + 0.15)
    return power[:, None] * np.array(lamp.colour)


def _from_sun(points: Array, normal: Array, place: Place) -> Array:
    assert place.sun is not None
    direction, colour = (np.array(part) for part in place.sun)
    direction = direction / np.linalg.norm(direction)
    facing = max(0.0, float(direction @ normal))
    if facing == 0:
        return np.zeros_like(points)
    seen = ~_blocked(points, np.broadcast_to(direction, points.shape), 60.0, place)
    return (facing * seen)[:, None] * colour


def _blocked(points: Array, ways: Array, reach: Array | float, place: Place) -> Array:
    """Tell for each ray whether a block stands within ``reach`` (slab test)."""
    hit = np.zeros(len(points), bool)
    # Rows of x, y and z: their least and greatest are found far faster than those of columns.
    starts, ways = np.ascontiguousarray(points.T), np.ascontiguousarray(ways.T)
    ends = starts + ways * np.minimum(np.asarray(reach), 60)
    low, high = np.minimum(starts, ends).min(axis=1), np.maximum(starts, ends).max(axis=1)
    blocks = np.array(place.blocks).reshape(-1, 6)
    are_near = (blocks[:, :3] <= high).all(axis=1) & (blocks[:, 3:] >= low).all(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = 1 / ways
        for block in blocks[are_near]:
            near = (block[:3, None] - starts) * inverse
            far = (block[3:, None] - starts) * inverse
            first = np.minimum(near, far).max(axis=0)
            last = np.maximum(near, far).min(axis=0)
            hit |= (last > np.maximum(first, 1e-3)) & (first < reach) & (first > -0.01)
    return hit
