"""What may an operator do to a destination, and how is it recorded?

The one place where a destination is paused, disabled, muted or pinged, for the admin, the API and
commands. Each function writes an `OperatorAction` in the same transaction.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from webhooks_app import news, outbox
from webhooks_app.models import (
    DISABLED,
    RECOVERED,
    WebhookDestination,
    WebhookEndpoint,
    WebhookMessage,
)
from webhooks_app.operators import record
from webhooks_app.operators.ping import send_ping

MAX_PAUSE_SECONDS = 86_400
MAX_MUTE_SECONDS = 30 * 86_400
MAX_IN_FLIGHT = 1_000
#: Destinations per transaction.
BATCH = 500


class NothingToPing(ValueError):
    """No URL of this destination is known, so no test event can be sent."""


class Act(StrEnum):
    """What can be done to one destination, or to many at once."""

    PAUSE = "pause"
    RESUME = "resume"
    DISABLE = "disable"
    ENABLE = "enable"
    MUTE = "mute"
    UNMUTE = "unmute"


#: The longest that each of those lasts that end by themselves, in seconds.
LONGEST = {Act.PAUSE: MAX_PAUSE_SECONDS, Act.MUTE: MAX_MUTE_SECONDS}

#: What each has become, as words for after its name.
DONE = {
    Act.PAUSE: "paused",
    Act.RESUME: "held back no longer",
    Act.DISABLE: "disabled",
    Act.ENABLE: "enabled",
    Act.MUTE: "muted",
    Act.UNMUTE: "muted no longer",
}


def pause(destination: WebhookDestination, seconds: int, *, actor: str, reason: str) -> None:
    """Hold the destination's messages; this uses up no retries.

    Raises:
        ValueError: not within 1 s to `MAX_PAUSE_SECONDS`.
    """
    act_on(Act.PAUSE, _alone(destination), seconds=seconds, actor=actor, reason=reason)


def resume(destination: WebhookDestination, *, actor: str, reason: str) -> None:
    """End a pause or a hold; an open breaker probes now."""
    act_on(Act.RESUME, _alone(destination), actor=actor, reason=reason)


def mute(destination: WebhookDestination, seconds: int, *, actor: str, reason: str) -> None:
    """Tell nobody for a while that it fails; messages are sent to it as before.

    Raises:
        ValueError: not within 1 s to `MAX_MUTE_SECONDS`.
    """
    act_on(Act.MUTE, _alone(destination), seconds=seconds, actor=actor, reason=reason)


def unmute(destination: WebhookDestination, *, actor: str, reason: str) -> None:
    """Tell again when it fails."""
    act_on(Act.UNMUTE, _alone(destination), actor=actor, reason=reason)


def disable(destination: WebhookDestination, *, actor: str, reason: str) -> int:
    """Send nothing there until it is enabled; what waits for it becomes dead letters.

    Returns: the messages ended by this call; an engine may have ended others meanwhile.
    """
    _each(Act.DISABLE, _alone(destination), actor, reason)
    return outbox.bury_disabled()


def enable(destination: WebhookDestination, *, actor: str, reason: str) -> None:
    """Let messages go there again; dead letters from the time before need a replay."""
    act_on(Act.ENABLE, _alone(destination), actor=actor, reason=reason)


def meant(
    act: Act, place: outbox.who.Place | None = None, scope: str | None = None
) -> QuerySet[WebhookDestination]:
    """Return the destinations that an action would change.

    Args:
        place: a host, or one origin, in all projects; None for every receiver.
        scope: only those of this project; None for all.
    """
    found = WebhookDestination.objects.filter(_possible(act))
    if place is not None:
        found = found.filter(place.condition)
    return found if scope is None else found.filter(scope=scope)


def act_on(
    act: Act,
    rows: QuerySet[WebhookDestination],
    *,
    actor: str,
    reason: str,
    seconds: int = 0,
) -> int:
    """Do the same to each destination, one line each in the record; return how many it were.

    A batch is one transaction. The backlog of disabled ones is ended in batches of its own, so that
    a million pending messages are not locked for long; after a crash the engines do the rest.

    Args:
        seconds: how long a pause lasts, or nobody is told.

    Raises:
        ValueError: not within 1 s to what is the `LONGEST` of this action.
    """
    if act in LONGEST and not 1 <= seconds <= LONGEST[act]:
        raise ValueError(f"{act} it for 1 to {LONGEST[act]} seconds")
    count = _each(act, rows, actor, reason, timedelta(seconds=seconds))
    if act == Act.DISABLE:
        outbox.bury_disabled()
    elif act in (Act.RESUME, Act.ENABLE) and count:
        outbox.wake()
    return count


def _each(
    act: Act,
    rows: QuerySet[WebhookDestination],
    actor: str,
    reason: str,
    length: timedelta = timedelta(0),
) -> int:
    ids = list(rows.order_by("pk").values_list("pk", flat=True))
    for begin in range(0, len(ids), BATCH):
        with transaction.atomic():
            batch = WebhookDestination.objects.filter(pk__in=ids[begin : begin + BATCH])
            _change(act, batch, reason, length)
            for row in batch.order_by("pk"):
                if act == Act.DISABLE:
                    news.tell_of(row.pk, DISABLED, "asked")
                elif act == Act.ENABLE and row.reported_state == "disabled":
                    news.tell_of(row.pk, RECOVERED, "asked")
                record.note(actor, f"destination.{act}", str(row), reason, scope=row.scope)
    return len(ids)


def _change(act: Act, rows: QuerySet[WebhookDestination], reason: str, length: timedelta) -> None:
    if act == Act.PAUSE:
        rows.update(held_until=Now() + length, hold_reason="paused")
    elif act == Act.RESUME:
        rows.update(held_until=None, hold_reason="")
    elif act == Act.DISABLE:
        # If it was disabled before, the first time and reason are kept.
        disabled = rows.filter(disabled_at=None)
        disabled.update(disabled_at=Now(), disabled_reason=reason[:300])
    elif act == Act.MUTE:
        rows.update(muted_until=Now() + length)
    elif act == Act.UNMUTE:
        rows.update(muted_until=None)
    else:
        rows.update(disabled_at=None, disabled_reason="", held_until=None, hold_reason="")


def _possible(act: Act) -> Q:
    if act == Act.RESUME:
        return Q(held_until__gt=Now(), disabled_at=None)
    if act in (Act.MUTE, Act.UNMUTE):
        return Q(muted_until__gt=Now()) if act == Act.UNMUTE else Q()
    return Q(disabled_at__isnull=act != Act.ENABLE)


def _alone(destination: WebhookDestination) -> QuerySet[WebhookDestination]:
    return WebhookDestination.objects.filter(pk=destination.pk)


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
