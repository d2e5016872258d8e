"""Does each web process still answer? It says so every second, and is replaced when it does not.

Several processes share one port, so a request from outside cannot ask a certain one. Instead each
touches its file in the state directory: from the event loop that every request passes through,
and only as long as requests get done. A process that is stopped, or whose GIL one thread holds,
touches nothing; nor does one whose threads are all stuck.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from django.db import Error, connections

from webhooks_app.database import why_unusable

BEAT_SECONDS = 1.0
#: After so many seconds of the supervisor's own life without a sign a process is replaced. The
#: seconds of a machine that was suspended are nobody's fault and do not count.
SILENT_SECONDS = 12
#: How long all threads of a process may be busy with nothing getting done.
STUCK_SECONDS = 30.0
PROBE_SECONDS = 2


class Work(Protocol):
    """What is asked of a web process: how many requests it has done, and whether more can begin."""

    finished: int

    def has_room(self) -> bool: ...


async def beat(work: Work, touch: Callable[[], None]) -> None:
    """Give a sign of life every second while requests get done; never returns."""
    loop = asyncio.get_running_loop()
    finished, moved_at = -1, 0.0
    while True:
        if work.has_room() or work.finished != finished:
            finished, moved_at = work.finished, loop.time()
        is_moving = loop.time() - moved_at < STUCK_SECONDS
        # Threads that wait for a database that is away are no better off in a new process.
        if is_moving or not await asyncio.to_thread(_database_answers):
            touch()
        await asyncio.sleep(BEAT_SECONDS)


def _database_answers() -> bool:
    """Whether a new connection can be made; those of the threads are theirs."""
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
    """What the supervisor has seen: since how many looks, one a second, a process says nothing."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, int]] = {}

    def look(self, signs: Mapping[int, int]) -> list[int]:
        """Take the latest sign of each process by its pid; return the pids that say no more."""
        before, self._seen = self._seen, {}
        for pid, sign in signs.items():
            last, looks = before.get(pid, (-1, 0))
            self._seen[pid] = (sign, looks + 1 if sign == last else 0)
        silent = [pid for pid, (_, looks) in self._seen.items() if looks >= SILENT_SECONDS]
        for pid in silent:  # killed now; looked at anew if even that does not end it
            del self._seen[pid]
        return silent
