"""Where is the camera at each moment? Moves in units of the set's depth."""

from __future__ import annotations

from typing import NamedTuple


class Position(NamedTuple):
    """Camera offset from rest: x right, y up, z forward, in depth units; tilt in heights."""

    x: float = 0.0
    y: float = 0.0
    z: float = 0.0
    pan: float = 0.0
    tilt: float = 0.0


class View(NamedTuple):
    """Where a plane at some depth lies in the picture: multiply, then add (pixels)."""

    scale: float
    x: float
    y: float


#: Start and end of each move.
MOVES = {
    "static": (Position(), Position()),
    "push_in": (Position(), Position(z=1.1)),
    "pull_out": (Position(z=1.1), Position()),
    "pan_left": (Position(x=0.28, pan=0.022), Position(x=-0.28, pan=-0.022)),
    "pan_right": (Position(x=-0.28, pan=-0.022), Position(x=0.28, pan=0.022)),
    "crane_up": (Position(y=-0.12, tilt=0.03), Position(y=0.22, tilt=-0.03)),
}
NEAREST = 2.2  # nothing may be closer to the camera at rest than this


class Camera:
    """One move over the length of the shot, eased at both ends.

    Args:
        width, height: the picture, in pixels.
        horizon: height of the vanishing point, 0 (top) to 1.
        reach: multiplies the move; sets with little depth ask for less.
    """

    def __init__(
        self, move: str, width: int, height: int, *, horizon: float = 0.5, reach: float = 1.0
    ) -> None:
        self._start, self._end = MOVES[move]
        self.width, self.height = width, height
        self.vanishing = (width * 0.5, height * horizon)
        self._reach = reach

    def position(self, moment: float) -> Position:
        """Return where the camera is at ``moment``, 0..1 of the shot."""
        t = min(1.0, max(0.0, moment))
        # Mostly linear with soft ends, like a camera on rails.
        eased = 0.5 * t + 0.5 * t * t * (3 - 2 * t)
        pairs = zip(self._start, self._end, strict=True)
        return Position(*((a + (b - a) * eased) * self._reach for a, b in pairs))

    def view(self, depth: float, moment: float) -> View:
        """Return the transform of a plane that was painted for the camera at rest."""
        at = self.position(moment)
        scale = depth / (depth - at.z)
        vx, vy = self.vanishing
        x = vx - vx * scale - at.x * self.width * scale / depth - at.pan * self.width
        y = vy - vy * scale + at.y * self.width * scale / depth - at.tilt * self.height
        return View(scale, x, y)

    def margins(self, depth: float) -> tuple[int, int]:
        """Return how far a plane must be painted beyond the picture, in pixels per side."""
        views = [self.view(depth, moment) for moment in (0.0, 1.0)]
        # A push in magnifies: the edge leaves the picture, so nothing is needed beyond it.
        mx = max(max(v.x, self.width - v.x - v.scale * self.width, 0) / v.scale for v in views)
        my = max(max(v.y, self.height - v.y - v.scale * self.height, 0) / v.scale for v in views)
        return int(mx) + 3, int(my) + 3
