"""What is the progress of each replay, who started it, and how is one cancelled?"""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, JsonResponse
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import mark_safe

from webhooks_app.admin import replay_forms
from webhooks_app.admin.base import Operation, ReadOnlyAdmin, cell, utc
from webhooks_app.admin.dashboard import cached
from webhooks_app.admin.lists import SEARCHED_BY, known_values
from webhooks_app.admin.theme import display
from webhooks_app.models import ReplayJob, ReplayState, WebhookMessage
from webhooks_app.operators import replay_progress
from webhooks_app.outbox import search_replays
from webhooks_app.shown import safe_url, visible

STATE_TONES = {"running": "info", "finished": "success", "cancelled": "warning"}
SHOWN_MESSAGES = 25


def percent(row: ReplayJob) -> float:
    """Return how much of a replay is done, 0..100."""
    if row.state == "finished":
        return 100.0
    done = row.started_count + row.skipped_count
    return min(100.0, 100 * done / row.total) if row.total else 0.0


def progress(row: ReplayJob) -> dict[str, Any]:
    """Return the progress for which the page polls, and whether all is sent."""
    # For a replay of a million the count is cached for ten times as long as it took.
    seen = cached(
        f"replay:{row.pk}:{row.state}", lambda: replay_progress.progress(row), seconds=0.5
    )
    left = max(0, row.total - row.started_count - row.skipped_count)
    steps = [f"{row.started_count:,} of {row.total:,} made due", f"{row.skipped_count:,} skipped"]
    if row.state == "running":
        steps.append(f"{left:,} to go")
    return {
        "state": row.state,
        "percent": round(percent(row), 1),
        "text": ", ".join(steps),
        "delivered": f"{seen.delivered:,}",
        "pending": f"{seen.pending:,}",
        "dead": f"{seen.dead:,}",
        "otherwise": f"{seen.ended_otherwise:,}",
        "is_over": row.state != "running" and not seen.pending,
    }


@admin.register(ReplayJob)
class ReplayAdmin(ReadOnlyAdmin):
    """Every replay, including those of one message."""

    class Media:
        """Refresh the list while a replay on it is running."""

        js = ("webhooks_app/live.js",)

    page_template = "webhooks_app/replay.html"
    list_display = ["at_started", "requested_by", "source", "shown_state", "bar", "reason"]
    list_filter = [known_values("state", "state", ReplayState.choices)]
    search_fields = ["id"]
    search = staticmethod(search_replays)
    search_help_text = SEARCHED_BY
    ordering = ["-created_at"]
    at_started = utc("created_at", "started")
    shown_state = cell("state", lambda row: (row.state, row.get_state_display()), label=STATE_TONES)
    operations = (
        Operation(
            "cancel",
            "Cancel this replay",
            "webhooks_app.replay_webhooks",
            "Messages it has not reached stay as they are; those it made due are still sent.",
            replay_forms.cancel_replay,
            is_offered=lambda row: row.state == "running",
            icon="stop",
            is_dangerous=True,
        ),
    )

    def page_context(self, request: HttpRequest, row: ReplayJob) -> dict[str, Any]:
        messages = WebhookMessage.objects.filter(replay=row).select_related("event")
        return {
            "title": f"Replay by {row.requested_by}",
            "filters": [(name, visible(str(value))) for name, value in row.filters.items()],
            "target": safe_url(row.target_url) if row.target_url else "",
            "progress": progress(row),
            "tone": STATE_TONES[row.state],
            "started": messages.defer("event__body")[:SHOWN_MESSAGES],
        }

    def get_urls(self) -> list[URLPattern]:
        live = self.admin_site.admin_view(self.live)
        name = "webhooks_app_replayjob_live"
        return [path("<path:object_id>/live.json", live, name=name), *super().get_urls()]

    def live(self, request: HttpRequest, object_id: str) -> JsonResponse:
        if not self.has_view_permission(request):
            return JsonResponse({}, status=403)
        return JsonResponse(progress(self.find(request, object_id)))

    @display(description="progress")
    def bar(self, row: ReplayJob) -> str:
        return format_html(
            '<progress class="mv-progress" max="100" value="{}"{}></progress> {} / {}',
            round(percent(row)),
            mark_safe(" data-unfinished") if row.state == "running" else "",
            row.started_count + row.skipped_count,
            row.total,
        )
