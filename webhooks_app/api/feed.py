"""What can a client do with the pull feed, the events that are not acknowledged yet?"""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from webhooks_app import outbox
from webhooks_app.api.access import within
from webhooks_app.api.fields import Items, Named, ProjectId, Text
from webhooks_app.api.openapi import (
    OpenApiTypes,
    extend_schema,
    extend_schema_field,
    inline_serializer,
)
from webhooks_app.api.pages import OLDEST_FIRST, PageQuery, page_of, page_response
from webhooks_app.api.read import StrictObject, read_body, read_query
from webhooks_app.api.view import WebhookView
from webhooks_app.models import WebhookEvent
from webhooks_app.notation import Payload

MAX_ACKNOWLEDGED = 1_000


class EventQuery(PageQuery):
    """The query string of the pull feed."""

    project_id = ProjectId(required=False)
    event_type = Named(
        outbox.read_event_type, known=outbox.event_types, required=False, max_length=60
    )


class AcknowledgeRequest(StrictObject):
    """Which events have been dealt with."""

    ids = Items(child=Text(max_length=64), min_length=1, most=MAX_ACKNOWLEDGED)


class EventSerializer(serializers.ModelSerializer[WebhookEvent]):
    """An event, for clients of the pull feed."""

    id = serializers.CharField(source="event_id", help_text="`webhook-id`; what to acknowledge.")
    project_id = serializers.CharField(source="scope")
    task_id = serializers.CharField(source="subject")
    payload = serializers.SerializerMethodField()

    class Meta:
        model = WebhookEvent
        fields: tuple[str, ...] = (
            "id",
            "event_type",
            "project_id",
            "task_id",
            "sequence",
            "is_terminal",
            "created_at",
            "payload",
        )

    @extend_schema_field(OpenApiTypes.OBJECT)
    def get_payload(self, event: WebhookEvent) -> Any:
        """Return the body as receivers get it."""
        return Payload(bytes(event.body))


ACKNOWLEDGED = inline_serializer(
    "Acknowledged",
    {
        "acknowledged": serializers.IntegerField(help_text="Events that were not before."),
        "cancelled_messages": serializers.IntegerField(help_text="Deliveries called off."),
    },
)


class EventListView(WebhookView):
    """The pull feed."""

    @extend_schema(
        operation_id="listEvents",
        parameters=[EventQuery],
        responses=page_of("EventPage", EventSerializer),
    )
    def get(self, request: Request) -> Response:
        """List unacknowledged events, oldest first; the cursor only pages."""
        asked = read_query(request, EventQuery)
        found = within(request, WebhookEvent.objects.all()).filter(acknowledged_at=None)
        if "project_id" in asked:
            found = found.filter(scope=asked["project_id"])
        if "event_type" in asked:
            found = found.filter(event_type=asked["event_type"])
        return page_response(request, found, asked, EventSerializer, order=OLDEST_FIRST)


class AcknowledgeView(WebhookView):
    """Take events off the feed."""

    actions = {"POST": "submit"}

    @extend_schema(
        operation_id="acknowledgeEvents", request=AcknowledgeRequest, responses=ACKNOWLEDGED
    )
    def post(self, request: Request) -> Response:
        """Acknowledge events and cancel what is pending for them; unknown ids are ignored."""
        asked = read_body(request, AcknowledgeRequest)
        meant = within(request, WebhookEvent.objects.all()).filter(event_id__in=asked["ids"])
        return Response(outbox.acknowledge(meant))
