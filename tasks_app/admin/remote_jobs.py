"""How does an operator see which work is at a provider, what became of it, and what it said?"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from tasks_app.models import RemoteJob, RemoteJobOutcome, RemoteJobState, RemoteServer
from tasks_app.state.find import search_by_task
from webhooks_app.admin.base import ReadOnlyAdmin, cell, utc
from webhooks_app.admin.lists import SEARCHED_BY, KnownValuesFilter, WrittenFilter, known_values
from webhooks_app.shown import visible

STATE_TONES = {
    "submitting": "info",
    "running": "info",
    "ready": "info",
    "stopping": "warning",
    "ended": "base",
}
OUTCOME_TONES = {
    "completed": "success",
    "failed": "danger",
    "stopped": "base",
    "unstopped": "danger",
    "lost": "warning",
    "unclear": "warning",
    "late": "warning",
}
TONES = {tone: tone for tone in ("success", "danger", "warning", "info", "base")}
SHOWN_JOBS = 20
#: What an operator should look after, and what to do about it.
ADVICE = {
    "owed": "The provider must still be told to stop this work; until then it may cost money. "
    "It is tried again for a day, with growing waits.",
    "unstopped": "The provider could not be told for a day. Look there whether it still runs.",
    "unclear": "The answer to its submit was lost, and with it its id there: nobody here knows "
    "whether it began. It is booked as paid; compare with the provider's bill.",
}


def is_stop_owed(row: RemoteJob) -> bool:
    """Say whether the provider must still be told to stop."""
    return row.state == RemoteJobState.STOPPING and row.stop_told_at is None


def told(row: RemoteJob) -> tuple[str, str]:
    """Return tone and words for how a job stands, or how it ended."""
    if row.outcome:
        return OUTCOME_TONES.get(row.outcome, "base"), row.get_outcome_display()
    if row.state == RemoteJobState.STOPPING:
        return "warning", "stop owed" if is_stop_owed(row) else "stopping"
    return STATE_TONES[row.state], row.get_state_display()


def short(key: uuid.UUID) -> str:
    """Return an id's beginning, which is enough to tell rows apart."""
    return format_html('<code class="mv-short" title="{}">{}</code>', key, str(key)[:13])


def clipped_words(words: str) -> str:
    """Return a provider's own words, cut off where their column ends."""
    text = visible(words)
    return format_html(
        '<span class="mv-clip mv-clip-short" title="{}">{}</span>', text, text or "-"
    )


def shown_jobs(jobs: Iterable[RemoteJob]) -> list[dict[str, Any]]:
    """Return jobs for ``remote_job_rows.html``."""
    return [
        {"job": job, "told": told(job), "note": visible(job.note)}
        for job in islice(jobs, SHOWN_JOBS)
    ]


class CareFilter(KnownValuesFilter):
    """What an operator should look after."""

    title = "look after"
    parameter_name = "care"
    values = [
        ("stop", "stops still owed"),
        ("unstopped", "could not be stopped"),
        ("unclear", "unclear: perhaps paid"),
    ]

    def chosen(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        if value == "stop":
            return queryset.filter(state=RemoteJobState.STOPPING, stop_told_at=None)
        return queryset.filter(outcome=value)


class ServerFilter(KnownValuesFilter):
    """By provider and server."""

    title = "server"
    parameter_name = "server"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, str]]:
        rows = RemoteServer.objects.order_by("provider", "label").values_list("provider", "label")
        names = [f"{provider}/{label}" for provider, label in rows]
        return [(name, name) for name in names]

    def chosen(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        provider, _, label = value.partition("/")
        return queryset.filter(provider=provider, server=label)


class ProviderFilter(KnownValuesFilter):
    """By provider, whatever the server."""

    title = parameter_name = "provider"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, str]]:
        rows = RemoteServer.objects.order_by("provider").values_list("provider", "provider")
        return list(rows.distinct())

    def chosen(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        return queryset.filter(provider=value)


@admin.register(RemoteJob)
class RemoteJobAdmin(ReadOnlyAdmin):
    """Rows are kept: they say what was paid for."""

    page_template = "tasks_app/remote_job.html"
    list_display = ["job", "how", "place", "task_of_it", "at_begun", "words"]
    list_filter = [
        CareFilter,
        known_values("state", "state", RemoteJobState.choices),
        known_values("outcome", "outcome", RemoteJobOutcome.choices),
        ProviderFilter,
        ServerFilter,
        WrittenFilter,
    ]
    search_fields = ["id"]
    search = staticmethod(partial(search_by_task, own="id"))
    search_help_text = f"{SEARCHED_BY}; or the id of a job"
    ordering = ["-created_at", "-id"]
    job = cell("job", lambda row: short(row.pk))
    how = cell("state", told, label=TONES)
    place = cell("server", lambda row: f"{row.provider}/{row.server}")
    task_of_it = cell(
        "task",
        lambda row: format_html(
            '<a href="{}">{}</a>',
            reverse("admin:tasks_app_task_change", args=[row.task_id]),
            short(row.task_id),
        ),
    )
    at_begun = utc("created_at", "begun")
    words = cell("note", lambda row: clipped_words(row.note))

    def get_queryset(self, request: HttpRequest) -> QuerySet[RemoteJob]:
        # Where the results lie may be a signed address, and the token lets one speak as a provider.
        return super().get_queryset(request).defer("outputs", "facts", "remote", "callback_token")

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> Any:
        try:
            job_id = uuid.UUID(object_id)
        except ValueError:
            return None
        return RemoteJob.objects.filter(pk=job_id).first()

    def page_context(self, request: HttpRequest, row: RemoteJob) -> dict[str, Any]:
        tone, words = told(row)
        server = RemoteServer.objects.filter(provider=row.provider, label=row.server).first()
        others = RemoteJob.objects.filter(task_id=row.task_id).exclude(pk=row.pk)
        return {
            "title": f"{row.provider}/{row.server}",
            "subtitle": str(row.pk),
            "tone": tone,
            "words": words,
            "advice": ADVICE.get("owed" if is_stop_owed(row) else row.outcome, ""),
            "advice_tone": "danger" if row.outcome == RemoteJobOutcome.UNSTOPPED else "warning",
            "server": server,
            "remote_id": visible(str(row.remote.get("id", ""))),
            "note": visible(row.note),
            "others": shown_jobs(others.order_by("-created_at")),
            "times": [
                ("Begun", row.created_at),
                ("Submit sent", row.asked_at),
                ("Last answer", row.seen_at),
                ("Stop owed since", row.stop_owed_at),
                ("Told to stop", row.stop_told_at),
                ("Ended", row.ended_at),
                ("Next look", None if row.ended_at else row.next_look_at),
                ("Time of the task ends", row.deadline),
            ],
        }
