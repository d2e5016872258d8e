"""What may an operator do to a destination, and how is it put on record?

The one place where a destination is paused, disabled and enabled; admin, API and commands call
it. Each function writes an `OperatorAction` in the same transaction.
"""

from __future__ import annotations

from datetime import timedelta

from django.db import connection, transaction
from django.db.models.functions import Now

from webhooks_app import operator_record, outbox
from webhooks_app.models import WebhookDestination, WebhookMessage

MAX_PAUSE_SECONDS = 86_400
BURY_BATCH = 1_000

_BURY = """
UPDATE webhooks_app_webhookmessage SET status = 'dead', next_attempt_at = NULL,
  finished_at = now(), last_error_code = 'destination_disabled'
WHERE id IN (
  SELECT message.id FROM webhooks_app_webhookdestination destination
  JOIN webhooks_app_webhookmessage message ON message.destination_id = destination.id
  WHERE destination.disabled_at IS NOT NULL AND message.status = 'pending'
  LIMIT %s FOR UPDATE OF message SKIP LOCKED)
"""


@transaction.atomic
def pause(destination: WebhookDestination, seconds: int, *, actor: str, reason: str) -> None:
    """Hold the destination's messages back; they lose no retry by it.

    Raises:
        ValueError: for a time outside 1 s to 24 h.
    """
    if not 1 <= seconds <= MAX_PAUSE_SECONDS:
        raise ValueError(f"a pause is 1 to {MAX_PAUSE_SECONDS} seconds")
    WebhookDestination.objects.filter(pk=destination.pk).update(
        held_until=Now() + timedelta(seconds=seconds), hold_reason="paused"
    )
    operator_record.note(actor, "destination.pause", str(destination), reason)


@transaction.atomic
def resume(destination: WebhookDestination, *, actor: str, reason: str) -> None:
    """End a pause, or let an open breaker try again now."""
    WebhookDestination.objects.filter(pk=destination.pk).update(held_until=None, hold_reason="")
    operator_record.note(actor, "destination.resume", str(destination), reason)
    outbox.wake()


@transaction.atomic
def disable(destination: WebhookDestination, *, actor: str, reason: str) -> int:
    """Send nothing there until somebody enables it; return how many waiting messages are dead now.

    Their lease tokens stay: an attempt under way still closes its own delivery row.
    """
    WebhookDestination.objects.filter(pk=destination.pk).update(
        disabled_at=Now(), disabled_reason=reason[:300]
    )
    waiting = WebhookMessage.objects.filter(destination=destination, status="pending")
    count = waiting.update(
        status="dead",
        last_error_code="destination_disabled",
        next_attempt_at=None,
        finished_at=Now(),
    )
    operator_record.note(actor, "destination.disable", str(destination), reason)
    return count


@transaction.atomic
def enable(destination: WebhookDestination, *, actor: str, reason: str) -> None:
    """Let messages go there again; those that died meanwhile wait for a replay."""
    WebhookDestination.objects.filter(pk=destination.pk).update(
        disabled_at=None, disabled_reason="", held_until=None, hold_reason=""
    )
    operator_record.note(actor, "destination.enable", str(destination), reason)
    outbox.wake()


@transaction.atomic
def limit_in_flight(
    destination: WebhookDestination, limit: int | None, *, actor: str, reason: str
) -> None:
    """Set how many requests one engine may have open to it; None for the adaptive limit."""
    if limit is not None and not 1 <= limit <= 1000:
        raise ValueError("the limit is 1 to 1000, or empty")
    WebhookDestination.objects.filter(pk=destination.pk).update(max_in_flight=limit)
    target = f"{destination}: {limit or 'adaptive'}"
    operator_record.note(actor, "destination.limit", target, reason)


def bury_disabled() -> int:
    """Make dead letters of what is pending for disabled destinations; return how many.

    `disable` does that at once; this is for what was published while it ran. Rows locked at
    this moment are left for the next call.
    """
    buried = 0
    while True:
        with connection.cursor() as cursor:
            cursor.execute(_BURY, [BURY_BATCH])
            ended = int(cursor.rowcount)
        buried += ended
        if ended < BURY_BATCH:
            return buried
