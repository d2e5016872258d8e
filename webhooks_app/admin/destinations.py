"""How does an operator see which receivers have problems, and pause, disable or mute them?"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from operator import attrgetter
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.functional import lazy
from django.utils.http import urlencode

from webhooks_app.admin import destination_forms, replay_forms
from webhooks_app.admin.base import Operation, ReadOnlyAdmin, actor, cell, sent_ping
from webhooks_app.admin.destination_forms import CHANGE
from webhooks_app.admin.lists import SEARCHED_BY, KnownValuesFilter
from webhooks_app.admin.theme import action, display
from webhooks_app.models import OperatorAction, WebhookDelivery, WebhookDestination, WebhookMessage
from webhooks_app.operators import destinations
from webhooks_app.operators.explain import longest_wait, seconds_text, standing, why_held
from webhooks_app.outbox import search_destinations

# Counting a destination's backlog stops here.
BACKLOG_LIMIT = 10_000


def _pause(request: HttpRequest, row: WebhookDestination, cleaned: dict[str, Any]) -> str:
    seconds = 60 * cleaned["minutes"]
    destinations.pause(row, seconds, actor=actor(request), reason=cleaned["reason"])
    return f"{row.origin} is paused for {cleaned['minutes']} minutes."


def _mute(request: HttpRequest, row: WebhookDestination, cleaned: dict[str, Any]) -> str:
    seconds = 3600 * cleaned["hours"]
    destinations.mute(row, seconds, actor=actor(request), reason=cleaned["reason"])
    return f"{row.origin} is muted for {cleaned['hours']} hours."


def _what_a_pause_does() -> str:
    return f"Messages wait and lose no retry; after {longest_wait()} they are dead letters."


def _perform(act: Callable[..., Any], said: str) -> Callable[..., str]:
    def perform(request: HttpRequest, row: WebhookDestination, cleaned: dict[str, Any]) -> str:
        act(row, actor=actor(request), reason=cleaned["reason"])
        return f"{row.origin} {said}"

    return perform


def _limit(request: HttpRequest, row: WebhookDestination, cleaned: dict[str, Any]) -> str:
    destinations.limit_in_flight(
        row, cleaned["limit"], actor=actor(request), reason=cleaned["reason"]
    )
    return f"The limit of {row.origin} is {cleaned['limit'] or 'adaptive'} now."


def _ping(request: HttpRequest, row: WebhookDestination, cleaned: dict[str, Any]) -> str:
    message = destinations.ping(row, actor=actor(request), reason=cleaned["reason"])
    return sent_ping(message)


def _is_muted(row: WebhookDestination) -> bool:
    return bool(row.muted_until and row.muted_until > timezone.now())


def ago(time: datetime | None) -> str:
    return f"{seconds_text((timezone.now() - time).total_seconds())} ago" if time else "never"


def _is_held(row: WebhookDestination) -> bool:
    return bool(row.held_until and row.held_until > timezone.now() and not row.disabled_at)


class HealthFilter(KnownValuesFilter):
    title = "health"
    parameter_name = "health"
    values = [
        ("disabled", "disabled"),
        ("held", "held back"),
        ("failing", "failing"),
        ("muted", "muted"),
    ]

    def chosen(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        conditions: dict[str, dict[str, Any]] = {
            "disabled": {"disabled_at__isnull": False},
            "held": {"held_until__gt": timezone.now()},
            "failing": {"failing_messages__gt": 0},
            "muted": {"muted_until__gt": timezone.now()},
        }
        return queryset.filter(**conditions[value])


@admin.register(WebhookDestination)
class DestinationAdmin(ReadOnlyAdmin):
    """One row per origin and project."""

    page_template = "webhooks_app/destination.html"
    actions = destination_forms.SELECTED
    actions_list = ["change_many", "resume_all"]
    list_display = ["origin", "project", "health", "in_a_row", "held", "succeeded", "failed"]
    list_filter = [HealthFilter]
    search_fields = ["host"]
    search = staticmethod(search_destinations)
    search_help_text = SEARCHED_BY
    ordering = ["-id"]
    health = cell(
        "health",
        lambda row: standing(row, timezone.now()),
        label={tone: tone for tone in ("danger", "warning", "success")},
    )
    project = cell("project", lambda row: row.scope or "installation")
    in_a_row = cell("failing in a row", attrgetter("failing_messages"))
    succeeded = cell("last success", lambda row: ago(row.last_success_at))
    failed = cell("last failure", lambda row: ago(row.last_failure_at))
    operations = (
        Operation(
            "ping",
            "Send a ping",
            CHANGE,
            "Sends a test event (webhook.ping), once, to the URL that was last written to at this "
            "destination. It waits like every other message while the destination is held back.",
            _ping,
            is_offered=lambda row: not row.disabled_at,
            icon="network_ping",
        ),
        Operation(
            "pause",
            "Pause",
            CHANGE,
            lazy(_what_a_pause_does, str)(),
            _pause,
            destination_forms.PauseForm,
            lambda row: not row.disabled_at,
            "pause",
        ),
        Operation(
            "resume",
            "Resume now",
            CHANGE,
            "Ends the pause, or lets the breaker try again at once.",
            _perform(destinations.resume, "is held back no longer."),
            is_offered=_is_held,
            icon="play_arrow",
        ),
        Operation(
            "disable",
            "Disable",
            CHANGE,
            "Nothing is sent there until somebody enables it. Waiting and new messages become "
            "dead letters, which can be replayed afterwards.",
            _perform(destinations.disable, "is disabled. What waited for it are dead letters now."),
            is_offered=lambda row: not row.disabled_at,
            icon="block",
            is_dangerous=True,
        ),
        Operation(
            "enable",
            "Enable",
            CHANGE,
            "New messages go there again. Dead letters stay dead until they are replayed.",
            _perform(destinations.enable, "is enabled. Its dead letters wait for a replay."),
            is_offered=lambda row: bool(row.disabled_at),
            icon="check",
        ),
        Operation(
            "mute",
            "Mute",
            CHANGE,
            "Nobody is told that it fails: not the alert on failing receivers, not the dashboard, "
            "not those who subscribed to endpoint.failing. Messages are sent to it as before.",
            _mute,
            destination_forms.MuteForm,
            is_offered=lambda row: not _is_muted(row),
            icon="notifications_off",
        ),
        Operation(
            "unmute",
            "Unmute",
            CHANGE,
            "It is told again when it fails.",
            _perform(destinations.unmute, "is muted no longer."),
            is_offered=_is_muted,
            icon="notifications",
        ),
        Operation(
            "limit",
            "Limit requests",
            CHANGE,
            "How many requests one engine may have open to this destination.",
            _limit,
            destination_forms.LimitForm,
            icon="speed",
        ),
    )

    def page_context(self, request: HttpRequest, row: WebhookDestination) -> dict[str, Any]:
        of_it = WebhookMessage.objects.filter(destination=row)
        latest = of_it.select_related("event").defer("event__body").order_by("-id")
        actions = OperatorAction.objects.filter(target__startswith=str(row)[:300])
        # Start from the attempts: few are open, while the backlog may be long.
        open_attempts = WebhookDelivery.objects.filter(outcome="pending", message__destination=row)
        tone, words = standing(row, timezone.now())
        replay_page = f"{reverse(replay_forms.FILTER_PAGE)}?"
        meant = {"status": "dead", "host": row.origin, "project": row.scope}
        return {
            "is_muted": _is_muted(row),
            "recover": replay_page + urlencode(meant)
            if request.user.has_perm(replay_forms.PERMISSION)
            else "",
            "set_aside": replay_page + urlencode({**meant, "what": replay_forms.SET_ASIDE}),
            "title": row.origin,
            "tone": tone,
            "words": words,
            "held_because": why_held(row),
            "elsewhere": WebhookDestination.objects.filter(
                scheme=row.scheme, host=row.host, port=row.port
            ).count()
            - 1,
            "under_way": open_attempts.count(),
            "waiting": of_it.filter(status="pending")[: BACKLOG_LIMIT + 1].count(),
            "last_success": ago(row.last_success_at),
            "last_failure": ago(row.last_failure_at),
            "latest": latest[:15],
            "actions": actions.order_by("-at")[:10],
        }

    def has_change_many_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm(CHANGE))

    def get_urls(self) -> list[URLPattern]:
        form = partial(destination_forms.change_many, self)
        view = self.admin_site.admin_view(form)
        name = "webhooks_app_webhookdestination"
        return [
            path("many/", view, name=f"{name}_change_many_form"),
            path("many/resume/", view, {"initial": "resume"}, name=f"{name}_resume_all_form"),
            *super().get_urls(),
        ]

    @action(description="Many at once", permissions=["change_many"], icon="checklist")
    def change_many(self, request: HttpRequest) -> HttpResponse:
        return redirect("admin:webhooks_app_webhookdestination_change_many_form")

    @action(description="Resume all", permissions=["change_many"], icon="play_arrow")
    def resume_all(self, request: HttpRequest) -> HttpResponse:
        return redirect("admin:webhooks_app_webhookdestination_resume_all_form")

    @display(description="held for")
    def held(self, row: WebhookDestination) -> str:
        if not _is_held(row) or row.held_until is None:
            return "-"
        return seconds_text((row.held_until - timezone.now()).total_seconds())
