"""How does an operator look through single attempts?"""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html

from webhooks_app.admin.base import ReadOnlyAdmin, cell, clipped, utc
from webhooks_app.admin.lists import (
    FAILING_ANSWERS,
    SEARCHED_BY,
    KnownValuesFilter,
    SinceFilter,
    known_values,
)
from webhooks_app.admin.replay_forms import EVENT_TYPES
from webhooks_app.models import DeliveryOutcome, DeliveryTrigger, WebhookDelivery
from webhooks_app.operators.explain import OUTCOME_TONES, seconds_text, summary
from webhooks_app.outbox import deliveries_of_event, search_deliveries
from webhooks_app.retry import ERROR_CODES


class StartedFilter(SinceFilter):
    title = "time"
    column = "started_at"


class DeliveryEventFilter(KnownValuesFilter):
    """By event type; of a type with many events, only the newest."""

    title = "event (newest)"
    parameter_name = "event_type"
    values = [(name, name) for name in EVENT_TYPES]

    def chosen(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        return deliveries_of_event(queryset, value)


@admin.register(WebhookDelivery)
class DeliveryAdmin(ReadOnlyAdmin):
    """Every attempt; its page is its place in the message's timeline."""

    list_display = ["number", "shown_outcome", "status", "receiver", "event", "took", "at_started"]
    list_filter = [
        known_values("outcome", "outcome", DeliveryOutcome.choices),
        StartedFilter,
        DeliveryEventFilter,
        # Nearly all attempts are scheduled ones, so that is no choice.
        known_values(
            "trigger", "trigger", [c for c in DeliveryTrigger.choices if c[0] != "scheduled"]
        ),
        known_values("error code", "error_code", [(code, code) for code in ERROR_CODES]),
        known_values("failing answer", "response_status", FAILING_ANSWERS),
    ]
    list_select_related = ["message__event"]
    search_fields = ["id"]
    search = staticmethod(search_deliveries)
    search_help_text = f"{SEARCHED_BY} (newest)"
    ordering = ["-id"]
    at_started = utc("started_at", "started")
    number = cell("attempt", lambda row: f"{row.message_id} #{row.attempt_number}")
    shown_outcome = cell(
        "outcome", lambda row: (row.outcome, row.get_outcome_display()), label=OUTCOME_TONES
    )
    status = cell(
        "answer",
        lambda row: format_html(
            '<span title="{}">{}</span>',
            summary(row),
            str(row.response_status or row.error_code or "-"),
        ),
    )
    receiver = cell("receiver", lambda row: clipped(row.url))
    event = cell("event", lambda row: row.message.event.event_type)
    took = cell(
        "took", lambda row: "-" if row.duration_ms is None else seconds_text(row.duration_ms / 1000)
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[WebhookDelivery]:
        """Defer columns that a list does not show, up to 64 KiB per row."""
        return (
            super()
            .get_queryset(request)
            .defer("response_body", "response_headers", "request_headers", "message__event__body")
        )

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        delivery = self.find(request, object_id or "")
        page = reverse("admin:webhooks_app_webhookmessage_change", args=[delivery.message_id])
        return HttpResponseRedirect(f"{page}#attempt-{delivery.attempt_number}")
