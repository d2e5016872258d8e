"""How is a finished frame graded? Tone, tint and grain, on the planes of YUV 4:2:0."""

from __future__ import annotations

from typing import Any

import numpy as np

from tasks_app.providers.previz.drawing.canvas import Array, premultiplied, smoothstep

GRAIN_TILES = 6
#: Chroma of the monochrome styles (128 is grey): slightly cold, or slightly like paper.
TINTS = {"noir": (129, 127), "storyboard": (124, 131), "pencil": (124, 131)}


class Grade:
    """The look of one style, for one frame size; ``rows`` is where the picture lies."""

    def __init__(self, style: str, width: int, rows: slice, rng: np.random.Generator) -> None:
        self._rows = rows
        self._tint = TINTS.get(style)
        self._curve = _curve(style)
        height = rows.stop - rows.start
        strength = {"noir": 4.2, "storyboard": 2.0}.get(style, 2.6)
        grain = rng.normal(0, strength, (height + 64, width + 64))
        self._grain = np.clip(np.rint(grain), -12, 12).astype(np.int8).view(np.uint8)
        self._starts = rng.integers(0, 64, (GRAIN_TILES, 2))

    def apply(self, frame: Any, number: int) -> None:
        """Grade a yuv420p frame in place."""
        luma = plane(frame, 0)[self._rows]
        if self._curve is not None:
            luma[:] = self._curve[luma]
        y, x = self._starts[number % GRAIN_TILES]
        height, width = luma.shape
        # Luma is within 16..235 and grain within 12 of it, so the addition cannot overflow.
        luma += self._grain[y : y + height, x : x + width]
        if self._tint:
            for index, value in zip((1, 2), self._tint, strict=True):
                plane(frame, index)[:] = value


def plane(frame: Any, index: int) -> Array:
    """Return a writable view (rows, columns) of one plane of a frame."""
    part = frame.planes[index]
    rows = np.frombuffer(part, np.uint8).reshape(part.height, part.line_size)
    return rows[:, : part.width]


def _curve(style: str) -> Array | None:
    if style != "noir":
        return None
    x = np.clip((np.arange(256) - 16) / 219, 0, 1)
    # Contrast around a low middle: black shadows, bright lamps.
    y = np.where(x < 0.5, 0.62 * x + 0.76 * x * x, x) * 0.55 + smoothstep(0.03, 0.92, x) * 0.45
    return np.clip(np.rint(16 + y * 219), 16, 235).astype(np.uint8)


def vignette(width: int, height: int) -> Array:
    """Return a black plate with denser corners, like the vignette of a lens."""
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    far = np.sqrt(x * x * 0.9 + y * y * 0.75)
    alpha = smoothstep(0.45, 1.45, far) * 0.62
    return premultiplied(np.zeros((height, width, 3), np.float32), alpha.astype(np.float32))
