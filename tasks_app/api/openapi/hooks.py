"""How is the OpenAPI document made? By drf-spectacular, and `complete` for what it cannot know.

Requests are described by the serializers that read them, answers by `components`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from http import HTTPStatus
from typing import Any

import orjson
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.types import OpenApiTypes
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

from tasks_app.api import task_data
from tasks_app.api.openapi.components import (
    COMPONENTS,
    event_bodies,
    event_name,
    ref,
)
from tasks_app.api.openapi.descriptions import DESCRIPTIONS, RECEIVED
from tasks_app.api.openapi.examples import ANSWERS, NO_BUDGET, REQUESTS, event_example
from tasks_app.api.openapi.shape import Shaper, reachable
from tasks_app.api.task_requests import SubmitRequest
from tasks_app.events import EVENT_TYPES
from tasks_app.models import SHOWN_STATES, AssetOrigin, Priority, TaskStatus
from tasks_app.task_types import TASK_TYPES
from webhooks_app.api.fields import Choice, RetryPolicy
from webhooks_app.conf import webhook_settings
from webhooks_app.models import (
    META_EVENTS,
    OF_PROJECTS,
    DeliveryOutcome,
    DeliveryTrigger,
    MessageStatus,
    ReplayState,
)
from webhooks_app.operators import ping
from webhooks_app.outbox import ANY_STATUS, filters
from webhooks_app.retry import ERROR_CODES

Operation = Callable[[Any], Any]
PROBLEM_TYPE = "application/problem+json"
#: Status -> the component that describes this error; stable, unlike Python's names of the statuses.
ERRORS = {
    "400": "BadRequest",
    "401": "Unauthorized",
    "402": "BudgetExhausted",
    "403": "Forbidden",
    "404": "NotFound",
    "406": "NotAcceptable",
    "409": "Conflict",
    "413": "TooLarge",
    "415": "UnsupportedMediaType",
    "422": "Invalid",
    "429": "RateLimited",
    "503": "Unavailable",
}


class KeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "tasks_app.access.authentication.ApiKeyAuthentication"
    name = "ApiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "apiKey", "in": "header", "name": "X-API-Key"}


def _submit_class(name: str) -> type[SubmitRequest]:
    """Return the submit request of one task type, which only the OpenAPI document needs."""
    members = {
        "__doc__": f"The submit of a task of the type {name}.",
        "task_type": Choice([name]),
        "task_data": type(task_data.serializer_for(TASK_TYPES[name].schema))(),
    }
    title = "".join(part.capitalize() for part in name.split("_"))
    return type(f"Submit{title}", (SubmitRequest,), members)


SUBMIT_REQUEST = PolymorphicProxySerializer(
    component_name="Submit",
    serializers={name: _submit_class(name) for name in TASK_TYPES},
    resource_type_field_name="task_type",
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
    description="The same key with the same body is the same task, for "
    f"{settings.IDEMPOTENCY_HOURS} hours.",
)
TRACEPARENT = OpenApiParameter(
    "traceparent",
    {"type": "string"},
    OpenApiParameter.HEADER,
    description="W3C Trace Context: the trace that the task belongs to. Without one, or with a "
    "malformed one, the task begins a new trace.",
)
LAST_EVENT_ID = OpenApiParameter(
    "Last-Event-ID", str, OpenApiParameter.HEADER, description="The id of the last event you got."
)


def operation(
    operation_id: str,
    summary: str,
    answer: str,
    *,
    status: int = 200,
    request: Any = None,
    parameters: Sequence[Any] = (),
    examples: Sequence[OpenApiExample] = (),
    may_conflict: bool = False,
    may_cost: bool = False,
) -> Operation:
    """Describe one method of a view.

    Args:
        answer: the component of the good answer; empty for one without a body.
        may_conflict: the state of things may forbid it, with 409.
        may_cost: a budget may be exhausted, with 402.
    """
    responses: dict[Any, Any] = {status: ref(answer) if answer else None}
    if may_conflict:
        responses[409, PROBLEM_TYPE] = ref("Problem")
    if may_cost:
        responses[402, PROBLEM_TYPE] = ref("Problem")
    return extend_schema(
        operation_id=operation_id,
        summary=summary,
        request=request,
        responses=responses,
        parameters=list(parameters),
        examples=list(examples),
    )


EVENTS_OPERATION = extend_schema(
    operation_id="watchTask",
    summary="Watch a task: snapshots as server-sent events",
    parameters=[LAST_EVENT_ID],
    request=None,
    responses={
        (200, "text/event-stream"): ref("ProgressEvent"),
        204: OpenApiResponse(description="The task has ended and you saw that; do not come back."),
    },
)


PREVIEW_OPERATION = extend_schema(
    operation_id="getTaskPreview",
    summary="See a task while it is made",
    request=None,
    responses={
        **{(200, f"image/{kind}"): OpenApiTypes.BINARY for kind in ("jpeg", "png")},
        204: OpenApiResponse(description="There is none just now."),
    },
)


TO_ALL = "the callback URL and to subscribed endpoints"
ONLY_NAMED = "endpoints that name it"


def _webhook(event_type: str, example: dict[str, Any], to: str = TO_ALL) -> OpenApiWebhook:
    return OpenApiWebhook(
        name=event_type,
        decorator=extend_schema(
            operation_id=f"receive{event_name(event_type)}",
            summary=f"{event_type}, POSTed to {to}",
            description=RECEIVED,
            request={"application/json": ref(event_name(event_type))},
            responses={200: OpenApiResponse(description="Delivered.")},
            examples=[OpenApiExample(event_type, value=example)],
            tags=["receiver"],
        ),
    )


WEBHOOKS = [
    *(_webhook(name, event_example(kind)) for name, kind in EVENT_TYPES.items()),
    *(_webhook(name, meta.body, ONLY_NAMED) for name, meta in META_EVENTS.items()),
    _webhook(ping.PING, ping.EXAMPLE),
]


#: In the order in which they are read.
TAGS = [
    {"name": "tasks", "description": "Submit work, watch it, fetch what came of it"},
    {"name": "assets", "description": "Hand in files to make tasks from"},
    {"name": "webhooks", "description": "What is sent to you, and what became of it"},
    # Of its own: a generator makes a class of each tag, and one of the webhooks' operations too.
    {"name": "receiver", "description": "The webhooks: what your receiver gets"},
    {"name": "service", "description": "Is it well?"},
]
FIRST = "/api/v1/tasks/submit"


def complete(result: dict[str, Any], **context: Any) -> dict[str, Any]:
    """Add to the generated document what holds for every operation (a postprocessing hook)."""
    result["components"]["schemas"] = _components(result)
    result["components"]["responses"] = {
        name: {"description": HTTPStatus(int(status)).phrase, "content": _problem(status)}
        for status, name in ERRORS.items()
    }
    result["servers"] = [{"url": settings.PUBLIC_URL}]
    result["info"] |= {
        "contact": {"name": "Whoever runs this service", "url": settings.PUBLIC_URL},
        "license": {"name": "MIT", "identifier": "MIT"},
    }
    for path, methods in result["paths"].items():
        for described in methods.values():
            _add_examples(described)
            _add_errors(path, described)
            # drf-spectacular takes a method's docstring as the description; here it is the summary.
            described.setdefault("summary", described.get("description", "").removesuffix("."))
            described["description"] = DESCRIPTIONS[described["operationId"]]
            described["tags"] = [
                next((tag for tag in ("webhooks", "tasks", "assets") if tag in path), "service")
            ]
    for methods in result["webhooks"].values():
        methods["post"]["security"] = []  # signed by us; a receiver asks for no key of ours
    result["paths"][FIRST]["post"]["requestBody"]["required"] = True
    result["tags"] = TAGS
    result["paths"] = {FIRST: result["paths"].pop(FIRST), **result["paths"]}
    _bring_into_shape(result)
    return result


def _components(result: dict[str, Any]) -> dict[str, Any]:
    """Return the schemas of the serializers and those of `components`.

    An answer has all members of its serializer; drf-spectacular lists those that have a default as
    optional, as they are in a request.
    """
    found: dict[str, Any] = result["components"]["schemas"]
    operations = [one for methods in result["paths"].values() for one in methods.values()]
    asked = reachable([one.get("requestBody") for one in operations], COMPONENTS | found)
    for name in found.keys() - asked:
        members = found[name].get("properties", {})
        found[name]["required"] = list(members)
        if "payload" in members:  # the webhook app does not know what is in it
            members["payload"] = ref("EventBody")
    return {**found, **COMPONENTS, **event_bodies()}


def _bring_into_shape(result: dict[str, Any]) -> None:
    shaper = Shaper(_names())
    components = result["components"]["schemas"]
    shaped = {name: shaper.shape(schema, name) for name, schema in components.items()}
    for methods in result["paths"].values():
        for described in methods.values():
            operation_id = described["operationId"]
            place = operation_id[:1].upper() + operation_id[1:]
            for parameter in described.get("parameters", []):
                where = place + parameter["name"].title().replace("_", "").replace("-", "")
                parameter["schema"] = shaper.shape(parameter["schema"], where)
    result["components"]["schemas"] = {**shaped, **shaper.components}


def _names() -> dict[str, Any]:
    """Return names, for generators, of the values that stand in several places."""
    lists: dict[str, list[Any]] = {
        "TaskType": list(TASK_TYPES),
        "AssetState": SHOWN_STATES,
        "AssetOrigin": AssetOrigin.values,
        "TaskStatus": TaskStatus.values,
        "TaskPriority": [label for _, label in Priority.choices],
        "TaskPriorityNumber": Priority.values,
        "EventType": list(EVENT_TYPES),
        "EndpointEventType": [*EVENT_TYPES, *OF_PROJECTS],
        "MessageStatus": MessageStatus.values,
        "MessageStatusAsked": [*MessageStatus.values, ANY_STATUS],
        "DeliveryErrorCode": list(ERROR_CODES),
        "DeliveryOutcome": DeliveryOutcome.values,
        "DeliveryTrigger": DeliveryTrigger.values,
        "ReplayState": ReplayState.values,
        "FilterOp": list(filters.OPS),
        "RetryPolicyName": sorted(webhook_settings.POLICIES),
    }
    wait = RetryPolicy().schema()["anyOf"][1]["items"]
    return {**{name: {"enum": values} for name, values in lists.items()}, "RetryWait": wait}


def _add_errors(path: str, described: dict[str, Any]) -> None:
    """Add the errors that every operation of its kind can answer with.

    An error that an operation describes in words of its own keeps them.
    """
    responses = described["responses"]
    statuses = {"400", "406", "503"}
    if described.get("security") != [{}]:
        statuses |= {"401", "403", "404", "422", "429"}
    if path.endswith("/ready"):  # takes a key, but needs none
        statuses |= {"401", "429"}
    if "requestBody" in described:
        statuses |= {"413", "415"}
    for status in statuses | {status for status in responses if status >= "400"}:
        if words := responses.get(status, {}).get("description"):
            responses[status] = {"description": words, "content": _problem(status)}
        else:
            responses[status] = {"$ref": f"#/components/responses/{ERRORS[status]}"}
    described["responses"] = dict(sorted(responses.items()))


def _problem(status: str) -> dict[str, Any]:
    examples = {"422": ANSWERS["Problem"], "402": NO_BUDGET}
    example = {"example": examples[status]} if status in examples else {}
    return {PROBLEM_TYPE: {"schema": ref("Problem"), **example}}


def _add_examples(described: dict[str, Any]) -> None:
    if request := REQUESTS.get(described["operationId"]):
        described["requestBody"]["content"]["application/json"]["example"] = request
    for response in described["responses"].values():
        for content in response.get("content", {}).values():
            component = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
            if component in ANSWERS:
                content["example"] = ANSWERS[component]


@cache
def schema_bytes() -> bytes:
    """Return the OpenAPI document, made once in each process."""
    generator: Any = SchemaGenerator  # untyped upstream
    document = generator().get_schema(request=None, public=True)
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS)


@csrf_exempt  # a POST is to hear that there is none
@require_safe
def schema(request: HttpRequest) -> HttpResponse:
    return HttpResponse(schema_bytes(), content_type="application/json")


class DocsView(SpectacularSwaggerSplitView):
    """The API page."""

    authentication_classes = []
    permission_classes = [AllowAny]
    throttle_classes = []
    url = "/api/v1/schema"
