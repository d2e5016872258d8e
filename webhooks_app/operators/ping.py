"""How is a receiver tested? With an event that only this receiver gets."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import orjson
from django.db.models.functions import Now

from webhooks_app import notation, outbox, traces
from webhooks_app.models import WebhookEvent, WebhookMessage
from webhooks_app.notation import rfc3339

PING = notation.PING
#: The JSON Schema of its body, and an example.
SCHEMA = {
    "type": "object",
    "properties": {
        "type": {"const": PING},
        "project_id": {"type": "string"},
        "sent_at": {"type": "string", "format": "date-time"},
    },
    "required": ["type", "project_id", "sent_at"],
}
EXAMPLE = {"type": PING, "project_id": "test_project", "sent_at": "2025-01-15T10:35:30Z"}


def body(scope: str, **facts: str) -> dict[str, str]:
    """Return the body of a ping of a project; ``facts``: more keys."""
    sent_at = rfc3339(datetime.now(UTC), "seconds")
    return {"type": PING, "project_id": scope, **facts, "sent_at": sent_at}


def send_ping(scope: str, target: outbox.Target, **facts: str) -> WebhookMessage:
    """Owe one ``webhook.ping`` to one URL; it is sent like every other message.

    Must run inside a transaction.

    Args:
        facts: more keys of the body.
    """
    event = outbox.publish(
        scope=scope,
        subject=f"ping-{uuid.uuid4()}",
        sequence=1,
        event_type=PING,
        body=orjson.dumps(body(scope, **facts)),
        targets=[target],
        is_for_endpoints=False,
        traceparent=traces.new(),
    )
    # Acknowledged at once, so that the pull feed does not show it.
    WebhookEvent.objects.filter(pk=event.pk).update(acknowledged_at=Now())
    return WebhookMessage.objects.select_related("event", "destination").get(event=event)
