"""What does a ComfyUI's WebSocket tell of a job? How far it is, and what it looks like so far.

What was sent while a socket was away is lost: what is true is asked elsewhere.
"""

from __future__ import annotations

from typing import Any

#: Nodes of one graph that are told apart.
MOST_NODES = 10_000
#: Types of binary messages (ComfyUI's protocol.py).
PREVIEW, PREVIEW_WITH_METADATA = 1, 4


class Progress:
    """How far one job is: finished nodes of all, and the running one's steps."""

    def __init__(self, nodes: int) -> None:
        self.nodes = nodes
        self._cached: set[str] = set()
        self._states: dict[str, float] = {}
        self.fraction = 0.0

    def read(self, event: dict[str, Any]) -> bool:
        """Take an event in; say whether it is the job's last."""
        kind, data = event.get("type"), event.get("data")
        if not isinstance(data, dict):
            return False
        if kind == "execution_cached" and isinstance(data.get("nodes"), list):
            self._cached = {str(node) for node in data["nodes"]}
        elif kind == "progress_state" and isinstance(data.get("nodes"), dict):
            for node, row in list(data["nodes"].items())[:MOST_NODES]:
                if node in self._states or len(self._states) < MOST_NODES:
                    self._states[node] = _share(row)
        self._count()
        return kind in ("execution_success", "execution_error", "execution_interrupted")

    def _count(self) -> None:
        if self.nodes:
            running = sum(x for node, x in self._states.items() if node not in self._cached)
            share = (len(self._cached) + running) / self.nodes
            self.fraction = max(self.fraction, min(0.99, share))  # it only ever grows


def picture_in(frame: bytes) -> bytes:
    """Return the picture in a binary message, empty for one without.

    Four bytes of type, then (1) four of format and a picture, or (4) four of length, so much JSON
    and a picture. Servers send the latter only to clients that say they can read it.
    """
    kind, size = int.from_bytes(frame[:4]), int.from_bytes(frame[4:8])
    if kind == PREVIEW:
        return frame[8:]
    return frame[8 + size :] if kind == PREVIEW_WITH_METADATA else b""


def _share(row: Any) -> float:
    """Return how much of a node is done: 1 for a finished one, its steps for the running one."""
    if not isinstance(row, dict):
        return 0.0
    if row.get("state") == "finished":
        return 1.0
    value, most = row.get("value"), row.get("max")
    if not isinstance(value, int | float) or not isinstance(most, int | float) or most <= 0:
        return 0.0
    return min(1.0, max(0.0, value / most)) if row.get("state") == "running" else 0.0
