"""Which log lines does one attempt get?

The three log texts are fixed; operators grep for them.
"""

from __future__ import annotations

from functools import lru_cache

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
