"""What are walls made of? Bricks, tiles, boards, plates and windows, as functions of place.

Each returns albedo factors and emission, (rows, columns, 3), for world coordinates ``a``
along (1, columns) and ``b`` down (rows, 1), in units of the set.
"""

from __future__ import annotations

import numpy as np

from tasks_app.providers.previz.camera.place import Texture, Triple
from tasks_app.providers.previz.drawing.canvas import Array, resized

Pair = tuple[Array, Array]


def _cells(values: Array, size: float) -> tuple[Array, Array]:
    scaled = values / size
    whole = np.floor(scaled)
    return whole.astype(np.int64), scaled - whole


def _hash(i: Array, j: Array, salt: int = 0) -> Array:
    """Return steady random numbers 0..1 for integer cells."""
    mixed = (i * 73856093) ^ (j * 19349663) ^ (salt * 83492791)
    mixed = (mixed ^ (mixed >> 13)) * 1274126177
    return ((mixed ^ (mixed >> 16)) & 0xFFFF).astype(np.float32) / 65535


def _plain(factor: Array) -> Pair:
    spread = np.repeat(factor[..., None].astype(np.float32), 3, axis=2)
    return spread, np.zeros_like(spread)


def _grime(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    grid = rng.random((6, 6), dtype=np.float32)
    fine = rng.random((28, 28), dtype=np.float32)
    large, small = resized(grid, shape[1], shape[0]), resized(fine, shape[1], shape[0])
    return 0.72 + 0.38 * large + 0.2 * (small - 0.5)


def bricks(a: Array, b: Array, rng: np.random.Generator) -> Pair:
    """Return a running bond with pale joints and stains."""
    row, v = _cells(b, 0.14)
    column, u = _cells(a + 0.21 * (row % 2), 0.42)
    joint = (u < 0.04) | (v < 0.10)
    tone = 0.75 + 0.5 * _hash(column, row)
    return _plain(np.where(joint, 0.55, tone) * _grime(tone.shape, rng))


def plaster(a: Array, b: Array, rng: np.random.Generator) -> Pair:
    """Return a painted wall that is not quite clean."""
    shape = (b.shape[0], a.shape[1])
    return _plain(0.25 + 0.78 * _grime(shape, rng))


def asphalt(a: Array, b: Array, rng: np.random.Generator) -> Pair:
    """Return a street: grain, patches and cracks."""
    shape = (b.shape[0], a.shape[1])
    grain = rng.random(shape, dtype=np.float32)
    return _plain(_grime(shape, rng) * (0.75 + 0.5 * grain))


def tiles(size: float, joint: float = 0.03) -> Texture:
    """Return square tiles with darker joints."""

    def texture(a: Array, b: Array, rng: np.random.Generator) -> Pair:
        row, v = _cells(b, size)
        column, u = _cells(a, size)
        edge = (u < joint) | (v < joint)
        return _plain(np.where(edge, 0.6, 0.92 + 0.12 * _hash(column, row)))

    return texture


def boards(width: float) -> Texture:
    """Return wooden boards with grain along ``a``."""

    def texture(a: Array, b: Array, rng: np.random.Generator) -> Pair:
        board, v = _cells(b, width)
        grain = np.sin(
            a * 2.1 + 9 * _hash(board, board * 0) * 6 + np.sin(a * 5.3 + board) * 0.6 + v * 9
        )
        tone = 0.78 + 0.28 * _hash(board, board * 0 + 3) + 0.05 * grain
        return _plain(np.where(v < 0.04, 0.45, tone))

    return texture


def panels(width: float, height: float) -> Texture:
    """Return riveted metal plates with seams and scratches."""

    def texture(a: Array, b: Array, rng: np.random.Generator) -> Pair:
        row, v = _cells(b, height)
        column, u = _cells(a, width)
        seam = (u < 0.025) | (v < 0.035)
        inset = (abs(u - 0.5) < 0.36) & (abs(v - 0.5) < 0.30) & (_hash(column, row, 5) > 0.55)
        tone = 0.8 + 0.32 * _hash(column, row) - 0.22 * inset
        return _plain(np.where(seam, 0.28, tone) * (0.6 + 0.4 * _grime(seam.shape, rng)))

    return texture


def facade(glow: Triple, share: float, *, base: Texture = bricks) -> Texture:
    """Return a house front: rows of windows, a ``share`` of them lit in ``glow``."""

    def texture(a: Array, b: Array, rng: np.random.Generator) -> Pair:
        factor, shine = base(a, b, rng)
        row, v = _cells(b + 0.5, 1.5)
        column, u = _cells(a, 1.25)
        hole = (abs(u - 0.5) < 0.26) & (abs(v - 0.52) < 0.30)
        frame = (abs(u - 0.5) < 0.30) & (abs(v - 0.52) < 0.34) & ~hole
        bar = hole & ((abs(u - 0.5) < 0.015) | (abs(v - 0.50) < 0.015))
        lit = hole & ~bar & (_hash(column, row, 9) < share)
        factor = np.where(hole[..., None], 0.10, factor)
        factor = np.where((frame | bar)[..., None], 0.4, factor)
        level = 0.35 + 0.65 * _hash(column, row, 2)
        curtain = 1 - 0.6 * ((abs(u - 0.5) > 0.15) & (_hash(column, row, 4) > 0.5))
        shade = level * curtain * (0.75 + 0.5 * (1 - v))
        return factor, shine + (lit * shade)[..., None] * np.array(glow, np.float32)

    return texture
