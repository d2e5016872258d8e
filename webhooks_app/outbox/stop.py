"""Which messages end without having been delivered?

Superseded by a newer event, cancelled, acknowledged in the pull feed, owed to a disabled
destination, or given up and set aside by an operator. An attempt in flight keeps its lease token:
it closes its own row and then finds that its message has ended.
"""

from __future__ import annotations

from collections.abc import Sequence

from django.db import connection, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from webhooks_app.functions import Function
from webhooks_app.models import MessageStatus, WebhookEvent, WebhookMessage
from webhooks_app.outbox.order import release_now

BURY_BATCH = 1_000

_SUPERSEDE = """
WITH waiting AS (
  SELECT message.id FROM webhooks_app_webhookmessage message
  JOIN webhooks_app_webhookevent event ON event.id = message.event_id
  WHERE event.subject = %s AND event.event_type = %s AND message.status = 'pending'
  ORDER BY message.id FOR UPDATE OF message
)
UPDATE webhooks_app_webhookmessage message
SET status = 'superseded', next_attempt_at = NULL, finished_at = now()
FROM waiting WHERE message.id = waiting.id AND message.status = 'pending'
RETURNING message.id
"""

# Range and order match exactly one index, so that nothing else that is pending is read: see
# `recover.py`.
_OWED_TO_DISABLED = """
  FROM webhooks_app_webhookdestination destination
  CROSS JOIN LATERAL (
    SELECT id FROM webhooks_app_webhookmessage
    WHERE status = 'pending' AND destination_id BETWEEN destination.id AND destination.id
    ORDER BY destination_id, next_attempt_at LIMIT {limit}
  ) waiting
  WHERE destination.disabled_at IS NOT NULL"""

_BURY = Function(
    "webhooks_bury_disabled",
    "_most int",
    "SETOF bigint",
    f"""
UPDATE webhooks_app_webhookmessage SET status = 'dead', next_attempt_at = NULL,
  finished_at = now(), last_error_code = 'destination_disabled'
WHERE id = ANY(ARRAY(
  SELECT waiting.id {_OWED_TO_DISABLED.format(limit="_most FOR UPDATE SKIP LOCKED")}
  LIMIT _most))
RETURNING id
""",  # noqa: S608 - texts of ours
    only_if=f"SELECT {_OWED_TO_DISABLED.format(limit=1)}",
)

_SET_ASIDE = """
UPDATE webhooks_app_webhookmessage SET status = %(after)s
WHERE id IN (
  SELECT id FROM webhooks_app_webhookmessage
  WHERE id = ANY(%(ids)s) AND status IS NOT DISTINCT FROM %(before)s
  ORDER BY id FOR UPDATE SKIP LOCKED)
RETURNING id
"""


def supersede(subject: str, event_type: str) -> list[int]:
    """End pending messages of one event type about one subject, since a newer event exists.

    Returns their ids; what waits for them is the caller's to release.
    """
    with connection.cursor() as cursor:
        cursor.execute(_SUPERSEDE, [subject, event_type])
        return [row[0] for row in cursor.fetchall()]


def call_off(messages: QuerySet[WebhookMessage]) -> int:
    """End what is pending among ``messages``, in the caller's transaction; return how many.

    Rows are locked by id, so that two of these, or one and the engine, cannot deadlock.
    """
    waiting = messages.filter(status=MessageStatus.PENDING).order_by("pk")
    ids = list(waiting.select_for_update(of=("self",)).values_list("pk", flat=True))
    ended = WebhookMessage.objects.filter(pk__in=ids).update(
        status=MessageStatus.CANCELLED, next_attempt_at=None, finished_at=Now()
    )
    release_now(ids)
    return ended


def acknowledge(events: QuerySet[WebhookEvent]) -> dict[str, int]:
    """Acknowledge events that a client has read, and end what is pending for them."""
    with transaction.atomic():
        fresh = events.filter(acknowledged_at=None).update(acknowledged_at=Now())
        ended = call_off(WebhookMessage.objects.filter(event__in=events))
    return {"acknowledged": fresh, "cancelled_messages": ended}


def bury_disabled() -> int:
    """Make dead letters of what is pending for disabled destinations; return how many.

    Engines call it every second, since a message may be published while its destination is being
    disabled. Locked rows are left for the next call.
    """
    buried = 0
    while True:
        with connection.cursor() as cursor:
            cursor.execute(_BURY.call, {"most": BURY_BATCH})
            ended = [row[0] for row in cursor.fetchall()]
        release_now(ended)
        buried += len(ended)
        if len(ended) < BURY_BATCH:
            return buried


def set_aside(ids: Sequence[int], *, is_undone: bool = False) -> list[int]:
    """Set dead letters aside, or make those set aside dead letters again; return which changed."""
    states = (MessageStatus.DEAD.value, MessageStatus.SET_ASIDE.value)
    before, after = reversed(states) if is_undone else states
    with connection.cursor() as cursor:
        cursor.execute(_SET_ASIDE, {"ids": list(ids), "before": before, "after": after})
        return [row[0] for row in cursor.fetchall()]
