"""Which rows do the providers' servers have? They are made here, and paused for operators."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import connection


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
