"""How does a test publish the events of a subject, and see which waits for which?"""

from __future__ import annotations

import json
from typing import Any

from django.utils import timezone

from tests.support.running import SCOPE
from webhooks_app import outbox
from webhooks_app.models import WebhookMessage

STEP, PROGRESS = "task.started", "task.progress"


def tell(
    sequence: int, event_type: str = STEP, *, subject: str = "task-1", **fields: Any
) -> WebhookMessage:
    """Publish one event to the endpoints; return its message."""
    body = json.dumps({"subject": subject, "sequence": sequence}).encode()
    event = outbox.publish(
        scope=SCOPE,
        subject=subject,
        sequence=sequence,
        event_type=event_type,
        body=body,
        **fields,
    )
    return event.messages.get()


def waits_for(message: WebhookMessage) -> int | None:
    """Return what a message waits for; None if it is due."""
    message.refresh_from_db()
    if message.is_waiting:
        return message.after_id
    assert message.next_attempt_at is None or message.next_attempt_at <= timezone.now()
    assert message.status != "pending" or message.after_id is None or message.replay_id
    return None
