"""Who may render now, and who is called when a seat is free?

A machine renders at most ``RENDER_SLOTS`` tasks at once, over all threads of the process. Work
that is done elsewhere takes no seat.
"""

from __future__ import annotations

import threading

from django.conf import settings

from tasks_app import tickets
from tasks_app.providers.base import Provider
from tasks_app.state import lifecycle
from tasks_app.work.outages import without_database

#: How long a ticket waits for a seat. While renders are short the next begins as one ends; and
#: where thousands of tickets wait, those that find no seat cost next to nothing.
SEAT_SECONDS = 0.05

slots = threading.BoundedSemaphore(settings.RENDER_SLOTS)
#: Set when a ticket found no free seat. The next seat to be freed sends new tickets.
_turned_away = threading.Event()


class Seat:
    """A place for one local render, free again when the render is done; `free` may be repeated."""

    def __init__(self, provider: Provider) -> None:
        self._is_held = provider.is_local  # work elsewhere takes none

    def free(self) -> None:
        """Let the next render begin; send tickets anew where some found no seat meanwhile."""
        if self._is_held:
            self._is_held = False
            slots.release()
            if _turned_away.is_set():
                _turned_away.clear()
                send_tickets(types_due())


def take_seat(provider: Provider) -> Seat | None:
    """Return a seat for one task of the provider, or None where none became free in time."""
    if provider.is_local and not slots.acquire(timeout=SEAT_SECONDS):
        # Set before the last look: a seat that is freed after that look has seen it.
        _turned_away.set()
        if not slots.acquire(blocking=False):
            return None
    return Seat(provider)


def types_due() -> list[str]:
    """Return the task types that have something due; none while the database cannot say."""
    with without_database("no tickets sent"):
        return lifecycle.types_due()
    return []


def send_tickets(task_types: list[str]) -> None:
    """Send a ticket for each type, since an earlier one may have found no seat."""
    for task_type in task_types:
        tickets.send_ticket(task_type, "")
