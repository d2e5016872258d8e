"""What does each address about messages, attempts and replays do?

Thin: read the request, narrow to what the key may see, call `replay`, answer.
"""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiResponse, extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from webhooks_app import replay
from webhooks_app.access import actor_of, check_host, scope_of
from webhooks_app.message_filters import ANY_STATUS, MessageFilters, messages_of
from webhooks_app.models import (
    DeliveryOutcome,
    MessageStatus,
    ReplayJob,
    WebhookDelivery,
    WebhookMessage,
)
from webhooks_app.pagination import page_response, read_page
from webhooks_app.problems import ApiProblem, not_found
from webhooks_app.requests import (
    BIGGEST_ID,
    CallbackUrl,
    Flag,
    Moment,
    Number,
    PageQuery,
    ProjectId,
    StrictSerializer,
    Text,
    Whole,
    read_body,
    read_id,
    read_query,
    read_uuid,
)
from webhooks_app.retry import ErrorCode
from webhooks_app.serializers import (
    DeliverySerializer,
    MessageDetailSerializer,
    MessageSerializer,
    ReplaySerializer,
)

STATUSES = [*MessageStatus.values, ANY_STATUS]
ERROR_CODES = [*(code.value for code in ErrorCode if code), "destination_disabled", "expired"]


class _Conditions(StrictSerializer):
    """What lists and replays can ask for alike."""

    task_id = Text(required=False, max_length=64)
    project_id = ProjectId(required=False)
    host = Text(required=False, max_length=253, help_text="The receiver's host name.")
    event_type = Text(required=False, max_length=60)
    status_code = Whole(required=False, min_value=100, max_value=999)
    error_code = serializers.ChoiceField(ERROR_CODES, required=False)
    since = Moment(required=False, help_text="Written at or after this time.")
    until = Moment(required=False, help_text="Written before this time.")


class MessageQuery(PageQuery, _Conditions):
    """The query string of the list of messages."""

    status = serializers.ChoiceField(STATUSES, required=False)


class DeliveryQuery(PageQuery, _Conditions):
    """The query string of the list of attempts; the times are when they started."""

    outcome = serializers.ChoiceField(DeliveryOutcome.choices, required=False)
    message_id = Whole(required=False, min_value=1, max_value=BIGGEST_ID)


class ReplayFilter(_Conditions):
    """Which messages a bulk replay means; all conditions must hold."""

    status = serializers.ChoiceField(
        STATUSES,
        required=False,
        help_text="`dead` unless given; with `ids`, any.",
    )
    ids = serializers.ListField(
        child=Whole(min_value=1, max_value=BIGGEST_ID), required=False, max_length=1_000
    )


class ReplayOneRequest(StrictSerializer):
    """The body of a replay of one message."""

    callback_url = CallbackUrl(required=False, help_text="Send the event there instead.")
    reason = Text(required=False, allow_blank=True, max_length=500)


class BulkReplayRequest(ReplayOneRequest):
    """The body of a bulk replay."""

    filter = ReplayFilter(required=False)
    rate = Number(
        required=False,
        min_value=0.01,
        max_value=replay.MAX_RATE,
        help_text="Messages a second, at most.",
    )
    dry_run = Flag(required=False, default=False, help_text="Only count, and show the oldest.")


PREVIEW = inline_serializer(
    "ReplayPreview",
    {
        "dry_run": serializers.BooleanField(),
        "count": serializers.IntegerField(),
        "is_exact": serializers.BooleanField(help_text="False where counting stopped at `count`."),
        "sample": MessageSerializer(many=True),
    },
)


def page_of(name: str, row: type[serializers.BaseSerializer[Any]]) -> Any:
    """Return the schema of one page of a list."""
    return inline_serializer(
        name,
        {
            "results": row(many=True),
            "next_cursor": serializers.CharField(allow_null=True),
            "next": serializers.URLField(allow_null=True),
        },
    )


def filters_of(values: dict[str, Any]) -> MessageFilters:
    """Turn the API's names into the filters of lists and replays."""
    names = {"task_id": "task", "project_id": "project", "event_type": "event"}
    known = ("status", "host", "status_code", "error_code", "since", "until", "ids", *names)
    return MessageFilters.of(
        {names.get(name, name): values[name] for name in known if name in values}
    )


def visible_messages(request: Request) -> QuerySet[WebhookMessage]:
    """Return the messages that the key may see, with what showing them needs."""
    found = messages_of(MessageFilters(), scope_of(request))
    return found.select_related("event", "destination")


def find_message(request: Request, text: str) -> WebhookMessage:
    """Return one message; 404 for absent ones and those of others alike."""
    message = visible_messages(request).filter(pk=read_id(text)).first()
    if message is None:
        raise not_found()
    return message


class MessageListView(APIView):
    """Messages, newest first."""

    @extend_schema(
        operation_id="webhook_messages_list",
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


class MessageView(APIView):
    """One message."""

    @extend_schema(operation_id="webhook_message", responses=MessageDetailSerializer)
    def get(self, request: Request, message_id: str) -> Response:
        """Show a message with its payload and every attempt."""
        return Response(MessageDetailSerializer(find_message(request, message_id)).data)


class MessageReplayView(APIView):
    """Send one message again, also a delivered one."""

    actions = {"POST": "admin"}

    @extend_schema(
        operation_id="webhook_message_replay",
        request=ReplayOneRequest,
        responses={202: ReplaySerializer, 409: OpenApiResponse(description="`in_flight`")},
    )
    def post(self, request: Request, message_id: str) -> Response:
        """Replay one message now; 409 `in_flight` while an attempt is under way."""
        message = find_message(request, message_id)
        asked = read_body(request, ReplayOneRequest)
        if url := asked.get("callback_url", ""):
            check_host(request, url, "/callback_url")
        try:
            job = replay.replay_one(
                message,
                to_url=url,
                reason=asked.get("reason", ""),
                requested_by=actor_of(request),
                source="api",
            )
        except replay.ReplayRefused as refused:
            raise ApiProblem(409, refused.code, _sentence(refused)) from None
        return _accepted(job)


class DeliveryListView(APIView):
    """Attempts, newest first."""

    @extend_schema(
        operation_id="webhook_deliveries_list",
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


class ReplayListView(APIView):
    """Bulk replays."""

    actions = {"POST": "admin"}

    @extend_schema(
        operation_id="webhook_replay_start",
        request=BulkReplayRequest,
        responses={200: PREVIEW, 202: ReplaySerializer},
    )
    def post(self, request: Request) -> Response:
        """Replay every message that a filter means; `dry_run` only counts and shows a sample."""
        asked = read_body(request, BulkReplayRequest)
        filters, scope = filters_of(asked.get("filter", {})), scope_of(request)
        if url := asked.get("callback_url", ""):
            check_host(request, url, "/callback_url")
        if asked["dry_run"]:
            return Response(_preview(replay.preview(filters, scope)))
        job = replay.start(
            filters,
            scope=scope,
            to_url=url,
            rate=asked.get("rate"),
            reason=asked.get("reason", ""),
            requested_by=actor_of(request),
            source="api",
        )
        return _accepted(job)


class ReplayView(APIView):
    """One replay."""

    actions = {"DELETE": "admin"}

    @extend_schema(operation_id="webhook_replay", responses=ReplaySerializer)
    def get(self, request: Request, replay_id: str) -> Response:
        """Show how far a replay is."""
        return Response(ReplaySerializer(_find_replay(request, replay_id)).data)

    @extend_schema(operation_id="webhook_replay_delete", responses={200: ReplaySerializer})
    def delete(self, request: Request, replay_id: str) -> Response:
        """Cancel a replay: what is due stays due, the rest is left alone."""
        return _cancel(request, replay_id)


class ReplayCancelView(APIView):
    """Cancel a replay, for clients that cannot send DELETE."""

    actions = {"POST": "admin"}

    @extend_schema(
        operation_id="webhook_replay_cancel", request=None, responses={200: ReplaySerializer}
    )
    def post(self, request: Request, replay_id: str) -> Response:
        """Cancel a replay."""
        return _cancel(request, replay_id)


def _cancel(request: Request, replay_id: str) -> Response:
    job = _find_replay(request, replay_id)
    try:
        job = replay.cancel(job, requested_by=actor_of(request))
    except replay.NotRunning as refused:
        problem = ApiProblem(409, refused.code, _sentence(refused), extra={"state": job.state})
        raise problem from None
    return Response(ReplaySerializer(job).data)


def _find_replay(request: Request, text: str) -> ReplayJob:
    found = ReplayJob.objects.filter(pk=read_uuid(text))
    scope = scope_of(request)
    job = (found if scope is None else found.filter(scope=scope)).first()
    if job is None:
        raise not_found()
    return job


def _accepted(job: ReplayJob) -> Response:
    headers = {"Location": f"/api/v1/webhooks/replays/{job.pk}"}
    return Response(ReplaySerializer(job).data, 202, headers=headers)


def _preview(seen: replay.Preview) -> dict[str, Any]:
    return {
        "dry_run": True,
        "count": seen.count,
        "is_exact": seen.is_exact,
        "sample": MessageSerializer(seen.sample, many=True).data,
    }


def _sentence(refused: Exception) -> str:
    text = str(refused)
    return f"{text[:1].upper()}{text[1:]}."
