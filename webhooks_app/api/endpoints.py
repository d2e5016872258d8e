"""What can a client do with subscriptions (endpoints)?"""

from __future__ import annotations

import re
from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from webhooks_app.api.access import actor_of, check_host, project_of, within
from webhooks_app.api.fields import CallbackUrl, Flag, Items, ProjectId, Refused, RetryPolicy, Text
from webhooks_app.api.messages import MessageSerializer
from webhooks_app.api.openapi import OpenApiResponse, extend_schema
from webhooks_app.api.pages import BY_TIME, PageQuery, TimeCursor, page_of, page_response
from webhooks_app.api.problems import ApiProblem
from webhooks_app.api.read import StrictObject, found_row, read_body, read_query, read_uuid
from webhooks_app.api.view import WebhookView, location
from webhooks_app.conf import webhook_settings
from webhooks_app.models import WebhookEndpoint
from webhooks_app.operators import endpoints
from webhooks_app.signing import store

#: A problem; the project says what one looks like.
REFUSED = OpenApiResponse(description="`endpoint_exists`, `too_many_endpoints`.")
_EVENT_TYPE = re.compile(r"[a-z][a-z_]*(\.[a-z][a-z_]*)+")


class EventType(Text):
    """A dotted event type that this service sends."""

    def schema(self) -> dict[str, Any]:
        known = webhook_settings.EVENT_TYPES
        form = {"type": "string", "pattern": f"^{_EVENT_TYPE.pattern}$", "maxLength": 60}
        return {"enum": list(known)} if known else form

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        known = webhook_settings.EVENT_TYPES
        if known and text not in known:
            raise Refused("not_allowed", f"Must be one of: {', '.join(known)}.")
        if not _EVENT_TYPE.fullmatch(text):
            raise Refused("bad_format", "Use a dotted type, for example order.paid.")
        return text


class EndpointChange(StrictObject):
    """What can be changed on an endpoint."""

    url = CallbackUrl()
    event_types = Items(
        child=EventType(max_length=60), required=False, most=20, help_text="Empty: all."
    )
    description = Text(required=False, allow_blank=True, max_length=200)
    retry_policy = RetryPolicy(required=False, allow_null=True)
    is_enabled = Flag(required=False)


class EndpointRequest(EndpointChange):
    """A new endpoint."""

    project_id = ProjectId(required=False, help_text="Only for a key bound to no project.")


class EndpointQuery(PageQuery):
    """The query string of the list of endpoints."""

    cursor = TimeCursor()
    project_id = ProjectId(required=False)


class EndpointSerializer(serializers.ModelSerializer[WebhookEndpoint]):
    """A subscription."""

    project_id = serializers.CharField(source="scope")
    event_types = serializers.ListField(child=serializers.CharField())
    retry_policy = RetryPolicy(allow_null=True)

    class Meta:
        model = WebhookEndpoint
        fields: tuple[str, ...] = (
            "id",
            "project_id",
            "url",
            "event_types",
            "description",
            "retry_policy",
            "is_enabled",
            "disabled_reason",
            "created_at",
        )


class EndpointWithSecretSerializer(EndpointSerializer):
    """A new subscription with the secret that signs for it."""

    secret = serializers.CharField(default="")

    class Meta(EndpointSerializer.Meta):
        fields: tuple[str, ...] = (*EndpointSerializer.Meta.fields, "secret")


def find_endpoint(request: Request, text: str) -> WebhookEndpoint:
    """Return one endpoint; 404 if it is absent or belongs to another project."""
    return found_row(within(request, WebhookEndpoint.objects.filter(pk=read_uuid(text))))


class EndpointListView(WebhookView):
    """Subscriptions."""

    actions = {"POST": "admin"}

    @extend_schema(
        operation_id="listEndpoints",
        parameters=[EndpointQuery],
        responses=page_of("EndpointPage", EndpointSerializer),
    )
    def get(self, request: Request) -> Response:
        """List endpoints."""
        asked = read_query(request, EndpointQuery)
        found = within(request, WebhookEndpoint.objects.all())
        if "project_id" in asked:
            found = found.filter(scope=asked["project_id"])
        return page_response(request, found, asked, EndpointSerializer, order=BY_TIME)

    @extend_schema(
        operation_id="createEndpoint",
        request=EndpointRequest,
        responses={201: EndpointWithSecretSerializer, 409: REFUSED},
    )
    def post(self, request: Request) -> Response:
        """Subscribe a URL to every event of a project, filtered by type."""
        asked = read_body(request, EndpointRequest)
        scope = project_of(request, asked.pop("project_id", None))
        check_host(request, asked["url"], "/url")
        try:
            endpoint = endpoints.create(scope, actor=actor_of(request), **asked)
        except endpoints.EndpointRefused as refused:
            raise ApiProblem(409, refused.code, f"{refused}.") from None
        secret = store.get_or_create(scope, endpoint.pk)
        body = {**EndpointSerializer(endpoint).data, "secret": secret}
        headers = location(request, "endpoint", endpoint.pk)
        return Response(body, 201, headers=headers)


class EndpointView(WebhookView):
    """One subscription."""

    actions = {"PATCH": "admin", "PUT": "admin", "DELETE": "admin"}

    @extend_schema(operation_id="getEndpoint", responses=EndpointSerializer)
    def get(self, request: Request, endpoint_id: str) -> Response:
        """Show an endpoint."""
        return Response(EndpointSerializer(find_endpoint(request, endpoint_id)).data)

    @extend_schema(
        operation_id="changeEndpoint",
        request=EndpointChange,
        responses={200: EndpointSerializer, 409: REFUSED},
    )
    def patch(self, request: Request, endpoint_id: str) -> Response:
        """Change an endpoint."""
        return self._change(request, endpoint_id, partial=True)

    @extend_schema(
        operation_id="replaceEndpoint",
        request=EndpointChange,
        responses={200: EndpointSerializer, 409: REFUSED},
    )
    def put(self, request: Request, endpoint_id: str) -> Response:
        """Replace an endpoint; settings that are not given become the default."""
        return self._change(request, endpoint_id, partial=False)

    @extend_schema(operation_id="deleteEndpoint", responses={204: None})
    def delete(self, request: Request, endpoint_id: str) -> Response:
        """End a subscription and what is pending for it."""
        endpoints.delete(find_endpoint(request, endpoint_id), actor=actor_of(request))
        return Response(status=204)

    @staticmethod
    def _change(request: Request, endpoint_id: str, *, partial: bool) -> Response:
        endpoint = find_endpoint(request, endpoint_id)
        asked = read_body(request, EndpointChange, partial=partial)
        if not partial:
            defaults: dict[str, Any] = {"event_types": [], "description": "", "retry_policy": None}
            asked = {**defaults, "is_enabled": True, **asked}
        if "url" in asked:
            check_host(request, asked["url"], "/url")
        try:
            endpoint = endpoints.update(endpoint, asked, actor=actor_of(request))
        except endpoints.EndpointRefused as refused:
            raise ApiProblem(409, refused.code, f"{refused}.") from None
        return Response(EndpointSerializer(endpoint).data)


class EndpointPingView(WebhookView):
    """Try an endpoint out."""

    actions = {"POST": "admin"}

    @extend_schema(operation_id="pingEndpoint", request=None, responses={202: MessageSerializer})
    def post(self, request: Request, endpoint_id: str) -> Response:
        """Send a `webhook.ping` event to this endpoint alone; the answer is the message."""
        endpoint = find_endpoint(request, endpoint_id)
        message = endpoints.ping(endpoint, actor=actor_of(request))
        headers = location(request, "message", message.pk)
        return Response(MessageSerializer(message).data, 202, headers=headers)
