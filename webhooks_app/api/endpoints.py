"""What can a client do with subscriptions (endpoints)?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import orjson
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from webhooks_app.api.access import actor_of, check_host, project_of, within
from webhooks_app.api.credentials import CredentialName, not_bound
from webhooks_app.api.fields import (
    CallbackUrl,
    Field,
    Flag,
    FreeObject,
    Items,
    ProjectId,
    Refused,
    RetryPolicy,
    Text,
)
from webhooks_app.api.messages import MessageSerializer
from webhooks_app.api.openapi import (
    OpenApiResponse,
    extend_schema,
    extend_schema_field,
    inline_serializer,
)
from webhooks_app.api.pages import BY_TIME, PageQuery, TimeCursor, page_of, page_response
from webhooks_app.api.problems import ApiProblem, invalid
from webhooks_app.api.read import (
    Given,
    Members,
    StrictObject,
    found_row,
    read_body,
    read_query,
    read_uuid,
)
from webhooks_app.api.view import WebhookView, location
from webhooks_app.conf import webhook_settings
from webhooks_app.models import OF_PROJECTS, WebhookEndpoint
from webhooks_app.notation import EVENT_ID_PREFIX
from webhooks_app.operators import endpoints
from webhooks_app.operators.credentials import NotBound
from webhooks_app.outbox import filters
from webhooks_app.signing import store

#: A problem; the project says what one looks like.
REFUSED = OpenApiResponse(description="`endpoint_exists`, `too_many_endpoints`.")
_MEANT = ("event_id", "task_id", "body")
EMPTY = "Empty: every event of the project, but none of `endpoint.*`; those are to be named."
_EVENT_TYPE = re.compile(r"[a-z][a-z_]*(\.[a-z][a-z_]*)+")


def known_types() -> tuple[str, ...]:
    """Return what an endpoint of a project may name; empty where the project lets any type be."""
    known = webhook_settings.EVENT_TYPES
    return (*known, *OF_PROJECTS) if known else ()


class EventType(Text):
    """A dotted event type that this service sends."""

    def schema(self) -> dict[str, Any]:
        known = known_types()
        form = {"type": "string", "pattern": f"^{_EVENT_TYPE.pattern}$", "maxLength": 60}
        return {"enum": list(known)} if known else form

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        known = known_types()
        if known and text not in known:
            raise Refused("not_allowed", f"Must be one of: {', '.join(known)}.")
        if not _EVENT_TYPE.fullmatch(text):
            raise Refused("bad_format", "Use a dotted type, for example order.paid.")
        return text


class EventFilter(Field):
    """Conditions on an event's body; see `filters`. Each fault is told at its own place."""

    def schema(self) -> dict[str, Any]:
        inner: dict[str, Any] = {"type": "object", "additionalProperties": True}
        group = {"type": "array", "items": inner, "minItems": 1, "maxItems": filters.MAX_CONDITIONS}
        return {
            "type": "object",
            "description": "One of `all`, `any` and `not`, or a condition: `path`, `op`, `value`. "
            f"At most {filters.MAX_CONDITIONS} conditions in all.",
            "properties": {
                **{"all": group, "any": group, "not": inner},
                "path": {"type": "string", "description": "A JSON pointer into the body."},
                "op": {"enum": list(filters.OPS)},
                "value": {"description": "A text, number, boolean or null; for `in` a list."},
            },
            "additionalProperties": False,
            "minProperties": 1,
        }

    def to_internal_value(self, data: Any) -> Any:
        if found := filters.faults(data):
            raise ValidationError(_by_place(found))
        return data


def _by_place(found: Sequence[filters.Fault]) -> dict[str, Any]:
    """Return faults as the nested detail of which `field_problems` makes pointers."""
    root: dict[str, Any] = {}
    for fault in found:
        place = root
        for name in fault.pointer.split("/")[1:]:
            place = place.setdefault(name.replace("~1", "/").replace("~0", "~"), {})
        place.setdefault("non_field_errors", []).append(ErrorDetail(fault.message, fault.code))
    return root


class EndpointChange(StrictObject):
    """What can be changed on an endpoint."""

    url = CallbackUrl()
    event_types = Items(child=EventType(max_length=60), required=False, most=20, help_text=EMPTY)
    description = Text(required=False, allow_blank=True, max_length=200)
    filter = EventFilter(required=False, allow_null=True)
    ordered = Flag(
        required=False, help_text="Each event of a task waits for the one before; by default not."
    )
    retry_policy = RetryPolicy(required=False, allow_null=True)
    callback_auth = CredentialName(
        required=False, allow_blank=True, help_text="A credential's name; empty: none of its own."
    )
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
    filter = EventFilter(allow_null=True)
    retry_policy = RetryPolicy(allow_null=True)

    class Meta:
        model = WebhookEndpoint
        fields: tuple[str, ...] = (
            "id",
            "project_id",
            "url",
            "event_types",
            "description",
            "filter",
            "ordered",
            "retry_policy",
            "callback_auth",
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
        except NotBound as refused:
            raise invalid([not_bound(refused)]) from None
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
            defaults |= {"filter": None, "ordered": False, "is_enabled": True}
            asked = {**defaults, "callback_auth": "", **asked}
        if "url" in asked:
            check_host(request, asked["url"], "/url")
        try:
            endpoint = endpoints.update(endpoint, asked, actor=actor_of(request))
        except endpoints.EndpointRefused as refused:
            raise ApiProblem(409, refused.code, f"{refused}.") from None
        except NotBound as refused:
            raise invalid([not_bound(refused)]) from None
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


class DryRunRequest(StrictObject):
    """Which events to judge, by which filter."""

    event_id = Text(
        max_length=64,
        required=False,
        pattern=rf"{EVENT_ID_PREFIX}[0-9A-Za-z_-]{{1,60}}",
        shape="Use the webhook-id of an event, msg_...",
        help_text="An event of the endpoint's project.",
    )
    task_id = Text(max_length=64, required=False, help_text="Every event of this task.")
    body = FreeObject(required=False, help_text="What an event might say.")
    event_type = EventType(max_length=60, required=False, help_text="Of `body`.")
    filter = EventFilter(
        required=False, allow_null=True, help_text="In place of the endpoint's own; not saved."
    )

    def check(self, values: Members, data: Given, errors: Members) -> None:
        """Ask for exactly one of the three, and for a type only beside a body."""
        given = [name for name in _MEANT if name in data]
        if not given:
            message = "Give one of: event_id, task_id, body."
            errors["non_field_errors"] = [ErrorDetail(message, "required")]
        for name in given[1:]:
            errors.setdefault(name, [ErrorDetail("Give only one of the three.", "not_allowed")])
        if "event_type" in data and "body" not in data:
            message = "Only a body of your own has no type."
            errors.setdefault("event_type", [ErrorDetail(message, "not_allowed")])


class JudgedConditionSerializer(serializers.Serializer[Any]):
    """One condition, and what it saw."""

    pointer = serializers.CharField(help_text="Where it stands in the filter; empty: it is all.")
    path = serializers.CharField()
    op = serializers.CharField()
    value = serializers.SerializerMethodField(method_name="get_asked")
    seen = serializers.SerializerMethodField()
    seen_type = serializers.SerializerMethodField()
    holds = serializers.BooleanField()
    decided = serializers.BooleanField(help_text="Whether the result rests on it.")

    @extend_schema_field({"description": "As in the filter."})
    def get_asked(self, looked: filters.Looked) -> Any:
        return looked.value

    @extend_schema_field({"description": "The value there; long texts, objects and lists cut."})
    def get_seen(self, looked: filters.Looked) -> Any:
        return endpoints.shown_value(looked.seen)

    def get_seen_type(self, looked: filters.Looked) -> str:
        """Return a JSON type, or `missing`."""
        return filters.kind_of(looked.seen)


class DryRunSerializer(serializers.Serializer[Any]):
    """What would become of one event."""

    event_id = serializers.CharField(allow_null=True)
    event_type = serializers.CharField(allow_null=True)
    would_send = serializers.BooleanField()
    reason = serializers.CharField()
    conditions = JudgedConditionSerializer(many=True)


class EndpointDryRunView(WebhookView):
    """Try a filter out."""

    actions = {"POST": "read"}  # it only reads

    @extend_schema(
        operation_id="dryRunEndpoint",
        request=DryRunRequest,
        responses=inline_serializer("DryRunResults", {"results": DryRunSerializer(many=True)}),
    )
    def post(self, request: Request, endpoint_id: str) -> Response:
        """Say whether events would be sent to this endpoint, and which condition decides."""
        endpoint = find_endpoint(request, endpoint_id)
        asked = read_body(request, DryRunRequest)
        given = asked.get("filter", endpoint.filter)
        if "body" in asked:
            body, event_type = orjson.dumps(asked["body"]), asked.get("event_type")
            judged = [endpoints.judge(endpoint, given, body=body, event_type=event_type)]
        else:
            judged = [
                endpoints.judge(
                    endpoint,
                    given,
                    body=bytes(event.body),
                    event_type=event.event_type,
                    event_id=event.event_id,
                )
                for event in _events(endpoint.scope, asked)
            ]
        return Response({"results": DryRunSerializer(judged, many=True).data})


def _events(scope: str, asked: Members) -> Any:
    found = endpoints.events_of(
        scope, event_id=asked.get("event_id", ""), subject=asked.get("task_id", "")
    )
    if not found:
        pointer = "/event_id" if "event_id" in asked else "/task_id"
        message = "The endpoint's project has no such event."
        raise invalid([{"pointer": pointer, "code": "not_allowed", "message": message}])
    return found
