"""Was this request made before? What an ``Idempotency-Key`` stands for."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from psycopg.types.json import Jsonb

from tasks_app.models import IdempotencyKey


class IdempotencyConflict(Exception):
    """The Idempotency-Key was used for another request before."""


def earlier(scope: str, key: str, fingerprint: str) -> IdempotencyKey | None:
    """Return the stored answer of the same request within IDEMPOTENCY_HOURS.

    Raises:
        IdempotencyConflict: the key was used for another request.
    """
    row = (
        IdempotencyKey.objects.select_related("task")
        .filter(scope=scope, key=key)
        .extra(
            where=["tasks_app_idempotencykey.created_at > now() - make_interval(hours => %s)"],
            params=[settings.IDEMPOTENCY_HOURS],
        )
        .first()
    )
    if row is not None and row.fingerprint != fingerprint:
        raise IdempotencyConflict
    return row


def is_known(scope: str, key: str | None) -> bool:
    """Say whether a request with this key was made before, equal or not."""
    return key is not None and IdempotencyKey.objects.filter(scope=scope, key=key).exists()


_INSERT = """
INSERT INTO tasks_app_idempotencykey
  (scope, key, fingerprint, task_id, file_id, response, created_at)
VALUES (%s, %s, %s, %s, %s, %s, now())
ON CONFLICT (scope, key) DO UPDATE SET
  fingerprint = EXCLUDED.fingerprint, task_id = EXCLUDED.task_id, file_id = EXCLUDED.file_id,
  response = EXCLUDED.response, created_at = now()
WHERE tasks_app_idempotencykey.created_at <= now() - make_interval(hours => %s)
"""


def insert(
    scope: str,
    key: str,
    fingerprint: str,
    response: dict[str, Any],
    *,
    task_id: uuid.UUID | None = None,
    file_id: str | None = None,
) -> bool:
    """Store the key; False when another request holds it (an expired one is replaced)."""
    named: list[Any] = [scope, key, fingerprint, task_id, file_id, Jsonb(response)]
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, [*named, settings.IDEMPOTENCY_HOURS])
        return bool(cursor.rowcount == 1)


def once(
    scope: str,
    key: str | None,
    fingerprint: str,
    make: Callable[[], tuple[str, dict[str, Any]]],
) -> tuple[dict[str, Any], bool]:
    """Make an asset once for a key; return the answer, and whether it is a repeated one.

    Args:
        make: writes rows, and returns the asset's id and the answer; undone where another request
            with the same key was first.

    Raises:
        IdempotencyConflict: the key was used for another request.
    """
    if key is None:
        return make()[1], False
    if row := earlier(scope, key, fingerprint):
        return row.response, True
    with transaction.atomic():
        file_id, response = make()
        is_first = insert(scope, key, fingerprint, response, file_id=file_id)
        transaction.set_rollback(not is_first)
    return (response, False) if is_first else once(scope, key, fingerprint, make)
