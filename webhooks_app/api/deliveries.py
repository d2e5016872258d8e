"""What can a client ask about attempts, and how is one shown?"""

from __future__ import annotations

from typing import Any

from django.db.models import Q, QuerySet
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from webhooks_app.api.access import within
from webhooks_app.api.fields import Choice, MessageId, Moment, Named, ProjectId, Whole
from webhooks_app.api.openapi import extend_schema
from webhooks_app.api.pages import PageQuery, page_of, page_response
from webhooks_app.api.read import StrictObject, read_query
from webhooks_app.api.view import WebhookView
from webhooks_app.egress import MAX_URL_LENGTH
from webhooks_app.models import DeliveryOutcome, DeliveryTrigger, WebhookDelivery, WebhookEvent
from webhooks_app.outbox import destination_ids, event_types, read_event_type, who
from webhooks_app.retry import ERROR_CODES


class Conditions(StrictObject):
    """Parameters that lists and replays share."""

    task_id = Named(
        who.read_subject, required=False, max_length=64, help_text="Or its first 4 digits or more."
    )
    project_id = ProjectId(required=False)
    host = Named(
        who.read_place,
        required=False,
        max_length=MAX_URL_LENGTH,
        help_text="The receiver: a host, host:port, origin or URL.",
    )
    event_type = Named(read_event_type, known=event_types, required=False, max_length=60)
    request_id = Named(
        who.read_request_id,
        required=False,
        max_length=64,
        help_text="`X-Request-ID` of the request that led to the event.",
    )
    metadata = Named(
        who.read_metadata,
        required=False,
        max_length=2 * who.LONGEST_METADATA + 1,
        help_text="One member of the task's metadata, as `key=value`.",
    )
    status_code = Whole(100, 999, required=False)
    error_code = Choice(list(ERROR_CODES), required=False)
    since = Moment(required=False, help_text="Written at or after this time.")
    until = Moment(required=False, help_text="Written before this time.")


class DeliveryQuery(PageQuery, Conditions):
    """The query string of the list of attempts; the times are when they started."""

    outcome = Choice(DeliveryOutcome.values, required=False)
    message_id = MessageId(required=False)


class DeliverySerializer(serializers.ModelSerializer[WebhookDelivery]):
    """One attempt: what was sent, what came back, how long it took."""

    event_id = serializers.CharField(source="message.event.event_id", help_text="`webhook-id`")
    event_type = serializers.CharField(source="message.event.event_type")
    project_id = serializers.CharField(source="message.event.scope")
    task_id = serializers.CharField(source="message.event.subject")
    trigger = serializers.ChoiceField(DeliveryTrigger.choices)
    outcome = serializers.ChoiceField(DeliveryOutcome.choices)
    response_body = serializers.SerializerMethodField()
    phases = serializers.DictField(child=serializers.FloatField(), help_text="Milliseconds.")
    request_headers = serializers.DictField(child=serializers.CharField())
    response_headers = serializers.DictField()
    is_connection_reused = serializers.BooleanField()

    class Meta:
        model = WebhookDelivery
        fields: tuple[str, ...] = (
            "id",
            "message_id",
            "event_id",
            "event_type",
            "project_id",
            "task_id",
            "attempt_number",
            "trigger",
            "url",
            "outcome",
            "error_code",
            "error",
            "started_at",
            "duration_ms",
            "phases",
            "is_connection_reused",
            "reconnected",
            "request_headers",
            "response_status",
            "response_headers",
            "response_body",
            "is_truncated",
        )
        extra_kwargs = {
            "error": {
                "help_text": "Why it failed, in a sentence. Also a note on an answer that was odd "
                "behind its status line; such an attempt may have succeeded."
            }
        }

    def get_response_body(self, delivery: WebhookDelivery) -> str | None:
        """Return the kept bytes as text; bytes that are not UTF-8 become replacement characters."""
        if delivery.response_body is None:
            return None
        return bytes(delivery.response_body).decode(errors="replace")


class DeliveryListView(WebhookView):
    """Attempts, newest first."""

    @extend_schema(
        operation_id="listDeliveries",
        parameters=[DeliveryQuery],
        responses=page_of("DeliveryPage", DeliverySerializer),
    )
    def get(self, request: Request) -> Response:
        """List attempts."""
        asked = read_query(request, DeliveryQuery)
        found = _deliveries(request, asked)
        return page_response(
            request,
            found.select_related("message__event").defer("message__event__body"),
            asked,
            DeliverySerializer,
        )


def _deliveries(request: Request, asked: dict[str, Any]) -> QuerySet[WebhookDelivery]:
    found = within(request, WebhookDelivery.objects.all(), "message__destination__scope")
    lookups = {
        "outcome": "outcome",
        "status_code": "response_status",
        "error_code": "error_code",
        "since": "started_at__gte",
        "until": "started_at__lt",
        "event_type": "message__event__event_type",
        "request_id": "message__event__request_id",
        "project_id": "message__destination__scope",
    }
    for name, lookup in lookups.items():
        if name in asked:
            found = found.filter(**{lookup: asked[name]})
    if "task_id" in asked:
        subject = who.read_subject(asked["task_id"])
        found = found.filter(who.subject_condition(subject, "message__event__subject"))
    if "metadata" in asked:
        named = who.metadata_condition(
            WebhookEvent, "metadata", asked["metadata"], "message__event"
        )
        found = found.filter(named)
    if "message_id" in asked:
        found = found.filter(message_condition(asked["message_id"]))
    if "host" in asked:
        found = found.filter(message__destination__in=destination_ids(asked["host"]))
    return found


def message_condition(named: int | str) -> Q:
    """Return the condition on attempts of a message: its number, or its event's id."""
    if isinstance(named, int):
        return Q(message_id=named)
    return who.event_id_condition(named, "message__event__event_id")
