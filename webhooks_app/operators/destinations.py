"""What may an operator do to a destination, and how is it recorded?

The one place where a destination is paused, disabled, enabled or pinged, for the admin, the API and
commands. Each function writes an `OperatorAction` in the same transaction.
"""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from django.db.models.functions import Now

from webhooks_app import outbox
from webhooks_app.models import WebhookDestination, WebhookEndpoint, WebhookMessage
from webhooks_app.operators import record
from webhooks_app.operators.ping import send_ping

MAX_PAUSE_SECONDS = 86_400
MAX_IN_FLIGHT = 1_000


class NothingToPing(ValueError):
    """No URL of this destination is known, so no test event can be sent."""


@transaction.atomic
def pause(destination: WebhookDestination, seconds: int, *, actor: str, reason: str) -> None:
    """Hold the destination's messages; this uses up no retries.

    Raises:
        ValueError: not within 1 s to `MAX_PAUSE_SECONDS`.
    """
    if not 1 <= seconds <= MAX_PAUSE_SECONDS:
        raise ValueError(f"a pause is 1 to {MAX_PAUSE_SECONDS} seconds")
    WebhookDestination.objects.filter(pk=destination.pk).update(
        held_until=Now() + timedelta(seconds=seconds), hold_reason="paused"
    )
    record.note(actor, "destination.pause", str(destination), reason, scope=destination.scope)


@transaction.atomic
def resume(destination: WebhookDestination, *, actor: str, reason: str) -> None:
    """End a pause or a hold; an open breaker probes now."""
    WebhookDestination.objects.filter(pk=destination.pk).update(held_until=None, hold_reason="")
    record.note(actor, "destination.resume", str(destination), reason, scope=destination.scope)
    outbox.wake()


def disable(destination: WebhookDestination, *, actor: str, reason: str) -> int:
    """Send nothing there until it is enabled; what waits for it becomes dead letters.

    The backlog is ended in batches, outside the transaction that disables, so that a million
    pending messages are not locked for long; after a crash the engines do the rest.

    Returns: the messages ended by this call; an engine may have ended others meanwhile.
    """
    rows = WebhookDestination.objects.filter(pk=destination.pk)
    with transaction.atomic():
        # If it was disabled before, the first time and reason are kept.
        rows.filter(disabled_at=None).update(disabled_at=Now(), disabled_reason=reason[:300])
        record.note(actor, "destination.disable", str(destination), reason, scope=destination.scope)
    return outbox.bury_disabled()


@transaction.atomic
def enable(destination: WebhookDestination, *, actor: str, reason: str) -> None:
    """Let messages go there again; dead letters from the time before need a replay."""
    WebhookDestination.objects.filter(pk=destination.pk).update(
        disabled_at=None, disabled_reason="", held_until=None, hold_reason=""
    )
    record.note(actor, "destination.enable", str(destination), reason, scope=destination.scope)
    outbox.wake()


@transaction.atomic
def limit_in_flight(
    destination: WebhookDestination, limit: int | None, *, actor: str, reason: str
) -> None:
    """Set how many requests one engine may have in flight to it; None: the adaptive limit.

    Raises:
        ValueError: for a limit outside 1 to `MAX_IN_FLIGHT` (to stop everything, pause it).
    """
    if limit is not None and not 1 <= limit <= MAX_IN_FLIGHT:
        raise ValueError(f"the limit is 1 to {MAX_IN_FLIGHT}, or empty")
    WebhookDestination.objects.filter(pk=destination.pk).update(max_in_flight=limit)
    record.note(
        actor,
        "destination.limit",
        f"{destination}: {limit or 'adaptive'}",
        reason,
        scope=destination.scope,
    )


@transaction.atomic
def ping(destination: WebhookDestination, *, actor: str, reason: str) -> WebhookMessage:
    """Send a test event, once and without retries, to the destination's last used URL.

    Raises:
        NothingToPing: the project has no message and no endpoint with a URL there.
    """
    target = _latest_target(destination)
    message = send_ping(destination.scope, target)
    record.note(actor, "destination.ping", str(destination), reason, scope=destination.scope)
    return message


def _latest_target(destination: WebhookDestination) -> outbox.Target:
    rows = WebhookMessage.objects.filter(destination=destination).select_related("endpoint")
    latest = rows.order_by("-id").first()
    if latest is not None:
        return outbox.Target(latest.url, (), latest.endpoint, latest.callback_auth)
    for endpoint in WebhookEndpoint.objects.filter(scope=destination.scope):
        if outbox.destination_of(endpoint.scope, endpoint.url)[0] == destination.pk:
            return outbox.Target(endpoint.url, (), endpoint, endpoint.callback_auth)
    raise NothingToPing("No message was ever written to it, so there is no URL to ping.")
