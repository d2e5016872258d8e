"""What do the log and the trace say about one attempt?

The three log texts are fixed; operators grep for them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import lru_cache

from webhooks_app import traces
from webhooks_app.log import get_logger
from webhooks_app.outbox import Claimed
from webhooks_app.retry import AttemptResult
from webhooks_app.shown import safe_url

logger = get_logger(__name__)

_shown = lru_cache(maxsize=4096)(safe_url)  # many messages go to the same URL


def log_attempt(message: Claimed, result: AttemptResult, *, is_last: bool) -> None:
    """Log one attempt: one line, or two for the last failure."""
    callback_url = _shown(message.url)
    # After the keys of the fixed texts, so that patterns operators grep for still match.
    more = _ids(message.event_id, message.request_id, message.traceparent)
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
        log_dead_letter(
            message.url,
            message.subject,
            message.event_id,
            message.request_id,
            message.traceparent,
        )


def _ids(event_id: str, request_id: str, traceparent: str) -> dict[str, str]:
    known = {"request_id": request_id} if request_id else {}
    return {"message_id": event_id, **known, **traces.log_fields(traceparent)}


def log_dead_letter(
    url: str, subject: str, event_id: str, request_id: str, traceparent: str
) -> None:
    """Log that a message became a dead letter."""
    logger.error(
        "Failed to send webhook after all retries",
        callback_url=safe_url(url),
        task_id=subject,
        **_ids(event_id, request_id, traceparent),
    )


def trace_header(traceparent: str) -> dict[str, str]:
    """Return the header with which an attempt names itself as a span of its event's trace."""
    if not traceparent:
        return {}
    return {traces.HEADER: traces.child(traceparent, traces.new_span_id())}


def trace_attempt(message: Claimed, headers: Mapping[str, str], result: AttemptResult) -> None:
    """Record one attempt as a span, with a span below it for each of its phases."""
    if traces.recorder is None or not message.traceparent:
        return
    end = time.time()
    start = end - result.duration_ms / 1000
    attributes = {
        "url.full": _shown(message.url),
        "http.request.method": "POST",
        "http.response.status_code": result.status,
        "network.peer.address": result.remote_address,
        "task.id": message.subject,
        "project.id": message.scope,
        "webhook.event": message.event_type,
        "webhook.id": message.event_id,
        "webhook.attempt": message.attempt_number,
        "webhook.is_replay": message.replay_id is not None,
        "error.type": str(result.error_code),
    }
    traces.recorder(
        traces.Span(
            name="webhook attempt",
            parent=message.traceparent,
            span_id=traces.span_id(headers[traces.HEADER]),
            start=start,
            end=end,
            kind="client",
            attributes={key: value for key, value in attributes.items() if value not in ("", None)},
            parts=_parts(result.phases, start),
            error=str(result.error_code),
        )
    )


def _parts(phases: Mapping[str, float], start: float) -> list[tuple[str, float, float]]:
    """Return the phases with their times, one after the other: milliseconds to seconds."""
    parts = []
    for phase, name in (
        ("dns_ms", "dns"),
        ("connect_ms", "connect"),
        ("first_byte_ms", "first byte"),
    ):
        if phase in phases:
            end = start + phases[phase] / 1000
            parts.append((name, start, end))
            start = end
    return parts
