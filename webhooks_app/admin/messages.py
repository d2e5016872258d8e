"""How does an operator find a message, read what happened to it, and replay it?"""

from __future__ import annotations

import hashlib
from functools import partial
from operator import attrgetter
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html

from webhooks_app.admin import replay_forms
from webhooks_app.admin.base import Operation, ReadOnlyAdmin, cell, clipped, utc
from webhooks_app.admin.lists import FAILING_ANSWERS, SEARCHED_BY, WrittenFilter, known_values
from webhooks_app.admin.theme import action
from webhooks_app.conf import webhook_settings
from webhooks_app.models import MessageStatus, OperatorAction, WebhookMessage
from webhooks_app.operators import ping
from webhooks_app.operators.explain import attempts, body_text, curl, explain, planned, policy_text
from webhooks_app.outbox import search_messages
from webhooks_app.retry import ERROR_CODES
from webhooks_app.shown import safe_url

STATUS_TONES = {
    "pending": "info",
    "delivered": "success",
    "dead": "danger",
    "superseded": "base",
    "cancelled": "warning",
    "replayed": "base",
    "set_aside": "base",
}
# Limits the page of a message that was replayed again and again to the newest attempts.
SHOWN_ATTEMPTS = 100
SHOWN_COPIES = 20
SHOWN_ACTIONS = 10


def live(row: WebhookMessage) -> dict[str, Any]:
    """Return the state for which a message's page polls; if it changes, the page reloads."""
    stands = f"{row.lease_token is not None:d}{row.is_waiting:d}"
    return {
        "state": row.status,
        "version": f"{row.attempt_count}.{row.retry_step}.{row.status}.{stands}",
        "is_over": row.status != "pending",
    }


@admin.register(WebhookMessage)
class MessageAdmin(ReadOnlyAdmin):
    """The outbox: one row per event and URL."""

    page_template = "webhooks_app/message.html"
    list_display = ["id", "shown_status", "event_type", "receiver", "tries", "last", "at_written"]
    list_display_links = ["id", "shown_status"]
    newest_first = ["-created_at"]
    list_filter = [
        known_values("state", "status", MessageStatus.choices),
        WrittenFilter,
        known_values(
            "event",
            "event__event_type",
            [(name, name) for name in replay_forms.EVENT_TYPES],
            parameter="event_type",
        ),
        known_values("last error", "last_error_code", [(code, code) for code in ERROR_CODES]),
        known_values("last failing answer", "last_status_code", FAILING_ANSWERS),
    ]
    list_select_related = ["event", "destination"]
    search_fields = ["id"]
    search = staticmethod(search_messages)
    search_help_text = SEARCHED_BY
    ordering = ["-id"]
    at_written = utc("created_at", "written")
    shown_status = cell(
        "state", lambda row: (row.status, row.get_status_display()), label=STATUS_TONES
    )
    event_type = cell(
        "event",
        lambda row: format_html(
            '{}<br><span class="mv-faint">{}</span>',
            row.event.event_type,
            row.event.scope or "installation",
        ),
    )
    receiver = cell("receiver", lambda row: clipped(row.url))
    tries = cell("attempts", attrgetter("attempt_count"))
    last = cell(
        "last answer",
        lambda row: (
            " ".join(str(v) for v in (row.last_status_code, row.last_error_code) if v) or "-"
        ),
    )
    actions = [replay_forms.replay_selected, replay_forms.set_selected_aside]
    actions_list = ["replay_with_filter"]
    operations = (
        Operation(
            name="replay",
            label="Replay",
            permission=replay_forms.PERMISSION,
            explain=(
                "The message is sent again under the same webhook-id, with a fresh signature and "
                "a full set of retries. A receiver that keeps to the guide ignores a second copy."
            ),
            perform=replay_forms.replay_row,
            form=replay_forms.ReplayForm,
            icon="replay",
        ),
        Operation(
            name="set-aside",
            label="Set aside",
            permission=replay_forms.PERMISSION,
            explain=(
                "It is kept and can be replayed, but it is no dead letter any more: it is in no "
                "count and no alert, and a replay of dead letters leaves it out."
            ),
            perform=replay_forms.set_row_aside,
            is_offered=lambda row: row.status == MessageStatus.DEAD,
            icon="archive",
        ),
        Operation(
            name="take-back",
            label="Take back",
            permission=replay_forms.PERMISSION,
            explain="It is a dead letter again.",
            perform=replay_forms.take_row_back,
            is_offered=lambda row: row.status == MessageStatus.SET_ASIDE,
            icon="unarchive",
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[WebhookMessage]:
        """Leave out the bodies; the page fetches its own."""
        return super().get_queryset(request).defer("event__body")

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> Any:
        if not object_id.isascii() or not object_id.isdigit() or len(object_id) > 18:
            return None
        related = WebhookMessage.objects.select_related(
            "event", "destination", "endpoint", "replay"
        )
        return related.filter(pk=int(object_id)).first()

    def has_replay_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("webhooks_app.replay_webhooks"))

    def page_context(self, request: HttpRequest, row: WebhookMessage) -> dict[str, Any]:
        newest = list(row.deliveries.order_by("-attempt_number")[:SHOWN_ATTEMPTS])
        body, now = bytes(row.event.body), timezone.now()
        before = ""
        if row.is_waiting:
            ids = WebhookMessage.objects.filter(pk=row.after_id or 0)
            before = ids.values_list("event__event_id", flat=True).first() or ""
        return {
            "title": f"Message {row.pk}",
            "explanation": explain(row, now, before),
            "before": before,
            "planned": planned(row, now),
            "live": live(row),
            "attempts": attempts(newest[::-1]),
            "hidden_attempts": max(0, row.attempt_count - len(newest)),
            "url": safe_url(row.url),
            "policy": policy_text(row),
            "body": body_text(body),
            "body_size": len(body),
            "body_sha256": hashlib.sha256(body).hexdigest(),
            "curl": curl(row),
            "task_page": self.task_page(row),
            "tone": STATUS_TONES[row.status],
            "originals": row.replay_of.order_by("pk").values_list("pk", flat=True)[:SHOWN_COPIES],
            "actions": OperatorAction.objects.filter(
                target=f"message {row.pk}", action__startswith="message."
            ).order_by("-at")[:SHOWN_ACTIONS],
        }

    def name_of(self, row: WebhookMessage) -> str:
        return f"Message {row.pk}: {row.event.event_type} to {safe_url(row.url)}"

    def task_page(self, row: WebhookMessage) -> str:
        """Return the URL of the subject's page, if the project names one."""
        pattern = webhook_settings.SUBJECT_ADMIN
        is_ping = row.event.event_type == ping.PING
        return reverse(pattern, args=[row.event.subject]) if pattern and not is_ping else ""

    def get_urls(self) -> list[URLPattern]:
        form = partial(replay_forms.replay_with_filter, self)
        view, live = map(self.admin_site.admin_view, (form, self.live))
        name = "webhooks_app_webhookmessage"
        return [
            path("replay/", view, name=f"{name}_replay_with_filter_form"),
            path("<path:object_id>/live.json", live, name=f"{name}_live"),
            *super().get_urls(),
        ]

    def live(self, request: HttpRequest, object_id: str) -> JsonResponse:
        if not self.has_view_permission(request):
            return JsonResponse({}, status=403)
        return JsonResponse(live(self.find(request, object_id)))

    @action(description="Replay with filter", permissions=["replay"], icon="replay")
    def replay_with_filter(self, request: HttpRequest) -> HttpResponse:
        return redirect("admin:webhooks_app_webhookmessage_replay_with_filter_form")
