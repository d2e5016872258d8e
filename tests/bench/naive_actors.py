"""How would webhooks be sent without an engine? One Dramatiq message for each delivery.

`deliver` is written with care: rows before and after, a signature, a kept connection. `first` is
what people write first: the same with a new HTTP client for each attempt.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Any

import dramatiq
import httpx2
import requests
from dramatiq.brokers.redis import RedisBroker

from tests.bench import place

place.set_up_django()

from django.db import transaction  # noqa: E402
from django.utils import timezone  # noqa: E402

from webhooks_app.models import DeliveryOutcome, MessageStatus, WebhookDelivery, WebhookMessage  # noqa: E402
from webhooks_app.signing import scheme  # noqa: E402
from webhooks_app.signing.store import get_or_create  # noqa: E402

broker = RedisBroker(url=os.environ["REDIS_URL"], namespace="bench-naive")
dramatiq.set_broker(broker)
logging.getLogger("httpx2").setLevel(logging.WARNING)
_thread = threading.local()
_secret = get_or_create(place.SCOPE)


@dramatiq.actor(max_retries=0)
def deliver(message_id: int) -> None:
    """Send one message over this thread's kept connections."""
    if not hasattr(_thread, "session"):
        _thread.session = requests.Session()
    _attempt(message_id, lambda url, **given: _thread.session.post(url, **given))


@dramatiq.actor(max_retries=0)
def first(message_id: int) -> None:
    """Send one message with a client of its own."""

    def post(url: str, data: bytes, headers: dict[str, str], timeout: float) -> Any:
        with httpx2.Client() as client:
            return client.post(url, content=data, headers=headers, timeout=timeout)

    _attempt(message_id, post)


def _attempt(message_id: int, post: Any) -> None:
    message = WebhookMessage.objects.select_related("event").get(pk=message_id)
    event, body = message.event, bytes(message.event.body)
    delivery = WebhookDelivery.objects.create(
        message=message, attempt_number=1, url=message.url, started_at=timezone.now()
    )
    now = int(time.time())
    headers = {
        "content-type": "application/json",
        "webhook-id": event.event_id,
        "webhook-timestamp": str(now),
        "webhook-signature": scheme.signature_header([_secret], event.event_id, now, body),
    }
    response = post(message.url, data=body, headers=headers, timeout=30)
    with transaction.atomic():
        delivery.outcome = DeliveryOutcome.SUCCEEDED
        delivery.response_status = response.status_code
        delivery.save(update_fields=["outcome", "response_status"])
        message.status, message.next_attempt_at = MessageStatus.DELIVERED, None
        message.attempt_count, message.delivered_at = 1, timezone.now()
        message.finished_at = message.delivered_at
        message.save()
