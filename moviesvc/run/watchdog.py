"""Does each web process still work? It reports every second, and is replaced when it does not.

The web processes share one port, so a request from outside cannot reach a certain one. Instead each
touches its file in the state directory, from the event loop that every request passes through, and
only while requests get done. A process that is stopped, whose GIL is held by one thread, or whose
threads are all stuck, touches nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from django.db import Error, connections

from webhooks_app.database import why_unusable

BEAT_SECONDS = 1.0
#: A process without a sign for this many seconds is replaced. Counted in looks of the supervisor,
#: so that the time of a suspended machine does not count.
SILENT_SECONDS = 12
#: How long all threads of a process may be busy without finishing a request.
STUCK_SECONDS = 30.0
PROBE_SECONDS = 2


class Work(Protocol):
    """A web process's work: how many requests it has finished, and whether a thread is free."""

    finished: int

    def has_room(self) -> bool: ...


async def beat(work: Work, touch: Callable[[], None]) -> None:
    """Report every second while requests get done; never returns."""
    loop = asyncio.get_running_loop()
    finished, moved_at = -1, 0.0
    while True:
        if work.has_room() or work.finished != finished:
            finished, moved_at = work.finished, loop.time()
        is_moving = loop.time() - moved_at < STUCK_SECONDS
        # Threads that wait for an unreachable database would wait in a new process, too.
        if is_moving or not await asyncio.to_thread(_database_answers):
            touch()
        await asyncio.sleep(BEAT_SECONDS)


def _database_answers() -> bool:
    """Whether a new connection can be made (the threads' own are in use)."""
    probe = connections["default"].copy()
    options = {**probe.settings_dict.get("OPTIONS", {}), "connect_timeout": PROBE_SECONDS}
    probe.settings_dict = {**probe.settings_dict, "OPTIONS": options}
    try:
        probe.ensure_connection()
    except Error as error:
        return why_unusable(error) is None
    finally:
        probe.close()
    return True


class Silence:
    """For how many looks, one per second, each process has been silent."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, int]] = {}

    def look(self, signs: Mapping[int, int]) -> list[int]:
        """Compare with the last look; return the pids that have been silent for too long."""
        before, self._seen = self._seen, {}
        for pid, sign in signs.items():
            last, looks = before.get(pid, (-1, 0))
            self._seen[pid] = (sign, looks + 1 if sign == last else 0)
        silent = [pid for pid, (_, looks) in self._seen.items() if looks >= SILENT_SECONDS]
        for pid in silent:  # will be killed; watched anew if it survives
            del self._seen[pid]
        return silent
