"""What can a client do with credentials? Everything but read their secrets."""

from __future__ import annotations

import re
from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from webhooks_app.api.access import actor_of, check_host, project_of, within
from webhooks_app.api.fields import (
    CallbackUrl,
    Choice,
    Field,
    FreeObject,
    Items,
    ProjectId,
    Refused,
    Text,
)
from webhooks_app.api.openapi import OpenApiResponse, extend_schema
from webhooks_app.api.pages import BY_TIME, PageQuery, TimeCursor, page_of, page_response
from webhooks_app.api.problems import ApiProblem, FieldProblem, invalid
from webhooks_app.api.read import Query, StrictObject, found_row, read_body, read_query
from webhooks_app.api.view import WebhookView, location
from webhooks_app.credentials import (
    CLIENT_AUTHS,
    MAX_ORIGINS,
    NAME,
    NAME_SHAPE,
    BadCredential,
)
from webhooks_app.models import Credential, CredentialKind
from webhooks_app.notation import UUID_TEXT
from webhooks_app.operators import credentials, trial

REFUSED = OpenApiResponse(description="`credential_exists`, `too_many_credentials`, `in_use`.")
IN_USE = OpenApiResponse(description="`in_use`: endpoints, keys, projects or pending messages.")
BUSY = OpenApiResponse(description="`tests_busy`: others are under way.")
_MOST = 64_000


class Secret(Field):
    """A text exactly as it is given, never trimmed; it is never shown again."""

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "maxLength": _MOST, "writeOnly": True}

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            raise Refused("bad_type", "Must be a string.")
        if len(data) > _MOST:
            raise Refused("too_long", f"At most {_MOST} characters.")
        return data


class CredentialName(Text):
    """The name of a stored credential."""

    def __init__(self, **kw: Any) -> None:
        super().__init__(max_length=80, pattern=NAME, shape=NAME_SHAPE, **kw)


class CredentialChange(StrictObject):
    """What can be changed on a credential: its origins, and the parts of its kind."""

    origins = Items(
        child=CallbackUrl(),
        most=MAX_ORIGINS,
        required=False,
        help_text="`https://host` or `https://host:port`: where it may be sent, and nowhere else.",
    )
    headers = FreeObject(required=False, help_text="`headers`: names and values, at most 20.")
    token = Secret(required=False, help_text="`bearer`")
    username = Text(max_length=4096, required=False, help_text="`basic`")
    password = Secret(required=False, help_text="`basic`")
    token_url = CallbackUrl(required=False, help_text="`oauth2`: where tokens are fetched.")
    client_id = Text(max_length=4096, required=False, help_text="`oauth2`")
    client_secret = Secret(required=False, help_text="`oauth2`")
    oauth_scope = Text(max_length=4096, required=False, help_text="`oauth2`: the scopes asked for.")
    audience = Text(max_length=4096, required=False, help_text="`oauth2`")
    client_auth = Choice(
        list(CLIENT_AUTHS),
        required=False,
        help_text="`oauth2`: how the client names itself, by HTTP Basic or in the body.",
    )
    certificate = Secret(required=False, help_text="`client_certificate`: PEM, its chain behind.")
    private_key = Secret(required=False, help_text="`client_certificate`: PEM, not encrypted.")


class CredentialRequest(CredentialChange):
    """A new credential, with the parts of its kind."""

    name = CredentialName()
    kind = Choice(CredentialKind.values)
    origins = Items(
        child=CallbackUrl(),
        most=MAX_ORIGINS,
        help_text="`https://host` or `https://host:port`: where it may be sent, and nowhere else.",
    )
    project_id = ProjectId(required=False, help_text="Only for a key bound to no project.")


class CredentialQuery(Query):
    """The query string of one credential."""

    project_id = ProjectId(required=False, help_text="Whose, where several have one of that name.")


class CredentialListQuery(PageQuery):
    """The query string of the list of credentials."""

    cursor = TimeCursor()
    project_id = ProjectId(required=False)


class TrialRequest(StrictObject):
    """The body of a test send."""

    url = CallbackUrl(help_text="Of one of the credential's origins.")


class CredentialSerializer(serializers.ModelSerializer[Credential]):
    """A credential without its secret."""

    project_id = serializers.CharField(source="scope")
    kind = serializers.ChoiceField(CredentialKind.choices)
    origins = serializers.ListField(child=serializers.CharField())
    details = serializers.DictField(help_text="What may be shown: a user name, header names ...")
    expires_at = serializers.DateTimeField(
        allow_null=True, help_text="When the client certificate ends."
    )

    class Meta:
        model = Credential
        fields: tuple[str, ...] = (
            "id",
            "name",
            "project_id",
            "kind",
            "origins",
            "details",
            "expires_at",
            "version",
            "created_at",
            "updated_at",
        )


class TrialSerializer(serializers.Serializer[Any]):
    """What came back to a test send; the secret is masked where the receiver repeats it."""

    is_delivered = serializers.BooleanField(help_text="Whether it would count as delivered.")
    status = serializers.IntegerField(allow_null=True)
    error_code = serializers.CharField(allow_blank=True)
    error = serializers.CharField(allow_blank=True)
    duration_ms = serializers.FloatField()
    phases = serializers.DictField(child=serializers.FloatField(), help_text="Milliseconds.")
    response_headers = serializers.DictField(child=serializers.CharField())
    response_body = serializers.CharField(allow_blank=True)


def problems_of(bad: BadCredential) -> list[FieldProblem]:
    """Return what is wrong with a credential, field by field."""
    return [
        {
            "pointer": f"/{name}",
            "code": "required" if name in bad.missing else "bad_format",
            "message": text,
        }
        for name, text in bad.problems.items()
    ]


def not_bound(refused: credentials.NotBound, pointer: str = "/callback_auth") -> FieldProblem:
    """Return what is wrong with the name of a credential."""
    return {"pointer": pointer, "code": refused.code, "message": str(refused)}


def find_credential(request: Request, text: str) -> Credential:
    """Return one credential by id or name; 404 if it is absent or another project's."""
    project = read_query(request, CredentialQuery).get("project_id")
    rows = within(request, Credential.objects.all())
    if project is not None:
        rows = rows.filter(scope=project)
    if re.fullmatch(UUID_TEXT, text) and (row := rows.filter(pk=text).first()):
        return row
    named = rows.filter(name=text) if re.fullmatch(NAME, text) else rows.none()
    if len(named[:2]) > 1:
        message = "Several projects have a credential of this name: name one."
        problem: FieldProblem = {"pointer": "", "code": "required", "message": message}
        raise invalid([{**problem, "parameter": "project_id"}])
    return found_row(named)


def _refused(refused: credentials.CredentialRefused) -> ApiProblem:
    text = str(refused)
    return ApiProblem(409, refused.code, f"{text[:1].upper()}{text[1:]}.")


class CredentialListView(WebhookView):
    """Credentials."""

    actions = {"GET": "admin", "POST": "admin"}

    @extend_schema(
        operation_id="listCredentials",
        parameters=[CredentialListQuery],
        responses=page_of("CredentialPage", CredentialSerializer),
    )
    def get(self, request: Request) -> Response:
        """List credentials."""
        asked = read_query(request, CredentialListQuery)
        found = within(request, Credential.objects.defer("ciphertext"))
        if "project_id" in asked:
            found = found.filter(scope=asked["project_id"])
        return page_response(request, found, asked, CredentialSerializer, order=BY_TIME)

    @extend_schema(
        operation_id="createCredential",
        request=CredentialRequest,
        responses={201: CredentialSerializer, 409: REFUSED},
    )
    def post(self, request: Request) -> Response:
        """Store a credential for requests to its origins."""
        asked = read_body(request, CredentialRequest)
        scope = project_of(request, asked.pop("project_id", None))
        name, kind, origins = (asked.pop(part) for part in ("name", "kind", "origins"))
        try:
            row = credentials.create(scope, name, kind, origins, asked, actor=actor_of(request))
        except BadCredential as bad:
            raise invalid(problems_of(bad)) from None
        except credentials.CredentialRefused as refused:
            raise _refused(refused) from None
        headers = location(request, "credential", row.pk)
        return Response(CredentialSerializer(row).data, 201, headers=headers)


class CredentialView(WebhookView):
    """One credential, by its id or its name."""

    actions = {"GET": "admin", "PATCH": "admin", "DELETE": "admin"}

    @extend_schema(
        operation_id="getCredential", parameters=[CredentialQuery], responses=CredentialSerializer
    )
    def get(self, request: Request, credential_id: str) -> Response:
        """Show a credential."""
        return Response(CredentialSerializer(find_credential(request, credential_id)).data)

    @extend_schema(
        operation_id="changeCredential",
        parameters=[CredentialQuery],
        request=CredentialChange,
        responses={200: CredentialSerializer, 409: IN_USE},
    )
    def patch(self, request: Request, credential_id: str) -> Response:
        """Change a credential."""
        row = find_credential(request, credential_id)
        asked = read_body(request, CredentialChange, partial=True)
        origins = asked.pop("origins", None)
        try:
            row = credentials.change(row, origins=origins, given=asked, actor=actor_of(request))
        except BadCredential as bad:
            raise invalid(problems_of(bad)) from None
        except credentials.CredentialRefused as refused:
            raise _refused(refused) from None
        return Response(CredentialSerializer(row).data)

    @extend_schema(
        operation_id="deleteCredential",
        parameters=[CredentialQuery],
        responses={204: None, 409: IN_USE},
    )
    def delete(self, request: Request, credential_id: str) -> Response:
        """Delete a credential that nothing uses."""
        row = find_credential(request, credential_id)
        try:
            credentials.delete(row, actor=actor_of(request))
        except credentials.CredentialRefused as refused:
            raise _refused(refused) from None
        return Response(status=204)


class CredentialTestView(WebhookView):
    """Try a credential out."""

    actions = {"POST": "admin"}

    @extend_schema(
        operation_id="testCredential",
        parameters=[CredentialQuery],
        request=TrialRequest,
        responses={200: TrialSerializer, 409: BUSY},
    )
    def post(self, request: Request, credential_id: str) -> Response:
        """Send one signed `webhook.ping` with it, now; the answer says what came back."""
        row = find_credential(request, credential_id)
        url = read_body(request, TrialRequest)["url"]
        check_host(request, url, "/url")
        try:
            result = trial.send_test(row, url, actor=actor_of(request))
        except credentials.NotBound as refused:
            raise invalid([not_bound(refused, "/url")]) from None
        except credentials.CredentialRefused as refused:
            raise _refused(refused) from None
        told = {
            "is_delivered": not result.error_code,
            "status": result.status,
            "error_code": str(result.error_code),
            "error": result.error,
            "duration_ms": round(result.duration_ms, 3),
            "phases": dict(result.phases),
            "response_headers": dict(result.response_headers),
            "response_body": result.response_body.decode(errors="replace"),
        }
        return Response(TrialSerializer(told).data)
