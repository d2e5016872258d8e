"""Which large files are being sent now, and by when must each client have read its own?

The web server does not report when a file is sent: its `client_disconnect` does not return after
such an answer (granian 2.8). But each such connection is closed afterwards, so a transfer lasts as
long as this process has its socket. Sockets are checked once a second, and when no seat is free.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time

from moviesvc.clients import connections

LOOK_SECONDS = 1.0
#: A check takes some milliseconds, so refused requests must not cause one each.
SHORTEST_LOOK_SECONDS = 0.1


class Transfers:
    """The seats for large files in one process; may be used by threads and the loop."""

    def __init__(self, seats: int) -> None:
        self._seats = seats
        self._late_at: dict[connections.Ends, float] = {}
        self._looked_at = 0.0
        # Held during a check: a connection in the table then began before it.
        self._lock = threading.Lock()

    def take_seat(self, ends: connections.Ends, seconds: float) -> bool:
        """Take a seat for a connection, for at most ``seconds``; say whether one was free."""
        with self._lock:
            now = time.monotonic()
            if len(self._late_at) >= self._seats and now > self._looked_at + SHORTEST_LOOK_SECONDS:
                with contextlib.suppress(OSError):
                    self._forget_ended()
            if len(self._late_at) >= self._seats:
                return False
            self._late_at[ends] = now + seconds
            return True

    async def watch(self) -> None:
        """Free the seats of ended transfers and disconnect late clients; never returns."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._late_at:
                await asyncio.to_thread(self._look)

    def _look(self) -> None:
        with self._lock, contextlib.suppress(OSError):  # no file can be opened at the moment
            self._forget_ended()
            now = time.monotonic()
            # Their seats become free at the next check, when the server has closed the sockets.
            connections.hang_up({ends for ends, late in self._late_at.items() if late <= now})

    def _forget_ended(self) -> None:
        alive = connections.open_ends()
        self._late_at = {ends: late for ends, late in self._late_at.items() if ends in alive}
        self._looked_at = time.monotonic()
