"""How does the API page come to know requests and answers? Where drf-spectacular is told.

Requests are described by the serializers that read them, answers by `openapi_components`; what
holds for every operation (the key, the errors) is added to all of them at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import orjson
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from drf_spectacular.extensions import (
    OpenApiAuthenticationExtension,
    OpenApiSerializerExtension,
    OpenApiSerializerFieldExtension,
)
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiResponse,
    OpenApiWebhook,
    PolymorphicProxySerializer,
    extend_schema,
)
from drf_spectacular.views import SpectacularSwaggerSplitView
from rest_framework.permissions import AllowAny

from tasks_app import schemas
from tasks_app.fields import Choice
from tasks_app.models import TaskStatus
from tasks_app.openapi_components import (
    COMPONENTS,
    EVENT_BODIES,
    EVENT_EXAMPLES,
    event_body,
    ref,
)
from tasks_app.queries import MAX_PAGE_SIZE, PAGE_SIZE
from tasks_app.serializers import SubmitRequest
from tasks_app.task_types import TASK_TYPES

Operation = Callable[[Any], Any]
PROBLEM_TYPE = "application/problem+json"


class KeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Name the header that carries the key."""

    target_class = "tasks_app.authentication.ApiKeyAuthentication"
    name = "ApiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        """Return the scheme."""
        return {"type": "apiKey", "in": "header", "name": "X-API-Key"}


class StrictObject(OpenApiSerializerExtension):  # type: ignore[no-untyped-call]
    """Say of every request object that it takes no other keys."""

    target_class = "tasks_app.fields.StrictSerializer"
    match_subclasses = True

    def map_serializer(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        """Return the serializer's own schema, closed, with what it says beyond its fields."""
        schema = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)
        return {**schema, "additionalProperties": False, **getattr(self.target, "schema", {})}


class DescribedField(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    """Take the schema of a field from the field."""

    target_class = "tasks_app.fields.Described"
    match_subclasses = True

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        """Return it."""
        schema: dict[str, Any] = self.target.schema()
        return schema


def _submit_class(name: str) -> type[SubmitRequest]:
    """Return the submit request of one task type, which only the API page needs."""
    task_type = TASK_TYPES[name]
    members = {
        "__doc__": f"A {name.replace('_', ' ')}.",
        "task_type": Choice([name]),
        "task_data": type(schemas.serializer_for(task_type.schema))(),
    }
    title = "".join(part.capitalize() for part in name.split("_"))
    return type(f"Submit{title}", (SubmitRequest,), members)


SUBMIT_REQUEST = PolymorphicProxySerializer(
    component_name="Submit",
    serializers=[_submit_class(name) for name in TASK_TYPES],
    resource_type_field_name=None,
)
SEED_EXAMPLE = OpenApiExample(
    "A video",
    request_only=True,
    value={
        "project_id": "test_project",
        "task_type": "video_generation",
        "callback_url": "https://your-app.com/api/webhooks/task-complete",
        "task_data": {
            "scene_data": {"prompt": "Generate video"},
            "video_params": {"resolution": "1920x1080"},
        },
        "metadata": {"userId": "user-123", "testResultId": "result-456"},
    },
)
IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]*$"},
    OpenApiParameter.HEADER,
    description="The same key with the same body is the same task, for 24 hours.",
)
LAST_EVENT_ID = OpenApiParameter(
    "Last-Event-ID", str, OpenApiParameter.HEADER, description="The id of the last event you got."
)
_PAGING = [
    OpenApiParameter("status", {"enum": TaskStatus.values}),
    OpenApiParameter("task_type", {"enum": list(TASK_TYPES)}),
    OpenApiParameter("created_after", {"type": "string", "format": "date-time"}),
    OpenApiParameter("created_before", {"type": "string", "format": "date-time"}),
    OpenApiParameter("cursor", str, description="`next_cursor` of the page before."),
    OpenApiParameter(
        "limit",
        {"type": "integer", "minimum": 1, "maximum": MAX_PAGE_SIZE, "default": PAGE_SIZE},
    ),
]
PROJECT_PAGE_PARAMETERS = _PAGING
PAGE_PARAMETERS = [
    *_PAGING,
    OpenApiParameter("project_id", {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,100}$"}),
]


def operation(
    operation_id: str,
    summary: str,
    answer: str,
    *,
    status: int = 200,
    request: Any = None,
    parameters: Sequence[OpenApiParameter] = (),
    examples: Sequence[OpenApiExample] = (),
    **others: str,
) -> Operation:
    """Describe one method of a view.

    Args:
        answer: the component of the good answer.
        others: further answers, ``on_409="Problem"``.
    """
    responses: dict[Any, Any] = {status: ref(answer)}
    responses |= {
        (int(name.removeprefix("on_")), PROBLEM_TYPE): ref(component)
        for name, component in others.items()
    }
    return extend_schema(
        operation_id=operation_id,
        summary=summary,
        request=request,
        responses=responses,
        parameters=list(parameters),
        examples=list(examples),
        tags=["tasks"],
    )


EVENTS_OPERATION = extend_schema(
    operation_id="watchTask",
    summary="Watch a task: snapshots as server-sent events",
    parameters=[LAST_EVENT_ID],
    request=None,
    responses={
        (200, "text/event-stream"): {"type": "string"},
        204: OpenApiResponse(description="The task has ended and you saw that; do not come back."),
        (503, PROBLEM_TYPE): ref("Problem"),
    },
    tags=["tasks"],
)


def _webhook(event_type: str) -> OpenApiWebhook:
    example = EVENT_EXAMPLES.get(event_type)
    return OpenApiWebhook(
        name=event_type,
        decorator=extend_schema(
            summary=f"{event_type}, POSTed to the callback URL and to subscribed endpoints",
            description="Signed after the Standard Webhooks specification. Answer 200, 201, 202 "
            "or 204 within 30 seconds; anything else is tried again.",
            request={"application/json": event_body(event_type)},
            responses={200: OpenApiResponse(description="Delivered.")},
            examples=[OpenApiExample(event_type, value=example)] if example else [],
            tags=["webhooks"],
        ),
    )


WEBHOOKS = [_webhook(event_type) for event_type in EVENT_BODIES]


def complete(result: dict[str, Any], **context: Any) -> dict[str, Any]:
    """Add to the generated document what holds for every operation (a postprocessing hook)."""
    result["components"].setdefault("schemas", {}).update(COMPONENTS)
    result["servers"] = [{"url": settings.PUBLIC_URL}]
    problem = {
        "description": "What went wrong.",
        "content": {PROBLEM_TYPE: {"schema": ref("Problem")}},
    }
    for path, methods in result["paths"].items():
        for described in methods.values():
            if isinstance(described, dict) and "responses" in described:
                _add_errors(path, described, problem)
    return result


def _add_errors(path: str, described: dict[str, Any], problem: dict[str, Any]) -> None:
    responses = described["responses"]
    usual = ["400", "401", "403", "406", "413", "415", "422", "429", "503"]
    if not described.get("security"):
        usual = ["503"]
    for status in [*usual, "404"] if "{" in path else usual:
        responses.setdefault(status, problem)


@cache
def schema_bytes() -> bytes:
    """Return the OpenAPI document, made once in each process."""
    generator: Any = SchemaGenerator  # untyped upstream
    document = generator().get_schema(request=None, public=True)
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS)


def schema(request: HttpRequest) -> HttpResponse:
    """Answer ``GET schema``."""
    return HttpResponse(schema_bytes(), content_type="application/json")


class DocsView(SpectacularSwaggerSplitView):
    """A page to read the schema, from files of our own."""

    authentication_classes = []
    permission_classes = [AllowAny]
    throttle_classes = []
    url = "/api/v1/schema"
