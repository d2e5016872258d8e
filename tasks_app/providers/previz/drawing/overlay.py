"""What is written on the picture? Slate, timecode, captions and the PREVIZ mark.

The text is in the bars above and below a wide picture, so it covers nothing.
"""

from __future__ import annotations

import textwrap
from functools import lru_cache
from pathlib import Path
from typing import Any

import skia

from tasks_app.providers.previz.drawing.canvas import Array, surface_on

FONT = Path(__file__).parent / "fonts" / "DejaVuSansMono.ttf"
AMBER = skia.Color(236, 178, 72)
PALE = skia.Color(208, 208, 204)
DARK = skia.Color(0, 0, 0, 170)
FAINT = skia.Color(128, 128, 126)


@lru_cache(maxsize=32)
def font(size: float) -> skia.Font:
    """Return the shipped typeface at ``size`` pixels; the machine's fonts are never used."""
    typeface = skia.Typeface.MakeFromFile(str(FONT))
    if typeface is None:
        raise RuntimeError("the shipped font could not be read")
    return skia.Font(typeface, size)


def write(
    canvas: skia.Canvas, text: str, x: float, y: float, size: float, colour: int, align: float = 0
) -> None:
    """Write one line with its baseline at ``y``; ``align`` 0 left, 0.5 middle, 1 right."""
    face = font(size)
    x -= face.measureText(text) * align
    canvas.drawString(text, x, y, face, skia.Paint(AntiAlias=True, Color=colour))


def mark(pixels: Array) -> None:
    """Write PREVIZ into the lower right corner of a BGRA picture that has no slate."""
    height, width = pixels.shape[:2]
    size = max(9.0, min(width, height) * 0.026)
    target = surface_on(pixels)
    x, y = width - size, height - size
    # A dark edge first: the mark must be readable on snow as well as at night.
    write(target.getCanvas(), "PREVIZ", x + size * 0.07, y + size * 0.07, size, DARK, 1)
    write(target.getCanvas(), "PREVIZ", x, y, size, AMBER, 1)
    target.flushAndSubmit()


def timecode(frame: int, fps: int) -> str:
    """Return HH:MM:SS:FF, counted from one hour as editors do."""
    seconds, rest = divmod(frame, fps)
    minutes, seconds = divmod(seconds, 60)
    return f"01:{minutes:02d}:{seconds:02d}:{rest:02d}"


class Slate:
    """The fixed text of one shot, laid out for one frame size."""

    def __init__(self, scene: dict[str, Any], fps: int, width: int, height: int, bar: int) -> None:
        self._scene, self._fps = scene, fps
        self._width, self._height, self._bar = width, height, bar
        self._size = max(9.0, min(width / 80, height / 40))
        self._edge = width * 0.025
        self._top = max(bar * 0.5 + self._size * 0.35, self._size * 1.6)
        self._low = height - self._top + self._size * 0.7

    def draw_fixed(self, canvas: skia.Canvas) -> None:
        """Draw what does not change: once, into the bars."""
        right = self._width - self._edge
        name = f"{self._scene['scene']} / {self._scene['shot']}"
        write(canvas, name, self._edge, self._top, self._size, PALE)
        write(canvas, "PREVIZ", right, self._top, self._size, AMBER, 1)
        room = int((self._width * 0.66) / (self._size * 0.62))
        line = textwrap.shorten(str(self._scene["prompt"]), room, placeholder=" ...")
        write(canvas, line, self._edge, self._low, self._size * 0.86, FAINT)

    def draw_running(self, canvas: skia.Canvas, frame: int, caption: str) -> None:
        """Draw timecode and caption over a bar that was cleared below them."""
        text = timecode(frame, self._fps)
        left = self._width - self._edge - font(self._size).measureText(text) - 4
        if self._bar:
            top, foot = self._low - self._size * 1.1, self._low + self._size * 0.4
            box = skia.Rect(left, top, self._width, foot)
            canvas.drawRect(box, skia.Paint(Color=skia.ColorBLACK))
        write(canvas, text, self._width - self._edge, self._low, self._size, PALE, 1)
        if caption:
            self._draw_caption(canvas, caption)

    def _draw_caption(self, canvas: skia.Canvas, caption: str) -> None:
        size = self._size * 1.25
        lines = textwrap.wrap(caption, int(self._width * 0.8 / (size * 0.62)))[:2]
        y = self._height - self._bar - size * (0.8 + 1.3 * (len(lines) - 1))
        for line in lines:
            write(canvas, line, self._width / 2 + 2, y + 2, size, skia.ColorBLACK, 0.5)
            write(canvas, line, self._width / 2, y, size, skia.ColorWHITE, 0.5)
            y += size * 1.3
