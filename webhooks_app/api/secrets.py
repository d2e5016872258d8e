"""What can a client do with signing secrets and public keys?"""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from webhooks_app.api.access import actor_of, project_of
from webhooks_app.api.fields import Number, ProjectId, Uuid
from webhooks_app.api.openapi import extend_schema, inline_serializer
from webhooks_app.api.read import Query, StrictObject, found_row, read_body, read_query
from webhooks_app.api.view import WebhookView
from webhooks_app.conf import webhook_settings
from webhooks_app.models import WebhookEndpoint
from webhooks_app.operators import endpoints
from webhooks_app.signing import jwks, public_key, store

WEEK_SECONDS = 7 * 86_400


class SecretQuery(Query):
    """Whose secret: a project's, or that of one of its endpoints."""

    project_id = ProjectId(required=False, help_text="Only for a key bound to no project.")
    endpoint_id = Uuid(required=False)


class RotateRequest(StrictObject):
    """The body of a rotation."""

    project_id = ProjectId(required=False, help_text="Only for a key bound to no project.")
    endpoint_id = Uuid(required=False)
    overlap_seconds = Number(
        0,
        WEEK_SECONDS,
        required=False,
        default=store.OVERLAP_SECONDS,
        help_text="How long the secret before signs on; 0 ends it at once.",
    )


class PreviousSecretSerializer(serializers.Serializer[Any]):
    """A secret that still signs beside the current one."""

    secret = serializers.CharField()
    expires_at = serializers.DateTimeField()


class SecretSerializer(serializers.Serializer[Any]):
    """What signs the webhooks of a project, or of one endpoint."""

    project_id = serializers.CharField()
    secret = serializers.CharField(help_text="`whsec_` and base64.")
    previous = PreviousSecretSerializer(many=True)


class SecretView(WebhookView):
    """The secret that signs."""

    actions = {"GET": "admin"}

    @extend_schema(
        operation_id="getSigningSecret", parameters=[SecretQuery], responses=SecretSerializer
    )
    def get(self, request: Request) -> Response:
        """Show the signing secret, made on first use, and those that still overlap."""
        asked = read_query(request, SecretQuery)
        scope = project_of(request, asked.get("project_id"), parameter="project_id")
        return _secret(scope, _endpoint_of(scope, asked))


class SecretRotateView(WebhookView):
    """Change the secret that signs."""

    actions = {"POST": "admin"}

    @extend_schema(
        operation_id="rotateSigningSecret",
        parameters=[SecretQuery],
        request=RotateRequest,
        responses=SecretSerializer,
        description=f"Make a new secret; for {store.OVERLAP_SECONDS // 3600:.0f} hours (or "
        "`overlap_seconds`) both sign every request.",
    )
    def post(self, request: Request) -> Response:
        """Make a new secret."""
        asked = {**read_query(request, SecretQuery), **read_body(request, RotateRequest)}
        scope = project_of(request, asked.get("project_id"))
        endpoint = _endpoint_of(scope, asked)
        overlap = asked["overlap_seconds"]
        endpoints.rotate_secret(scope, overlap, endpoint=endpoint, actor=actor_of(request))
        return _secret(scope, endpoint)


def _endpoint_of(scope: str, asked: dict[str, Any]) -> WebhookEndpoint | None:
    if "endpoint_id" not in asked:
        return None
    return found_row(WebhookEndpoint.objects.filter(scope=scope, pk=asked["endpoint_id"]))


def _secret(scope: str, endpoint: WebhookEndpoint | None) -> Response:
    if endpoint is not None:
        store.get_or_create(scope, endpoint.pk)
    current, *previous = store.living_secrets(scope, endpoint.pk if endpoint else None)
    body = {"project_id": scope, "secret": current.secret, "previous": previous}
    # No-store: a cached secret would be a secret on somebody's disk.
    return Response(SecretSerializer(body).data, headers={"Cache-Control": "no-store"})


class JwksView(APIView):
    """The public keys of `v1a` signatures."""

    authentication_classes = []
    permission_classes = [AllowAny]

    @extend_schema(
        operation_id="publicKeys",
        responses=inline_serializer(
            "JsonWebKeySet", {"keys": serializers.ListField(child=serializers.DictField())}
        ),
    )
    def get(self, request: Request) -> Response:
        """Show the JSON Web Key Set (RFC 7517); empty where no key is configured."""
        own = webhook_settings.ED25519_PRIVATE_KEY
        signing_now = [public_key(own)] if own else []
        body = jwks([*signing_now, *webhook_settings.ED25519_PUBLIC_KEYS])
        return Response(body, headers={"Cache-Control": "public, max-age=300"})
