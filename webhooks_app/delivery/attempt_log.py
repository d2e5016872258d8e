"""What is written about one attempt: the row for `outbox.record`, and its log lines.

The three log texts are fixed; operators grep for them.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from webhooks_app import metrics
from webhooks_app.log import get_logger
from webhooks_app.models import DeliveryOutcome, MessageStatus
from webhooks_app.outbox import Claimed
from webhooks_app.retry import AttemptResult, Dead, Decision, Delivered, RetryAt
from webhooks_app.shown import safe_url

logger = get_logger(__name__)


def attempt_row(
    message: Claimed,
    token: uuid.UUID,
    headers: Mapping[str, str],
    result: AttemptResult,
    decision: Decision,
) -> dict[str, Any]:
    """Return the row that records a finished attempt."""
    return {
        "delivery_id": message.delivery_id,
        "message_id": message.message_id,
        "token": str(token),
        "outcome": DeliveryOutcome.FAILED if result.error_code else DeliveryOutcome.SUCCEEDED,
        "remote_address": result.remote_address,
        "request_headers": headers,
        "duration_ms": round(result.duration_ms, 3),
        "phases": result.phases,
        "response_status": result.status,
        "response_headers": dict(result.response_headers),
        "response_body": base64.b64encode(result.response_body).decode(),
        "is_truncated": result.truncated,
        "reconnected": result.reconnected,
        "error_code": str(result.error_code),
        "error": result.error[:500],
        "latency": _latency(message, result),
        **_next_state(message, decision),
    }


def _latency(message: Claimed, result: AttemptResult) -> float | None:
    """Return the seconds from the event to the first byte sent; None except on a first attempt."""
    if message.attempt_number > 1 or message.replay_id is not None:
        return None
    return metrics.first_byte_latency(message.event_created_at.timestamp(), result)


def _next_state(message: Claimed, decision: Decision) -> dict[str, Any]:
    if isinstance(decision, RetryAt):
        return {
            "status": MessageStatus.PENDING,
            "wait": decision.delay,
            "retry_step": decision.step,
        }
    is_delivered = isinstance(decision, Delivered)
    return {
        "status": MessageStatus.DELIVERED if is_delivered else MessageStatus.DEAD,
        "wait": None,
        "retry_step": message.retry_step,
        "is_endpoint_gone": isinstance(decision, Dead) and decision.is_endpoint_gone,
        "scope": message.scope,
        "url": message.url,
        "sequence": message.sequence,
    }


def interrupted_row(
    message: Claimed, token: uuid.UUID, wait_seconds: float = 0.0
) -> dict[str, Any]:
    """Return the row of an attempt that this engine gave up: it uses up no retry."""
    return {
        "delivery_id": message.delivery_id,
        "message_id": message.message_id,
        "token": str(token),
        "outcome": DeliveryOutcome.INTERRUPTED,
        "remote_address": "",
        "request_headers": {},
        "phases": {},
        "response_headers": {},
        "response_body": "",
        "is_truncated": False,
        "reconnected": False,
        "error_code": "",
        "error": "",
        "status": MessageStatus.PENDING,
        "wait": wait_seconds,
        "retry_step": message.retry_step,
    }


def bare_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row without any data that came from outside."""
    empty = {"remote_address": "", "response_headers": {}, "response_body": "", "error": ""}
    return {**row, **empty, "request_headers": {}}


_shown = lru_cache(maxsize=4096)(safe_url)  # many messages go to the same URL


def log_attempt(message: Claimed, result: AttemptResult, *, is_last: bool) -> None:
    """Log one attempt: one line, or two for the last failure."""
    callback_url = _shown(message.url)
    # After the keys of the fixed texts, so that patterns operators grep for still match.
    more = _ids(message.event_id, message.request_id)
    if not result.error_code:
        logger.info(
            "Webhook sent successfully",
            callback_url=callback_url,
            status_code=result.status,
            task_id=message.subject,
            attempt=message.attempt_number,
            **more,
        )
        return
    logger.warning(
        "Webhook request failed",
        callback_url=callback_url,
        error=result.error or result.error_code,
        attempt=message.attempt_number,
        task_id=message.subject,
        **more,
    )
    if is_last:
        log_dead_letter(message.url, message.subject, message.event_id, message.request_id)


def _ids(event_id: str, request_id: str) -> dict[str, str]:
    return {"message_id": event_id} | ({"request_id": request_id} if request_id else {})


def log_dead_letter(url: str, subject: str, event_id: str, request_id: str) -> None:
    """Log that a message became a dead letter."""
    logger.error(
        "Failed to send webhook after all retries",
        callback_url=safe_url(url),
        task_id=subject,
        **_ids(event_id, request_id),
    )
