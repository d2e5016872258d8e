"""Which open connection may carry the next request to an origin, of one client identity?"""

from __future__ import annotations

import asyncio
import time

from webhooks_app.conf import webhook_settings
from webhooks_app.egress import Origin
from webhooks_app.transport.wire import Connection

#: Idle connections are closed after this time, before most proxies would close them.
IDLE_SECONDS = 15.0
#: For this time no connection is kept to an origin that sent bytes without a request.
SHUN_SECONDS = 60.0
_SWEEP_SECONDS = 5.0


#: Whose connections: an origin's, and the name of the client's identity (empty: it has none).
Place = tuple[Origin, str]


class Pool:
    """Idle connections by place, last used first; bound to one event loop."""

    def __init__(self) -> None:
        self._idle: dict[Place, list[Connection]] = {}
        self._shunned: dict[Place, float] = {}  # until when
        self._sweeper: asyncio.TimerHandle | None = None

    def take(self, place: Place) -> tuple[Connection | None, bool]:
        """Return (idle connection or None, whether one was closed because of unrequested bytes)."""
        kept = self._idle.get(place)
        is_spoiled = False
        now = time.monotonic()
        while kept:
            connection = kept.pop()
            if not _is_over(connection, now) and connection.is_quiet():
                return connection, is_spoiled
            if connection.is_spoiled:
                is_spoiled = True
                self._shunned[place] = now + SHUN_SECONDS
            connection.close()
        return None, is_spoiled

    def put(self, place: Place, connection: Connection) -> None:
        """Keep a connection whose answer ended cleanly.

        Not for an origin that recently sent unrequested bytes: the next ones might arrive during a
        request and be mistaken for its answer.
        """
        if self._shunned.get(place, 0.0) > time.monotonic():
            connection.close()
            return
        self._idle.setdefault(place, []).append(connection)
        if self._sweeper is None:
            self._sweep_later()

    async def close(self) -> None:
        """Close every idle connection."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for kept in self._idle.values():
            for connection in kept:
                connection.close()
        self._idle.clear()
        await asyncio.sleep(0)  # the loop frees closed sockets in its next round

    def _sweep_later(self) -> None:
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        now = time.monotonic()
        for place, kept in list(self._idle.items()):
            for connection in [each for each in kept if _is_over(each, now)]:
                kept.remove(connection)
                connection.close()
            if not kept:
                del self._idle[place]
        self._shunned = {place: until for place, until in self._shunned.items() if until > now}
        self._sweeper = None
        if self._idle or self._shunned:
            self._sweep_later()


def _is_over(connection: Connection, now: float) -> bool:
    return (
        not connection.is_open
        or now - connection.idle_since > IDLE_SECONDS
        or now - connection.opened_at >= webhook_settings.CONNECTION_MAX_AGE_SECONDS
    )
