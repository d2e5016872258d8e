"""What may an operator do to one origin? Pause, resume, disable, enable, limit; each on record.

A pause holds messages back without costing them a step; a disabled origin gets nothing, and
what was owed to it becomes dead letters, which can be replayed once it is enabled.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models.functions import Now

from webhooks_app import operator_record, outbox
from webhooks_app.models import WebhookDestination

PAUSED = "paused by an operator"
#: A pause without an end; what waits longer than MESSAGE_MAX_WAIT is given up on anyway.
OPEN_END = timedelta(days=365)
BURY_BATCH = 1_000

# The token stays: an attempt under way closes its own row and then finds its message ended.
_BURY = """
UPDATE webhooks_app_webhookmessage SET status = 'dead', next_attempt_at = NULL,
  finished_at = now(), last_error_code = 'destination_disabled'
WHERE id IN (
  SELECT message.id FROM webhooks_app_webhookdestination destination
  JOIN webhooks_app_webhookmessage message ON message.destination_id = destination.id
  WHERE destination.disabled_at IS NOT NULL AND message.status = 'pending'
  LIMIT %s FOR UPDATE OF message SKIP LOCKED)
"""


def pause(
    destination: WebhookDestination, *, actor: str, until: datetime | None = None, reason: str = ""
) -> WebhookDestination:
    """Hold everything for this origin back, until a time or until `resume`."""
    end = until or Now() + OPEN_END
    rows = WebhookDestination.objects.filter(pk=destination.pk)
    with transaction.atomic():
        rows.update(held_until=end, hold_reason=PAUSED)
        operator_record.note(actor, "destination.pause", _name(destination), reason)
    return rows.get()


def resume(destination: WebhookDestination, *, actor: str, reason: str = "") -> WebhookDestination:
    """End a pause, or what an open breaker or a Retry-After still holds back."""
    rows = WebhookDestination.objects.filter(pk=destination.pk)
    with transaction.atomic():
        rows.update(held_until=None, hold_reason="")
        operator_record.note(actor, "destination.resume", _name(destination), reason)
        outbox.wake()
    return rows.get()


def disable(destination: WebhookDestination, *, actor: str, reason: str = "") -> WebhookDestination:
    """Send nothing more to this origin; what is pending for it becomes dead letters.

    Returns when they all are, some milliseconds for each thousand.
    """
    rows = WebhookDestination.objects.filter(pk=destination.pk)
    with transaction.atomic():
        rows.filter(disabled_at=None).update(disabled_at=Now(), disabled_reason=reason[:300])
        operator_record.note(actor, "destination.disable", _name(destination), reason)
    bury_disabled()
    return rows.get()


def enable(destination: WebhookDestination, *, actor: str, reason: str = "") -> WebhookDestination:
    """Let messages go to this origin again; the dead ones wait for a replay."""
    rows = WebhookDestination.objects.filter(pk=destination.pk)
    with transaction.atomic():
        rows.update(disabled_at=None, disabled_reason="")
        operator_record.note(actor, "destination.enable", _name(destination), reason)
        outbox.wake()
    return rows.get()


def set_max_in_flight(
    destination: WebhookDestination, limit: int | None, *, actor: str, reason: str = ""
) -> WebhookDestination:
    """Bound the requests in flight to this origin, in each engine; None for the default.

    Raises:
        ValueError: a limit below 1 (that is what a pause is for).
    """
    if limit is not None and limit < 1:
        raise ValueError("at least 1 request in flight; pause the destination to stop it")
    rows = WebhookDestination.objects.filter(pk=destination.pk)
    with transaction.atomic():
        rows.update(max_in_flight=limit)
        target = f"{_name(destination)} to {limit or 'the default'}"
        operator_record.note(actor, "destination.limit", target, reason)
    return rows.get()


def bury_disabled() -> int:
    """Make dead letters of what is pending for disabled origins; return how many.

    Also right for what was published while an origin was being disabled, so engines call it
    now and then. Rows locked by somebody else at this moment are left for the next call.
    """
    buried = 0
    while True:
        with connection.cursor() as cursor:
            cursor.execute(_BURY, [BURY_BATCH])
            ended = int(cursor.rowcount)
        buried += ended
        if ended < BURY_BATCH:
            return buried


def _name(destination: WebhookDestination) -> str:
    return f"{destination.origin} of {destination.scope}"
