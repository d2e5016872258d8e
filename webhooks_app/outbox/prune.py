"""How is history deleted? In small batches, without waiting for locks.

A batch is one short transaction over messages that finished long ago: their attempts, the
messages, and events without other messages are deleted together, so that an event is never seen
without its messages. Locked rows are skipped and left to the next run; pending messages are never
deleted, however old.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction

from webhooks_app.conf import webhook_settings
from webhooks_app.models import ReplayJob, ReplayState, SigningSecret, WebhookMessage

BATCH = 500
#: After each batch, pause for as long as the batch took, but at most this long, so that the engine
#: gets its turn at the database.
PAUSE_SECONDS = 0.05

_PICK = """
SELECT id, event_id, created_at FROM webhooks_app_webhookmessage
WHERE created_at >= %(after)s AND created_at < %(before)s
  AND status <> 'pending' AND finished_at < %(before)s
  AND (lease_expires_at IS NULL OR lease_expires_at < now())
ORDER BY created_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
"""

_DELETE_DELIVERIES = "DELETE FROM webhooks_app_webhookdelivery WHERE message_id = ANY(%s)"
_UNLINK = (
    "UPDATE webhooks_app_webhookmessage SET replayed_as_id = NULL WHERE replayed_as_id = ANY(%s)"
)
_DELETE_MESSAGES = "DELETE FROM webhooks_app_webhookmessage WHERE id = ANY(%s)"

_DELETE_EVENTS = """
DELETE FROM webhooks_app_webhookevent WHERE id IN (
  SELECT event.id FROM webhooks_app_webhookevent event
  WHERE event.id = ANY(%s) AND NOT EXISTS (
    SELECT 1 FROM webhooks_app_webhookmessage message WHERE message.event_id = event.id)
  FOR UPDATE SKIP LOCKED)
"""

# Events without messages: of tasks that have no callback_url.
_PICK_EVENTS = """
SELECT event.id, event.created_at FROM webhooks_app_webhookevent event
WHERE event.created_at >= %(after)s AND event.created_at < %(before)s AND NOT EXISTS (
  SELECT 1 FROM webhooks_app_webhookmessage message WHERE message.event_id = event.id)
ORDER BY event.created_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
"""


@dataclass(slots=True)
class Pruned:
    """How many rows of each kind a run removed."""

    messages: int = 0
    deliveries: int = 0
    events: int = 0
    replays: int = 0
    secrets: int = 0
    is_complete: bool = True


def prune(
    days: float | None = None,
    *,
    on_batch: Callable[[Pruned], None] = lambda seen: None,
    budget_seconds: float = float("inf"),
) -> Pruned:
    """Remove what finished more than ``days`` ago.

    Args:
        days: the setting RETENTION_DAYS when not given.
        on_batch: called after every batch with the counts so far.
        budget_seconds: stop after about this time; the next run continues.
    """
    before = _cutoff(days)
    deadline = time.monotonic() + budget_seconds
    pruned = Pruned()
    for batch in (_prune_messages, _prune_events):
        after: datetime | str | None = "-infinity"
        while after is not None and pruned.is_complete:
            started = time.monotonic()
            with transaction.atomic():
                after = batch(after, before, pruned)
            on_batch(pruned)
            pruned.is_complete = after is None or time.monotonic() < deadline
            time.sleep(min(PAUSE_SECONDS, time.monotonic() - started))
    _prune_small_tables(before, pruned)
    return pruned


def count_prunable(days: float | None = None) -> int:
    """Return how many messages a run would remove now; for progress bars and dry runs."""
    before = _cutoff(days)
    finished = WebhookMessage.objects.exclude(status="pending")
    return finished.filter(created_at__lt=before, finished_at__lt=before).count()


def _prune_messages(after: datetime | str, before: datetime, pruned: Pruned) -> datetime | None:
    rows, next_place = _pick(_PICK, after, before)
    ids = [row[0] for row in rows]
    pruned.deliveries += _run(_DELETE_DELIVERIES, ids)
    _run(_UNLINK, ids)  # originals that outlive their copies
    pruned.messages += _run(_DELETE_MESSAGES, ids)
    pruned.events += _run(_DELETE_EVENTS, [row[1] for row in rows])
    return next_place


def _prune_events(after: datetime | str, before: datetime, pruned: Pruned) -> datetime | None:
    rows, next_place = _pick(_PICK_EVENTS, after, before)
    pruned.events += _run(_DELETE_EVENTS, [row[0] for row in rows])
    return next_place


def _prune_small_tables(before: datetime, pruned: Pruned) -> None:
    """Remove ended replays and secrets that no longer sign; operator actions are kept for ever."""
    ended = ReplayJob.objects.exclude(state=ReplayState.RUNNING)
    # Keep jobs that messages still refer to: their trigger and progress are read from it.
    ended = ended.filter(finished_at__lt=before, messages=None)
    pruned.replays += ended.delete()[0]
    pruned.secrets += SigningSecret.objects.filter(expires_at__lt=before).delete()[0]


def _pick(
    statement: str, after: datetime | str, before: datetime
) -> tuple[list[tuple[Any, ...]], datetime | None]:
    """Return a batch of rows, and where the next one starts: None after the last."""
    with connection.cursor() as cursor:
        cursor.execute(statement, {"after": after, "before": before, "limit": BATCH})
        rows = cursor.fetchall()
    return rows, rows[-1][-1] if len(rows) == BATCH else None


def _run(statement: str, ids: list[int]) -> int:
    with connection.cursor() as cursor:
        cursor.execute(statement, [ids])
        return int(cursor.rowcount)


def _cutoff(days: float | None) -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT now()")
        moment: datetime = cursor.fetchone()[0]
    return moment - timedelta(days=webhook_settings.RETENTION_DAYS if days is None else days)
