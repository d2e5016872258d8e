"""How do subscribers learn that a receiver fails, is disabled or recovered? Once for each change.

What was told last is in a row. It is changed by one conditional UPDATE, in the transaction that
writes the event, so it does not matter how many engines see the same change.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
from django.db import connection, transaction
from django.db.models.functions import Now
from django.urls import NoReverseMatch, reverse

from webhooks_app import traces
from webhooks_app.conf import Rate, webhook_settings
from webhooks_app.models import (
    DEAD_LETTER_RATE,
    DISABLED,
    FAILING,
    META_EVENTS,
    REASONS,
    RECOVERED,
    MessageStatus,
    WebhookDestination,
    WebhookEndpoint,
    WebhookEvent,
    WebhookMessage,
)
from webhooks_app.notation import rfc3339
from webhooks_app.outbox import destination_of, has_subscriber, publish

#: The scope of endpoints without a project, which get the meta events of all.
INSTALLATION = ""
PENDING_LIMIT = 10_000

#: For each event the condition under which it is news: what was told before, and what holds now.
_IS_NEWS = {
    FAILING: "reported_state IN ('', 'recovered') AND disabled_at IS NULL"
    " AND (muted_until IS NULL OR muted_until <= now())",
    DISABLED: "reported_state <> 'disabled' AND disabled_at IS NOT NULL",
    RECOVERED: "reported_state IN ('failing', 'disabled') AND disabled_at IS NULL",
}

# What an operator's own act ended is no alarm, and neither is a meta event that found nobody.
_DEAD = """
SELECT count(*) FROM (
  SELECT 1 FROM webhooks_app_webhookmessage message
  JOIN webhooks_app_webhookevent event ON event.id = message.event_id
  WHERE message.status = 'dead' AND message.finished_at > now() - make_interval(secs => %s)
    AND message.last_error_code <> 'destination_disabled' AND event.event_type <> ALL(%s)
  LIMIT %s) dead
"""
_ALERT = """
INSERT INTO webhooks_app_alert AS alert (name, state, changed_at) VALUES (%s, 'above', now())
ON CONFLICT (name) DO UPDATE SET state = 'above', changed_at = now() WHERE alert.state <> 'above'
"""
_END_ALERT = """
UPDATE webhooks_app_alert SET state = 'normal', changed_at = now()
WHERE name = %s AND state = 'above'
"""


def tell_of(destination_id: int, event_type: str, reason: str) -> bool:
    """Tell the subscribers of a project that a destination has changed, if that is news.

    Args:
        reason: one of `meta_events.REASONS`.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE webhooks_app_webhookdestination SET reported_state = %s"  # noqa: S608 - ours
                f" WHERE id = %s AND {_IS_NEWS[event_type]}",
                [event_type.rpartition(".")[2], destination_id],
            )
            if not cursor.rowcount:
                return False
        destination = WebhookDestination.objects.get(pk=destination_id)
        page = _page("webhookdestination", destination.pk)
        _publish_of(destination, event_type, reason, endpoint_id=None, page=page)
    return True


def tell_of_endpoint(endpoint: WebhookEndpoint, reason: str) -> None:
    """Tell that an endpoint was disabled or enabled, in the transaction that did it."""
    destination = WebhookDestination.objects.get(pk=destination_of(endpoint.scope, endpoint.url)[0])
    event_type = RECOVERED if endpoint.is_enabled else DISABLED
    page = _page("webhookendpoint", endpoint.pk)
    _publish_of(destination, event_type, reason, endpoint_id=str(endpoint.pk), page=page)


def disable_endpoint(scope: str, url: str) -> None:
    """Disable the registered endpoint whose URL answered 410 Gone, and tell of it once."""
    with transaction.atomic():
        found = WebhookEndpoint.objects.select_for_update(no_key=True)
        endpoint = found.filter(scope=scope, url=url, is_enabled=True).first()
        if endpoint is not None:
            endpoint.is_enabled, endpoint.disabled_reason = False, "answered 410 Gone"
            endpoint.save(update_fields=["is_enabled", "disabled_reason"])
            tell_of_endpoint(endpoint, "gone")


def watch_dead_letters(rate: Rate) -> None:
    """Tell when there are more dead letters than ``rate``, and when there are less than half."""
    if not has_subscriber(INSTALLATION, DEAD_LETTER_RATE):
        return
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_DEAD, [rate.seconds, list(META_EVENTS), rate.limit])
        dead = int(cursor.fetchone()[0])
        if dead >= rate.limit:
            state, change = "above", _ALERT
        elif 2 * dead < rate.limit:
            state, change = "normal", _END_ALERT
        else:
            return
        cursor.execute(change, [DEAD_LETTER_RATE])
        if not cursor.rowcount:
            return
        told = {
            "state": state,
            "limit": rate.limit,
            "window_seconds": rate.seconds,
            "dead_letters": dead,
            "since": _now(),
            "admin_url": _page("webhookmessage"),
        }
        _publish(INSTALLATION, DEAD_LETTER_RATE, told)


def _publish_of(
    destination: WebhookDestination,
    event_type: str,
    reason: str,
    *,
    endpoint_id: str | None,
    page: str | None,
) -> None:
    scopes = {destination.scope, INSTALLATION}
    wanting = [scope for scope in sorted(scopes) if has_subscriber(scope, event_type)]
    if not wanting:
        return
    pending = WebhookMessage.objects.filter(destination=destination, status=MessageStatus.PENDING)
    told = {
        "project_id": destination.scope,
        "origin": destination.origin,
        "endpoint_id": endpoint_id,
        "state": event_type.rpartition(".")[2],
        "reason": reason,
        "detail": REASONS[reason],
        "since": _now(),
        "failing_messages": destination.failing_messages,
        "pending_messages": pending[:PENDING_LIMIT].count(),
        "admin_url": page,
    }
    for scope in wanting:
        _publish(scope, event_type, told)


def _publish(scope: str, event_type: str, told: Mapping[str, Any]) -> None:
    event = publish(
        scope=scope,
        subject=f"meta-{uuid.uuid4()}",
        sequence=1,
        event_type=event_type,
        body=orjson.dumps({"type": event_type, **told}),
        traceparent=traces.new(),
    )
    # Acknowledged at once: the pull feed is for what the project itself publishes.
    WebhookEvent.objects.filter(pk=event.pk).update(acknowledged_at=Now())


def _now() -> str:
    return rfc3339(datetime.now(UTC), "seconds")


def _page(model: str, pk: Any = None) -> str | None:
    """Return the address of a row's page in the admin, or of the list; None without an admin."""
    try:
        if pk is None:
            path = reverse(f"admin:webhooks_app_{model}_changelist")
        else:
            path = reverse(f"admin:webhooks_app_{model}_change", args=[pk])
    except NoReverseMatch:
        return None
    return webhook_settings.BASE_URL + path
