"""Why is a message in its state, and what happened to it, in sentences for operators?

Pure: rows in, sentences and shapes out; ``now`` is an argument. Everything a receiver sent goes
through `shown.visible`; HTML escaping is done by the templates.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from webhooks_app.conf import webhook_settings
from webhooks_app.models import WebhookDelivery, WebhookDestination, WebhookMessage
from webhooks_app.retry import ERROR_CODES, ErrorCode
from webhooks_app.shown import safe_url, visible

PHASES = (("dns_ms", "DNS"), ("connect_ms", "connect"), ("first_byte_ms", "first byte"))
SHOWN_PLANNED = 10

_UNITS = ((1.0, "ms", 1e-3), (120.0, "s", 1.0), (7200.0, "min", 60.0), (172_800.0, "h", 3600.0))

OUTCOME_TONES = {
    "pending": "info",
    "succeeded": "success",
    "failed": "danger",
    "interrupted": "warning",
}
WHY_HELD = {
    "paused": "an operator paused it.",
    "retry_after": "the receiver asked for this pause (Retry-After).",
    "proxy": "the forward proxy makes no connection, as the last attempt tells.",
}


def seconds_text(seconds: float) -> str:
    """Return a duration in a readable unit: ``350 ms``, ``2.5 s``, ``4 min``, ``3.5 h``."""
    for limit, unit, scale in _UNITS:
        if seconds < limit:
            value = seconds / scale
            places = 0 if value >= 10 or unit == "ms" else 1
            return f"{value:.{places}f}".removesuffix(".0") + f" {unit}"
    return f"{seconds / 86_400:.1f} days"


@dataclass(frozen=True)
class Phase:
    """One bar of the timeline; positions in percent of the longest attempt."""

    name: str
    css: str
    start: float
    width: float
    text: str


@dataclass(frozen=True)
class Attempt:
    """One attempt as the timeline shows it."""

    delivery: WebhookDelivery
    url: str
    tone: str
    summary: str
    gap: str
    duration: str
    detail: str = ""
    phases: list[Phase] = field(default_factory=list)
    request_headers: list[tuple[str, str]] = field(default_factory=list)
    response_headers: list[tuple[str, str]] = field(default_factory=list)
    body: str = ""


@dataclass(frozen=True)
class Explanation:
    """The heading of a message's page. ``tone``: success, danger, warning, info or base."""

    headline: str
    text: str
    tone: str


def attempts(deliveries: Sequence[WebhookDelivery]) -> list[Attempt]:
    """Return the timeline, oldest first."""
    longest = max((d.duration_ms or 0 for d in deliveries), default=0) or 1
    ends: list[datetime | None] = [None, *(_end(d) for d in deliveries)]
    return [_attempt(d, ended, longest) for d, ended in zip(deliveries, ends, strict=False)]


def _end(delivery: WebhookDelivery) -> datetime | None:
    if delivery.duration_ms is None:
        return None
    return delivery.started_at + timedelta(milliseconds=delivery.duration_ms)


def _attempt(delivery: WebhookDelivery, before: datetime | None, longest: float) -> Attempt:
    waited = max(0.0, (delivery.started_at - before).total_seconds()) if before else None
    duration = delivery.duration_ms
    return Attempt(
        delivery=delivery,
        url=safe_url(delivery.url),
        tone=OUTCOME_TONES[delivery.outcome],
        summary=summary(delivery),
        gap="" if waited is None else f"{seconds_text(waited)} later",
        duration="" if duration is None else seconds_text(duration / 1000),
        detail=visible(_detail(delivery)),
        phases=_phases(delivery, longest),
        request_headers=_headers(delivery.request_headers),
        response_headers=_headers(delivery.response_headers),
        body=visible(delivery.response_body),
    )


def _detail(delivery: WebhookDelivery) -> str:
    """Return what the summary leaves out: the cause, or a note on an odd answer."""
    if delivery.error_code == "http_status":
        return delivery.error.partition("; ")[2]
    return delivery.error


def summary(delivery: WebhookDelivery) -> str:
    """Return one sentence on how an attempt ended."""
    if delivery.outcome == "pending":
        return "Under way, or its process died and the lease has not expired yet."
    if delivery.outcome == "interrupted":
        return "The process that made it ended before the answer was recorded."
    if delivery.outcome == "succeeded":
        return f"Delivered: the receiver answered {delivery.response_status}."
    return f"Failed: {_meaning(delivery.error_code, delivery.response_status)}."


def _meaning(code: str, status: int | None) -> str:
    if code == "http_status" and status:
        return f"the receiver answered {status}, which does not count as delivered"
    known = ERROR_CODES.get(code)
    meaning = known.meaning if known else code or "it failed"
    return f"{meaning} ({status})" if status else meaning


def _phases(delivery: WebhookDelivery, longest: float) -> list[Phase]:
    """Place the measured phases one after another; the rest is reading the body, or waiting."""
    bars, at = [], 0.0
    for key, name in PHASES:
        if (milliseconds := delivery.phases.get(key)) is not None:
            bars.append((name, key, at, float(milliseconds)))
            at += float(milliseconds)
    rest = (delivery.duration_ms or 0) - at
    if rest > 0.005 * longest:
        is_answered = "first_byte_ms" in delivery.phases
        name = "reading" if is_answered else "waiting" if bars else "in all"
        bars.append((name, "rest_ms", at, rest))
    scale = 100 / longest
    return [
        Phase(name, key, min(start * scale, 99.5), max(ms * scale, 0.4), f"{name} {_ms_text(ms)}")
        for name, key, start, ms in bars
    ]


def _ms_text(milliseconds: float) -> str:
    return f"{milliseconds:.1f} ms" if milliseconds < 1000 else seconds_text(milliseconds / 1000)


def _headers(headers: Any) -> list[tuple[str, str]]:
    pairs = headers.items() if isinstance(headers, dict) else (headers or ())
    return [(visible(str(name)), visible(str(value))) for name, value in pairs]


def explain(message: WebhookMessage, now: datetime, before: str = "") -> Explanation:
    """Explain why the message is in its state, and what happens next and when.

    Args:
        before: the event id of the message that it waits for, if it is known.
    """
    if message.status == "pending" and message.is_waiting:
        return _explain_waiting(message, before)
    if message.status == "pending":
        return _explain_pending(message, now)
    if message.status == "delivered":
        return Explanation(
            f"Delivered on attempt {message.attempt_count}",
            f"The receiver answered {message.last_status_code or 'with success'}. "
            "Nothing more is sent unless somebody replays it.",
            "success",
        )
    if message.status == "dead":
        return _explain_dead(message)
    if message.status in _OPERATORS_ENDS:
        return _explain_operators_end(message)
    if message.status == "superseded":
        text = "A newer event of the same task replaced it, so it is not sent."
        return Explanation("Superseded", text, "base")
    text = "The client acknowledged the event through the pull feed, or it was cancelled."
    return Explanation("Cancelled", text, "base")


#: What an operator made of a dead letter.
_OPERATORS_ENDS = {
    "replayed": ("Replayed elsewhere", "It was sent to another URL"),
    "set_aside": ("Set aside", "An operator set it aside: it is no dead letter any more"),
}


def _explain_operators_end(message: WebhookMessage) -> Explanation:
    headline, text = _OPERATORS_ENDS[message.status]
    if message.replayed_as_id:
        text += f", as message {message.replayed_as_id}, which is owed instead of it"
    failure = _meaning(message.last_error_code, message.last_status_code)
    text += f". The last failure here: {failure}." if message.last_error_code else "."
    return Explanation(headline, f"{text} It is kept whole and can be replayed.", "base")


def _explain_waiting(message: WebhookMessage, before: str) -> Explanation:
    name = before or f"message {message.after_id}"
    text = (
        f"It waits for {name}, since its endpoint gets the events of a task in order: it is due as "
        "soon as that one is delivered, or given up. Waiting costs no retry and nothing of the "
        f"{longest_wait()} that a message may wait for its destination. A replay sends it at once."
    )
    return Explanation("Waits for the event before it", text, "info")


def _explain_pending(message: WebhookMessage, now: datetime) -> Explanation:
    if message.lease_token and message.lease_expires_at and message.lease_expires_at > now:
        left = seconds_text((message.lease_expires_at - now).total_seconds())
        text = f"If its process dies, another one takes over when the lease ends, in {left}."
        return Explanation("An attempt is under way", text, "info")
    held = message.destination.held_until
    if held and held > now:
        left = seconds_text((held - now).total_seconds())
        text = (
            f"The destination is held back for {left} more: {why_held(message.destination)} "
            f"Waiting costs no retry; after {longest_wait()} of it the message is dead (expired)."
        )
        return Explanation("Waiting for its destination", text, "warning")
    return _explain_due(message, now)


def longest_wait() -> str:
    """Return after how long a message that waits for its destination is dead."""
    return seconds_text(webhook_settings.MESSAGE_MAX_WAIT)


def why_held(destination: WebhookDestination) -> str:
    """Return the reason of a hold as the end of a sentence."""
    if destination.hold_reason == "breaker":
        count = webhook_settings.BREAKER_THRESHOLD
        return f"its breaker is open, since {count} messages in a row failed there."
    return WHY_HELD.get(destination.hold_reason) or f"{visible(destination.hold_reason)}."


def standing(row: WebhookDestination, now: datetime) -> tuple[str, str]:
    """Return tone and words of how a destination stands."""
    if row.disabled_at:
        return "danger", "disabled"
    if row.held_until and row.held_until > now:
        is_breaker = row.breaker_state != "closed"
        return "warning", "breaker open" if is_breaker else row.hold_reason.replace("_", "-")
    return ("warning", "failing") if row.failing_messages else ("success", "healthy")


def _explain_due(message: WebhookMessage, now: datetime) -> Explanation:
    number = message.attempt_count + 1
    due = message.next_attempt_at or now
    wait = (due - now).total_seconds()
    when = f"in {seconds_text(wait)}" if wait > 0 else f"due since {seconds_text(-wait)}"
    left = max(0, len(message.policy) - message.retry_step)
    text = f"Retries left after it: {left} of {len(message.policy)} ({policy_text(message)})."
    if wait < -10:
        text += " It should have gone out: see whether a delivery engine is alive."
    if message.last_error_code:
        failure = _meaning(message.last_error_code, message.last_status_code)
        text = f"The last attempt failed: {failure}. {text}"
    tone = "warning" if message.last_error_code else "info"
    return Explanation(f"Attempt {number} {when}", text, tone)


@dataclass(frozen=True)
class Planned:
    """An attempt in the future."""

    number: int
    when: str


def planned(message: WebhookMessage, now: datetime) -> list[Planned]:
    """Return the next attempts (the first ones of a long policy); none if the message ended."""
    if message.status != "pending" or message.next_attempt_at is None:
        return []
    number = message.attempt_count + 1
    lease_end = message.lease_expires_at
    is_leased = lease_end is not None and lease_end > now
    first = [] if is_leased else [Planned(number, _when(message, message.next_attempt_at, now))]
    waits = message.policy[message.retry_step :][:SHOWN_PLANNED]
    later = [f"{seconds_text(wait)} after it, if it fails" for wait in waits]
    start = number + (0 if is_leased else 1)
    return first + [Planned(start + i, when) for i, when in enumerate(later)]


def _when(message: WebhookMessage, due: datetime, now: datetime) -> str:
    if message.is_waiting:
        return f"when message {message.after_id} has been delivered or given up"
    held = message.destination.held_until
    if held and held > max(due, now):
        return f"when its destination is free again, not before {held:%Y-%m-%d %H:%M:%S} UTC"
    wait = (due - now).total_seconds()
    return f"{due:%Y-%m-%d %H:%M:%S} UTC" + (f", in {seconds_text(wait)}" if wait > 0 else ", due")


def _explain_dead(message: WebhookMessage) -> Explanation:
    code = ERROR_CODES.get(message.last_error_code)
    replay = "It is kept whole and can be replayed."
    if message.last_status_code == 410 and code == ErrorCode.HTTP_STATUS:
        text = f"The receiver answered 410 Gone: it wants nothing sent there again. {replay}"
    elif code and not code.is_sent:
        text = f"Not sent, since {code.meaning}. {replay}"
    elif code and not code.is_retried:
        text = f"Not retried, since {code.meaning}. {replay}"
    else:
        failure = _meaning(message.last_error_code, message.last_status_code)
        text = f"It will not be retried: {_used_up(message)}. The last failure: {failure}. {replay}"
    return Explanation("Dead letter", text, "danger")


def _used_up(message: WebhookMessage) -> str:
    if not message.policy:
        return "its policy has no retries"
    if len(message.policy) == 1:
        return f"its only retry ({policy_text(message)}) was used up"
    return f"all {len(message.policy)} retries ({policy_text(message)}) were used up"


def policy_text(message: WebhookMessage) -> str:
    """Return the waits of the message's policy: ``1 s, 2 s, 4 s``."""
    waits = ", ".join(seconds_text(wait) for wait in message.policy) or "none"
    return f"{waits}, ±{message.jitter:.0%}" if message.jitter else waits


def body_text(body: bytes) -> str:
    """Return a JSON body indented for reading; anything else as it is."""
    try:
        return visible(json.dumps(json.loads(body), indent=2, ensure_ascii=False))
    except (ValueError, RecursionError):
        return visible(body)


def curl(message: WebhookMessage) -> str:
    """Return a curl command for the same request without a valid signature.

    The signature is left out on purpose: a copied command must not be a usable credential.
    """
    event = message.event
    headers = [
        ("content-type", "application/json"),
        ("webhook-id", event.event_id),
        ("webhook-event", event.event_type),
        ("webhook-timestamp", "$(date +%s)"),
        ("webhook-signature", "v1,MASKED"),
    ]
    lines = [f"curl -i -X POST {shlex.quote(safe_url(message.url))}"]
    # Double quotes, so that the shell inserts the time; none of the values contains a quote.
    lines += [f'  -H "{name}: {value}"' for name, value in headers]
    lines.append(f"  --data-binary {shlex.quote(bytes(event.body).decode('utf-8', 'replace'))}")
    return " \\\n".join(lines)
