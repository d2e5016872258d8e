"""How does an operator find a task, watch it run, and look at what it made?"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import mark_safe
from unfold.decorators import display

from tasks_app import events
from tasks_app.admin.media import previews as shown_files
from tasks_app.admin.remote_jobs import shown_jobs
from tasks_app.media import previews
from tasks_app.models import Task, TaskStatus
from tasks_app.state import find, lifecycle, remote
from tasks_app.state.costs import BudgetExhausted
from tasks_app.state.submit import NotRetryable, QueueFull, retry
from tasks_app.task_types import choices
from webhooks_app.admin.base import Operation, ReadOnlyAdmin, cell, record_action, utc
from webhooks_app.admin.lists import (
    SEARCHED_BY,
    KnownValuesFilter,
    QuietChangeList,
    WrittenFilter,
)
from webhooks_app.admin.messages import STATUS_TONES as MESSAGE_TONES
from webhooks_app.models import MessageStatus, WebhookMessage
from webhooks_app.operators.explain import seconds_text
from webhooks_app.shown import safe_url, visible

STATUS_TONES = {
    "queued": "base",
    "processing": "info",
    "completed": "success",
    "failed": "danger",
    "cancelled": "warning",
}
SHOWN_MESSAGES = 50


class StatusFilter(KnownValuesFilter):
    title = "state"
    parameter_name = column = "status"
    values = TaskStatus.choices


class TypeFilter(KnownValuesFilter):
    title = "type"
    parameter_name = column = "task_type"
    values = choices()


class WebhookFilter(KnownValuesFilter):
    """By the state of a task's webhooks; of tasks with many, only those of the newest messages."""

    title = "webhook (newest)"
    parameter_name = "webhook"
    # Nearly all are delivered, so that is no choice, and has no index.
    values = [choice for choice in MessageStatus.choices if choice[0] != MessageStatus.DELIVERED]

    def chosen(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        return find.with_webhook(queryset, value)


class TaskList(QuietChangeList):
    """Adds to each row how its webhooks stand: one statement for all of them."""

    result_list: Any

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        standing = find.webhooks_of(self.result_list)
        for row in self.result_list:
            row.webhook_state = standing[str(row.pk)]["state"]


def webhook_state(state: str) -> tuple[str, str]:
    """Return tone and words for the state of a task's webhooks."""
    words = "-" if state == "none" else MessageStatus(state).label
    return (MESSAGE_TONES.get(state, "base"), words)


def took(row: Task) -> str:
    """Return how long the last run took, or has taken so far."""
    if row.started_at is None:
        return "-"
    return seconds_text(((row.finished_at or timezone.now()) - row.started_at).total_seconds())


def live(row: Task) -> dict[str, Any]:
    """Return the state for which a task's page polls until the task has ended."""
    return {
        "state": row.status,
        "percent": round(100 * row.progress, 1),
        "preview": _preview_url(row),
        "text": _why_queued(row) or visible(row.current_step) or row.get_status_display(),
        "took": took(row),
        "version": row.version,
        "is_over": row.is_terminal,
    }


def _preview_url(row: Task) -> str:
    """Return where the newest preview is, another address for each; empty if there is none."""
    if not previews.has_one(row):
        return ""
    turn = int(time.time() / previews.PREVIEW_SECONDS)
    return f"{reverse('admin:tasks_app_task_preview', args=[row.pk])}?turn={turn}"


def _why_queued(row: Task) -> str:
    """Return for what a queued task waits, where that is not just its turn."""
    if row.status != TaskStatus.QUEUED:
        return ""
    if text := remote.why_stranded(row.task_type, row.waits_for):
        return f"{text} It ends when its time is over."
    return f"waiting for room at {row.waits_for.partition(':')[0]}" if row.waits_for else ""


def _cancel(request: HttpRequest, row: Task, cleaned: dict[str, Any]) -> str:
    try:
        lifecycle.cancel(row.pk)
    except lifecycle.AlreadyEnded as error:
        raise ValueError(str(error)) from error
    record_action(request, "task.cancel", str(row.pk), cleaned["reason"], row.project_id)
    return "The task is cancelled; its render ends within two seconds."


def _retry(request: HttpRequest, row: Task, cleaned: dict[str, Any]) -> str:
    try:
        submission = retry(row)
    except (BudgetExhausted, NotRetryable, QueueFull) as error:
        raise ValueError(str(error)) from error
    target = f"{row.pk} as {submission.task.pk}"
    record_action(request, "task.retry", target, cleaned["reason"], row.project_id)
    return f"A new task with the same input is queued: {submission.task.pk}."


@admin.register(Task)
class TaskAdmin(ReadOnlyAdmin):
    class Media:
        """Refresh the list while a task on it is running."""

        js = ("webhooks_app/live.js",)

    page_template = "tasks_app/task.html"
    list_display = [
        "short_id",
        "task_type",
        "project_id",
        "shown_status",
        "webhook",
        "bar",
        "took",
        "at_made",
    ]
    list_display_links = ["short_id"]
    list_filter = [StatusFilter, TypeFilter, WebhookFilter, WrittenFilter]
    search_fields = ["id"]
    search = staticmethod(find.search_tasks)
    search_help_text = SEARCHED_BY
    ordering = ["-created_at", "-id"]
    at_made = utc("created_at", "submitted")
    webhook = cell(
        "webhook",
        lambda row: webhook_state(row.webhook_state),
        label={tone: tone for tone in ("info", "success", "danger", "base", "warning")},
    )
    operations = (
        Operation(
            "cancel",
            "Cancel task",
            "tasks_app.change_task",
            "The task ends as cancelled, and its webhook says so.",
            _cancel,
            is_offered=lambda row: not row.is_terminal,
            icon="stop",
            is_dangerous=True,
        ),
        Operation(
            "retry",
            "Run again",
            "tasks_app.change_task",
            "Queues a new task with the same input. This one stays as it is.",
            _retry,
            is_offered=lambda row: row.status in ("failed", "cancelled"),
            icon="replay",
        ),
    )

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[QuietChangeList]:
        return TaskList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Task]:
        return super().get_queryset(request).defer("task_data", "result", "traceback", "metadata")

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> Any:
        try:
            task_id = uuid.UUID(object_id)
        except ValueError:
            return None
        return Task.objects.select_related("api_key").filter(pk=task_id).first()

    def page_context(self, request: HttpRequest, row: Task) -> dict[str, Any]:
        messages = WebhookMessage.objects.filter(event__subject=str(row.pk))
        shown = messages.select_related("event").defer("event__body").order_by("id")
        return {
            "title": f"{row.get_task_type_display().capitalize()}",
            "subtitle": str(row.pk),
            "tone": STATUS_TONES[row.status],
            "live": live(row),
            "webhook": webhook_state(find.webhooks_of([row])[str(row.pk)]["state"]),
            "live_url": reverse("admin:tasks_app_task_live", args=[row.pk]),
            "previews": shown_files(row),
            "messages_of_it": [
                (message, safe_url(message.url), MESSAGE_TONES[message.status])
                for message in shown[:SHOWN_MESSAGES]
            ],
            "remote_jobs": shown_jobs(row.remote_jobs.order_by("-created_at")),
            "callback": safe_url(row.callback_url) if row.callback_url else "none",
            "task_data": _pretty(row.task_data),
            "result": _pretty(events.result(row)) if row.result is not None else "",
            "metadata": visible(row.metadata or ""),
            "error": visible(row.error),
            "traceback": visible(row.traceback),
            "retries": list(row.retries.values_list("pk", flat=True)[:10]),
            "took": took(row),
        }

    def get_urls(self) -> list[URLPattern]:
        view, preview = map(self.admin_site.admin_view, (self.live_view, self.preview_view))
        return [
            path("<uuid:object_id>/live.json", view, name="tasks_app_task_live"),
            path("<uuid:object_id>/preview", preview, name="tasks_app_task_preview"),
            *super().get_urls(),
        ]

    def live_view(self, request: HttpRequest, object_id: uuid.UUID) -> JsonResponse:
        if not self.has_view_permission(request):
            return JsonResponse({}, status=403)
        return JsonResponse(live(self.find(request, str(object_id))))

    def preview_view(self, request: HttpRequest, object_id: uuid.UUID) -> HttpResponse:
        if not self.has_view_permission(request):
            return HttpResponse(status=403)
        picture = previews.of_task(self.find(request, str(object_id)))
        return HttpResponse(status=404) if picture is None else previews.answer(picture)

    @display(description="task")
    def short_id(self, row: Task) -> str:
        return format_html('<code title="{}">{}</code>', row.pk, str(row.pk)[:13])

    @display(description="state", label=STATUS_TONES)
    def shown_status(self, row: Task) -> Sequence[str]:
        return row.status, row.get_status_display()

    @display(description="progress")
    def bar(self, row: Task) -> str:
        """Show a progress bar, and the step or error; the script updates running ones."""
        return format_html(
            '<progress class="mv-progress" max="100" value="{}"{}></progress>'
            ' <span class="mv-faint">{}</span>',
            round(100 * row.progress),
            "" if row.is_terminal else mark_safe(" data-unfinished"),
            row.error_code if row.is_terminal else visible(row.current_step),
        )

    @display(description="took")
    def took(self, row: Task) -> str:
        return took(row)


def _pretty(value: Any) -> str:
    return visible(json.dumps(value, indent=2, ensure_ascii=False))
