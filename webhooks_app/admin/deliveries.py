"""How does an operator look through single attempts?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html

from webhooks_app.admin.base import ReadOnlyAdmin, utc
from webhooks_app.admin.lists import FAILING_ANSWERS, KnownValuesFilter, SinceFilter
from webhooks_app.admin.replay_forms import EVENT_TYPES
from webhooks_app.admin.theme import display
from webhooks_app.models import DeliveryOutcome, DeliveryTrigger, WebhookDelivery
from webhooks_app.operators.explain import seconds_text, summary
from webhooks_app.outbox import deliveries_of_event, search_deliveries
from webhooks_app.retry import ERROR_CODES
from webhooks_app.shown import safe_url

OUTCOME_TONES = {
    "pending": "info",
    "succeeded": "success",
    "failed": "danger",
    "interrupted": "warning",
}


class OutcomeFilter(KnownValuesFilter):
    title = "outcome"
    parameter_name = column = "outcome"
    values = DeliveryOutcome.choices


class StartedFilter(SinceFilter):
    title = "time"
    column = "started_at"


class TriggerFilter(KnownValuesFilter):
    """By trigger; nearly all attempts are scheduled ones, so that is no choice."""

    title = "trigger"
    parameter_name = column = "trigger"
    values = [choice for choice in DeliveryTrigger.choices if choice[0] != "scheduled"]


class DeliveryEventFilter(KnownValuesFilter):
    """By event type; of a type with many events, only the newest."""

    title = "event (newest)"
    parameter_name = "event_type"
    values = [(name, name) for name in EVENT_TYPES]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.value()
        return deliveries_of_event(queryset, chosen) if chosen in EVENT_TYPES else queryset


class DeliveryErrorFilter(KnownValuesFilter):
    title = "error code"
    parameter_name = column = "error_code"
    values = [(code, code) for code in ERROR_CODES]


class DeliveryAnswerFilter(KnownValuesFilter):
    title = "failing answer"
    parameter_name = column = "response_status"
    values = FAILING_ANSWERS


@admin.register(WebhookDelivery)
class DeliveryAdmin(ReadOnlyAdmin):
    """Every attempt; its page is its place in the message's timeline."""

    list_display = ["number", "shown_outcome", "status", "receiver", "event", "took", "at_started"]
    list_filter = [
        OutcomeFilter,
        StartedFilter,
        DeliveryEventFilter,
        TriggerFilter,
        DeliveryErrorFilter,
        DeliveryAnswerFilter,
    ]
    list_select_related = ["message__event"]
    search_fields = ["id"]
    search_help_text = "Number, task id, msg_…, project, host (newest)"
    ordering = ["-id"]
    at_started = utc("started_at", "started")

    def get_queryset(self, request: HttpRequest) -> QuerySet[WebhookDelivery]:
        """Defer columns that a list does not show, up to 64 KiB per row."""
        return (
            super()
            .get_queryset(request)
            .defer("response_body", "response_headers", "request_headers", "message__event__body")
        )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Search only what an index can answer."""
        return search_deliveries(queryset, search_term), False

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

    @display(description="attempt")
    def number(self, row: WebhookDelivery) -> str:
        return f"{row.message_id} #{row.attempt_number}"

    @display(description="outcome", label=OUTCOME_TONES)
    def shown_outcome(self, row: WebhookDelivery) -> Sequence[str]:
        return row.outcome, row.get_outcome_display()

    @display(description="answer")
    def status(self, row: WebhookDelivery) -> str:
        text = str(row.response_status or row.error_code or "-")
        return format_html('<span title="{}">{}</span>', summary(row), text)

    @display(description="receiver")
    def receiver(self, row: WebhookDelivery) -> str:
        return format_html('<span class="mv-clip">{}</span>', safe_url(row.url))

    @display(description="event")
    def event(self, row: WebhookDelivery) -> str:
        return row.message.event.event_type

    @display(description="took")
    def took(self, row: WebhookDelivery) -> str:
        return "-" if row.duration_ms is None else seconds_text(row.duration_ms / 1000)
