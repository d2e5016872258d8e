"""What does each address about subscriptions, secrets and the pull feed do?"""

from __future__ import annotations

import re
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now
from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from webhooks_app import endpoints, operator_record, stored_secrets
from webhooks_app.access import actor_of, check_host, project_of, scope_of
from webhooks_app.conf import webhook_settings
from webhooks_app.models import MessageStatus, WebhookEndpoint, WebhookEvent, WebhookMessage
from webhooks_app.pagination import page_response, read_page
from webhooks_app.problems import ApiProblem, not_found
from webhooks_app.requests import (
    CallbackUrl,
    Flag,
    Number,
    PageQuery,
    ProjectId,
    QuerySerializer,
    RetryPolicy,
    StrictSerializer,
    Text,
    read_body,
    read_query,
    read_uuid,
    refuse,
)
from webhooks_app.serializers import (
    EndpointSerializer,
    EndpointWithSecretSerializer,
    EventSerializer,
    MessageSerializer,
    SecretSerializer,
)
from webhooks_app.signing import jwks
from webhooks_app.views import page_of

_EVENT_TYPE = re.compile(r"[a-z][a-z_]*(\.[a-z][a-z_]*)+")
MAX_ACKNOWLEDGED = 1_000
WEEK_SECONDS = 7 * 86_400


class EventType(Text):
    """A dotted event type that this service sends."""

    def to_internal_value(self, data: Any) -> str:
        """Return the type."""
        text = super().to_internal_value(data)
        known = webhook_settings.EVENT_TYPES
        if known and text not in known:
            raise refuse("not_allowed", f"Must be one of: {', '.join(known)}.")
        if not _EVENT_TYPE.fullmatch(text):
            raise refuse("bad_format", "Use a dotted type, for example task.completed.")
        return text


class EndpointChange(StrictSerializer):
    """What can be changed on an endpoint."""

    url = CallbackUrl()
    event_types = serializers.ListField(
        child=EventType(max_length=60), required=False, max_length=20, help_text="Empty: all."
    )
    description = Text(required=False, allow_blank=True, max_length=200)
    retry_policy = RetryPolicy(required=False, allow_null=True)
    is_enabled = Flag(required=False)


class EndpointRequest(EndpointChange):
    """A new endpoint."""

    project_id = ProjectId(required=False, help_text="Only for a key bound to no project.")


class EndpointQuery(PageQuery):
    """The query string of the list of endpoints."""

    project_id = ProjectId(required=False)


class SecretQuery(QuerySerializer):
    """Whose secret: a project's, or that of one of its endpoints."""

    project_id = ProjectId(required=False, help_text="Only for a key bound to no project.")
    endpoint_id = serializers.UUIDField(required=False)


class RotateRequest(StrictSerializer):
    """The body of a rotation."""

    project_id = ProjectId(required=False, help_text="Only for a key bound to no project.")
    endpoint_id = serializers.UUIDField(required=False)
    overlap_seconds = Number(
        required=False,
        default=stored_secrets.OVERLAP_SECONDS,
        min_value=0,
        max_value=WEEK_SECONDS,
        help_text="How long the secret before signs on; 0 ends it at once.",
    )


class EventQuery(PageQuery):
    """The query string of the pull feed."""

    project_id = ProjectId(required=False)
    event_type = Text(required=False, max_length=60)


class AcknowledgeRequest(StrictSerializer):
    """Which events have been dealt with."""

    ids = serializers.ListField(
        child=Text(max_length=64), min_length=1, max_length=MAX_ACKNOWLEDGED
    )


ACKNOWLEDGED = inline_serializer(
    "Acknowledged",
    {
        "acknowledged": serializers.IntegerField(help_text="Events that were not before."),
        "cancelled_messages": serializers.IntegerField(help_text="Deliveries called off."),
    },
)


def visible_endpoints(request: Request) -> QuerySet[WebhookEndpoint]:
    """Return the endpoints that the key may see."""
    scope = scope_of(request)
    found = WebhookEndpoint.objects.all()
    return found if scope is None else found.filter(scope=scope)


def find_endpoint(request: Request, text: str) -> WebhookEndpoint:
    """Return one endpoint; 404 for absent ones and those of others alike."""
    endpoint = visible_endpoints(request).filter(pk=read_uuid(text)).first()
    if endpoint is None:
        raise not_found()
    return endpoint


class EndpointListView(APIView):
    """Subscriptions."""

    actions = {"POST": "admin"}

    @extend_schema(
        operation_id="webhook_endpoints_list",
        parameters=[EndpointQuery],
        responses=page_of("EndpointPage", EndpointSerializer),
    )
    def get(self, request: Request) -> Response:
        """List endpoints."""
        asked = read_query(request, EndpointQuery)
        found = visible_endpoints(request)
        if "project_id" in asked:
            found = found.filter(scope=asked["project_id"])
        rows, cursor = read_page(found, limit=asked["limit"], cursor=asked.get("cursor"))
        return page_response(request, EndpointSerializer(rows, many=True).data, cursor)

    @extend_schema(
        operation_id="webhook_endpoint_create",
        request=EndpointRequest,
        responses={201: EndpointWithSecretSerializer},
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
        secret = stored_secrets.get_or_create(scope, endpoint.pk)
        body = {**EndpointSerializer(endpoint).data, "secret": secret}
        headers = {"Location": f"/api/v1/webhooks/endpoints/{endpoint.pk}"}
        return Response(body, 201, headers=headers)


class EndpointView(APIView):
    """One subscription."""

    actions = {"PATCH": "admin", "PUT": "admin", "DELETE": "admin"}

    @extend_schema(operation_id="webhook_endpoint", responses=EndpointSerializer)
    def get(self, request: Request, endpoint_id: str) -> Response:
        """Show an endpoint."""
        return Response(EndpointSerializer(find_endpoint(request, endpoint_id)).data)

    @extend_schema(
        operation_id="webhook_endpoint_change",
        request=EndpointChange,
        responses=EndpointSerializer,
    )
    def patch(self, request: Request, endpoint_id: str) -> Response:
        """Change an endpoint."""
        return self._change(request, endpoint_id, partial=True)

    @extend_schema(
        operation_id="webhook_endpoint_replace",
        request=EndpointChange,
        responses=EndpointSerializer,
    )
    def put(self, request: Request, endpoint_id: str) -> Response:
        """Write an endpoint anew; what is not given becomes the default."""
        return self._change(request, endpoint_id, partial=False)

    @extend_schema(operation_id="webhook_endpoint_delete", responses={204: None})
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


class EndpointPingView(APIView):
    """Try an endpoint out."""

    actions = {"POST": "admin"}

    @extend_schema(
        operation_id="webhook_endpoint_ping", request=None, responses={202: MessageSerializer}
    )
    def post(self, request: Request, endpoint_id: str) -> Response:
        """Send a `webhook.ping` event to this endpoint alone; the answer is the message."""
        endpoint = find_endpoint(request, endpoint_id)
        message = endpoints.ping(endpoint, actor=actor_of(request))
        headers = {"Location": f"/api/v1/webhooks/messages/{message.pk}"}
        return Response(MessageSerializer(message).data, 202, headers=headers)


class SecretView(APIView):
    """The secret that signs."""

    actions = {"GET": "admin"}

    @extend_schema(
        operation_id="webhook_signing_secret",
        parameters=[SecretQuery],
        responses=SecretSerializer,
    )
    def get(self, request: Request) -> Response:
        """Show the signing secret, made on first use, and those that still overlap."""
        asked = read_query(request, SecretQuery)
        scope = project_of(request, asked.get("project_id"), parameter="project_id")
        return _secret(scope, _endpoint_of(scope, asked))


class SecretRotateView(APIView):
    """Change the secret that signs."""

    actions = {"POST": "admin"}

    @extend_schema(
        operation_id="webhook_signing_secret_rotate",
        parameters=[SecretQuery],
        request=RotateRequest,
        responses=SecretSerializer,
    )
    def post(self, request: Request) -> Response:
        """Make a new secret; for 24 hours (or `overlap_seconds`) both sign every request."""
        asked = {**read_query(request, SecretQuery), **read_body(request, RotateRequest)}
        scope = project_of(request, asked.get("project_id"))
        endpoint = _endpoint_of(scope, asked)
        with transaction.atomic():
            stored_secrets.rotate(
                scope, asked["overlap_seconds"], endpoint.pk if endpoint else None
            )
            target = f"endpoint {endpoint.pk} of {scope}" if endpoint else scope
            operator_record.note(actor_of(request), "secret.rotate", target)
        return _secret(scope, endpoint)


def _endpoint_of(scope: str, asked: dict[str, Any]) -> WebhookEndpoint | None:
    if "endpoint_id" not in asked:
        return None
    endpoint = WebhookEndpoint.objects.filter(scope=scope, pk=asked["endpoint_id"]).first()
    if endpoint is None:
        raise not_found()
    return endpoint


def _secret(scope: str, endpoint: WebhookEndpoint | None) -> Response:
    if endpoint is not None:
        stored_secrets.get_or_create(scope, endpoint.pk)
    else:
        stored_secrets.get_or_create(scope)
    found = stored_secrets.secret_set(scope, endpoint.pk if endpoint else None)
    body = {"project_id": scope, "secret": found.secret, "previous": found.previous}
    # A secret in a cache is a secret on a disk.
    return Response(SecretSerializer(body).data, headers={"Cache-Control": "no-store"})


class EventListView(APIView):
    """The pull feed."""

    @extend_schema(
        operation_id="webhook_events_list",
        parameters=[EventQuery],
        responses=page_of("EventPage", EventSerializer),
    )
    def get(self, request: Request) -> Response:
        """List unacknowledged events, oldest first; the cursor only pages."""
        asked = read_query(request, EventQuery)
        found = _events(scope_of(request)).filter(acknowledged_at=None)
        if "project_id" in asked:
            found = found.filter(scope=asked["project_id"])
        if "event_type" in asked:
            found = found.filter(event_type=asked["event_type"])
        rows, cursor = read_page(
            found, limit=asked["limit"], cursor=asked.get("cursor"), is_oldest_first=True
        )
        return page_response(request, EventSerializer(rows, many=True).data, cursor)


class AcknowledgeView(APIView):
    """Take events off the feed."""

    actions = {"POST": "submit"}

    @extend_schema(
        operation_id="webhook_events_acknowledge",
        request=AcknowledgeRequest,
        responses=ACKNOWLEDGED,
    )
    def post(self, request: Request) -> Response:
        """Acknowledge events and call off what is pending for them; unknown ids do nothing."""
        asked = read_body(request, AcknowledgeRequest)
        return Response(acknowledge(scope_of(request), asked["ids"]))


def acknowledge(scope: str | None, event_ids: list[str]) -> dict[str, int]:
    """Acknowledge events of a scope (None: of all) and cancel their pending messages.

    A message under way keeps its lease token: its attempt closes its own row and then finds
    the message ended.
    """
    meant = _events(scope).filter(event_id__in=event_ids)
    with transaction.atomic():
        fresh = meant.filter(acknowledged_at=None).update(acknowledged_at=Now())
        waiting = WebhookMessage.objects.filter(event__in=meant, status=MessageStatus.PENDING)
        # Locked in one order, so that two of these cannot wait for each other.
        ids = list(
            waiting.order_by("pk").select_for_update(of=("self",)).values_list("pk", flat=True)
        )
        ended = WebhookMessage.objects.filter(pk__in=ids).update(
            status=MessageStatus.CANCELLED, next_attempt_at=None, finished_at=Now()
        )
    return {"acknowledged": fresh, "cancelled_messages": ended}


def _events(scope: str | None) -> QuerySet[WebhookEvent]:
    found = WebhookEvent.objects.all()
    return found if scope is None else found.filter(scope=scope)


class JwksView(APIView):
    """The public keys of `v1a` signatures."""

    authentication_classes = []
    permission_classes = [AllowAny]

    @extend_schema(
        operation_id="webhook_public_keys",
        responses=inline_serializer(
            "JsonWebKeySet",
            {"keys": serializers.ListField(child=serializers.DictField())},
        ),
    )
    def get(self, request: Request) -> Response:
        """Show the JSON Web Key Set (RFC 7517); empty where no key is configured."""
        body = jwks([webhook_settings.ED25519_PRIVATE_KEY])
        return Response(body, headers={"Cache-Control": "public, max-age=300"})
