"""Which servers of providers have room? Their rows are made here, and paused for operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from django.db import connection

from tasks_app.state import remote_jobs
from webhooks_app.shown import printable


def know(provider: str, labels: Sequence[str]) -> None:
    """Make the rows of servers that have none yet."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO tasks_app_remoteserver (provider, label, is_paused, last_error)"
            " SELECT %s, label, false, '' FROM unnest(%s::text[]) label"
            " WHERE NOT EXISTS (SELECT 1 FROM tasks_app_remoteserver old"
            "   WHERE old.provider = %s AND old.label = label.label)"
            " ON CONFLICT DO NOTHING",
            [provider, list(labels), provider],
        )


def set_paused(provider: str, label: str, is_paused: bool) -> bool:
    """Pause a server that has a row, or resume it; False if it was so before."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE tasks_app_remoteserver SET is_paused = %s"
            " WHERE provider = %s AND label = %s AND is_paused <> %s",
            [is_paused, provider, label, is_paused],
        )
        return bool(cursor.rowcount)


class ServerRoom(Protocol):
    """A configured server: its label, and most jobs at once, None for no limit of ours."""

    @property
    def label(self) -> str: ...

    @property
    def limit(self) -> int | None: ...


def choose(provider: str, rooms: Sequence[ServerRoom]) -> str | None:
    """Return the label of the server with the most room, None when all are full.

    To be called in the transaction that inserts the job: the servers' rows stay locked until then,
    so that no two processes take the same place.
    """
    labels = [room.label for room in rooms]
    know(provider, labels)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT label FROM tasks_app_remoteserver WHERE provider = %s AND label = ANY(%s)"
            " ORDER BY label FOR UPDATE",
            [provider, labels],
        )
    free = {label: share for label, _, share in _room(provider, rooms)}
    return max(free, key=lambda label: free[label]) if free else None


def free_places(provider: str, rooms: Sequence[ServerRoom]) -> int:
    """Return how many more jobs all these servers take now."""
    return sum(places for _, places, _ in _room(provider, rooms))


def _room(provider: str, rooms: Sequence[ServerRoom]) -> list[tuple[str, int, float]]:
    """Return label, free places and free share (0..1) of each server that has room."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT label, learned_limit, is_paused OR coalesce(busy_until > now(), false),"
            " (SELECT count(*) FROM tasks_app_remotejob job WHERE job.provider = server.provider"
            "  AND job.server = label AND state IN ('submitting', 'running', 'stopping'))"
            " FROM tasks_app_remoteserver server WHERE provider = %s AND label = ANY(%s)",
            [provider, [room.label for room in rooms]],
        )
        known = {row[0]: row[1:] for row in cursor.fetchall()}
    found = []
    for room in rooms:
        learned, is_shut, used = known.get(room.label, (None, False, 0))
        limit = min(x for x in (learned, room.limit, remote_jobs.MOST_LEARNED) if x is not None)
        if not is_shut and used < limit:
            found.append((room.label, limit - used, 1 - used / limit))
    return found


def is_busy(provider: str, label: str, seconds: float, *, is_full: bool, note: str = "") -> None:
    """Send nothing to a server for so many seconds; halve its limit if it said that it is full."""
    remote_jobs.execute(
        "UPDATE tasks_app_remoteserver SET busy_until = now() + make_interval(secs => %s),"
        " last_error = %s, learned_limit = CASE WHEN %s THEN greatest(1, ("
        "   SELECT count(*) / 2 FROM tasks_app_remotejob job WHERE job.provider = %s"
        "   AND job.server = %s AND state IN ('submitting', 'running', 'stopping')))"
        " ELSE learned_limit END WHERE provider = %s AND label = %s",
        [
            seconds,
            printable(note, remote_jobs.NOTE_LIMIT),
            is_full,
            provider,
            label,
            provider,
            label,
        ],
    )
