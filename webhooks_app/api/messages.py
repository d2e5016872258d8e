"""What can a client do with messages and their attempts?

Thin: parse the request, limit it to what the key may see, answer.
"""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from webhooks_app.api.access import scope_of
from webhooks_app.api.fields import read_id, read_query
from webhooks_app.api.message_requests import DeliveryQuery, MessageQuery, filters_of
from webhooks_app.api.openapi import extend_schema
from webhooks_app.api.pages import page_of, page_response, read_page
from webhooks_app.api.problems import not_found
from webhooks_app.api.serializers import (
    DeliverySerializer,
    MessageDetailSerializer,
    MessageSerializer,
)
from webhooks_app.api.view import WebhookView
from webhooks_app.models import WebhookDelivery, WebhookMessage
from webhooks_app.outbox import MessageFilters, messages_of


def visible_messages(request: Request) -> QuerySet[WebhookMessage]:
    """Return the messages that the key may see, with the rows that showing them needs."""
    found = messages_of(MessageFilters(), scope_of(request))
    return found.select_related("event", "destination")


def find_message(request: Request, text: str) -> WebhookMessage:
    """Return one message; 404 if it is absent or belongs to another project."""
    message = visible_messages(request).filter(pk=read_id(text)).first()
    if message is None:
        raise not_found()
    return message


class MessageListView(WebhookView):
    """Messages, newest first."""

    @extend_schema(
        operation_id="listMessages",
        parameters=[MessageQuery],
        responses=page_of("MessagePage", MessageSerializer),
    )
    def get(self, request: Request) -> Response:
        """List webhook messages."""
        asked = read_query(request, MessageQuery)
        found = messages_of(filters_of(asked), scope_of(request))
        rows, cursor = read_page(
            found.select_related("event", "destination").defer("event__body"),
            limit=asked["limit"],
            cursor=asked.get("cursor"),
        )
        return page_response(request, MessageSerializer(rows, many=True).data, cursor)


class MessageView(WebhookView):
    """One message."""

    @extend_schema(operation_id="getMessage", responses=MessageDetailSerializer)
    def get(self, request: Request, message_id: str) -> Response:
        """Show a message with its payload and every attempt."""
        return Response(MessageDetailSerializer(find_message(request, message_id)).data)


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
        found = _deliveries(asked, scope_of(request))
        rows, cursor = read_page(
            found.select_related("message__event").defer("message__event__body"),
            limit=asked["limit"],
            cursor=asked.get("cursor"),
        )
        return page_response(request, DeliverySerializer(rows, many=True).data, cursor)


def _deliveries(asked: dict[str, Any], scope: str | None) -> QuerySet[WebhookDelivery]:
    found = WebhookDelivery.objects.all()
    lookups = {
        "message_id": "message_id",
        "outcome": "outcome",
        "status_code": "response_status",
        "error_code": "error_code",
        "since": "started_at__gte",
        "until": "started_at__lt",
        "task_id": "message__event__subject",
        "event_type": "message__event__event_type",
        "project_id": "message__destination__scope",
    }
    for name, lookup in lookups.items():
        if name in asked:
            found = found.filter(**{lookup: asked[name]})
    if "host" in asked:
        found = found.filter(message__destination__host=asked["host"].lower().strip("[]"))
    return found if scope is None else found.filter(message__destination__scope=scope)
