"""How does an operator see how the providers' servers stand, and pause one?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils import timezone

from tasks_app import remote_servers
from tasks_app.admin.remote_jobs import TONES, clipped_words, shown_jobs
from tasks_app.models import RemoteJob, RemoteServer
from tasks_app.remote_servers import Load, Standing
from webhooks_app.admin.base import Operation, ReadOnlyAdmin, actor, cell
from webhooks_app.admin.lists import QuietChangeList
from webhooks_app.models import OperatorAction
from webhooks_app.operators.explain import seconds_text
from webhooks_app.shown import visible

CHANGE = "tasks_app.change_remoteserver"


def _perform(act: Callable[..., bool], said: str) -> Callable[..., str]:
    def perform(request: HttpRequest, row: RemoteServer, cleaned: dict[str, Any]) -> str:
        done = act(row.provider, row.label, actor=actor(request), reason=cleaned["reason"])
        if not done:
            raise ValueError("Somebody else was first; this is how it stands now.")
        return f"{row} {said}"

    return perform


class ServerList(QuietChangeList):
    """Adds to each row how the server stands: two statements for all of them."""

    result_list: Any

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        found = remote_servers.standing()
        self.result_list = list(self.result_list)
        for row in self.result_list:
            row.standing = found[row.provider, row.label]


def _limit(limit: int | None) -> str:
    return "none" if limit is None else f"{limit:,}"


def busy_for(row: RemoteServer) -> str:
    """Return how long nothing is sent there, as the server wished."""
    now = timezone.now()
    if row.busy_until is None or row.busy_until <= now:
        return "-"
    return seconds_text((row.busy_until - now).total_seconds())


def _stops(load: Load) -> str:
    if not load.stops_owed:
        return "-"
    return f"{load.stops_owed:,} for {seconds_text(load.stop_seconds(timezone.now()))}"


def _answered(load: Load) -> str:
    if load.answered_at is None:
        return "-"
    return f"{seconds_text(load.silent_seconds(timezone.now()))} ago"


@admin.register(RemoteServer)
class RemoteServerAdmin(ReadOnlyAdmin):
    """Every server that is configured, or that ever had a job."""

    page_template = "tasks_app/remote_server.html"
    list_display = ["server", "how", "running", "limits", "stops", "busy", "answered", "error"]
    ordering = ["provider", "label"]
    server = cell("server", str)
    how = cell("state", lambda row: row.standing.state(timezone.now()), label=TONES)
    running = cell("running", lambda row: f"{row.standing.load.places_used:,}")
    limits = cell(
        "limit: set / learned",
        lambda row: f"{_limit(row.standing.limit)} / {_limit(row.learned_limit)}",
    )
    stops = cell("stops owed", lambda row: _stops(row.standing.load))
    busy = cell("busy for", busy_for)
    answered = cell("last answer", lambda row: _answered(row.standing.load))
    error = cell("last error", lambda row: clipped_words(row.last_error))
    operations = (
        Operation(
            "pause",
            "Pause",
            CHANGE,
            "It gets no new jobs; those that run there go on. Tasks wait, or go to other servers "
            "of its pool. Their time runs on from their first claim.",
            _perform(remote_servers.pause, "is paused; what runs there goes on."),
            is_offered=lambda row: not row.is_paused,
            icon="pause",
        ),
        Operation(
            "resume",
            "Resume",
            CHANGE,
            "It gets jobs again, and waiting tasks begin within a second.",
            _perform(remote_servers.resume, "gets jobs again."),
            is_offered=lambda row: row.is_paused,
            icon="play_arrow",
        ),
    )

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[QuietChangeList]:
        return ServerList

    def page_context(self, request: HttpRequest, row: RemoteServer) -> dict[str, Any]:
        stands: Standing = remote_servers.standing()[row.provider, row.label]
        now = timezone.now()
        tone, words = stands.state(now)
        name = f"{row.provider}/{row.label}"
        jobs = RemoteJob.objects.filter(provider=row.provider, server=row.label)
        actions = OperatorAction.objects.filter(
            target=name, action__in=("remote_server.pause", "remote_server.resume")
        )
        return {
            "title": name,
            "tone": tone,
            "words": words,
            "load": stands.load,
            "limit": _limit(stands.limit),
            "learned": _limit(row.learned_limit),
            "stops": _stops(stands.load),
            "busy": busy_for(row),
            "answered": _answered(stands.load),
            "last_error": visible(row.last_error),
            "latest": shown_jobs(jobs.order_by("-created_at", "-id")[:15]),
            "actions": actions.order_by("-at")[:10],
        }
