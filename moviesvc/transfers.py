"""Which larger files are being sent just now, and by when must each client have read its own?

The web server does not say when it has sent a file: its `client_disconnect` does not return after
such an answer (granian 2.8). But the connection is closed behind each, so a transfer lasts as long
as this process has a socket for it. The sockets are looked at once a second, and when all seats
seem to be taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time

from moviesvc import connections

LOOK_SECONDS = 1.0
#: A look costs some milliseconds, so that who is refused may not cause one each time.
SHORTEST_LOOK_SECONDS = 0.1


class Transfers:
    """The seats for larger files in one process; for threads and the loop alike."""

    def __init__(self, seats: int) -> None:
        self._seats = seats
        self._late_at: dict[connections.Ends, float] = {}
        self._looked_at = 0.0
        # Held for a whole look: a connection that is in the table had begun before it.
        self._lock = threading.Lock()

    def take_seat(self, ends: connections.Ends, seconds: float) -> bool:
        """Take a seat for a connection, for so long at most; answer whether one was free."""
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
        """Free the seats of those that have ended, and cut off who is late; never returns."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._late_at:
                await asyncio.to_thread(self._look)

    def _look(self) -> None:
        with self._lock, contextlib.suppress(OSError):  # no file can be opened just now
            self._forget_ended()
            now = time.monotonic()
            # Their seats are free when the server has noticed, and closed the sockets.
            connections.hang_up({ends for ends, late in self._late_at.items() if late <= now})

    def _forget_ended(self) -> None:
        alive = connections.open_ends()
        self._late_at = {ends: late for ends, late in self._late_at.items() if ends in alive}
        self._looked_at = time.monotonic()
