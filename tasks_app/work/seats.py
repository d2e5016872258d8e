"""Who may render now, and who is told when a seat is free?

A process renders at most ``RENDER_SLOTS`` tasks at once, over all its threads. Work of remote
providers needs no seat.
"""

from __future__ import annotations

import threading

from django.conf import settings

from tasks_app import tickets
from tasks_app.providers.base import Provider
from tasks_app.state import lifecycle
from tasks_app.work.outages import without_database

#: How long a worker waits for a seat. Long enough that a short render can follow the one before;
#: short enough that thousands of tickets without a seat cost next to nothing.
SEAT_SECONDS = 0.05

slots = threading.BoundedSemaphore(settings.RENDER_SLOTS)
#: Set when a ticket found no free seat. The next seat to be freed sends new tickets.
_turned_away = threading.Event()


class Seat:
    """The right to one local render; `free` may be called more than once."""

    def __init__(self, provider: Provider) -> None:
        self._is_held = provider.is_local  # remote work needs none

    def free(self) -> None:
        """Free the seat; send new tickets if a worker found no seat meanwhile."""
        if self._is_held:
            self._is_held = False
            slots.release()
            if _turned_away.is_set():
                _turned_away.clear()
                send_tickets(types_due())


def take_seat(provider: Provider) -> Seat | None:
    """Return a seat for one task of the provider, or None if none became free in time."""
    if provider.is_local and not slots.acquire(timeout=SEAT_SECONDS):
        # Set before the last try: a seat that is freed after that try then sends tickets.
        _turned_away.set()
        if not slots.acquire(blocking=False):
            return None
    return Seat(provider)


def types_due() -> list[str]:
    """Return the task types that have something due; none while the database is unusable."""
    with without_database("no tickets sent"):
        return lifecycle.types_due()
    return []


def send_tickets(task_types: list[str]) -> None:
    """Send a ticket for each type with due tasks, as earlier ones may have found no seat."""
    for task_type in task_types:
        tickets.send_ticket(task_type, "")
