"""What can a client replay? One message, or every message that a filter selects."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from webhooks_app.api.access import actor_of, check_host, scope_of, within
from webhooks_app.api.deliveries import Conditions
from webhooks_app.api.fields import (
    CallbackUrl,
    Choice,
    Flag,
    Items,
    MessageId,
    Number,
    Text,
)
from webhooks_app.api.messages import MessageSerializer, filters_of, find_message, for_answers
from webhooks_app.api.openapi import (
    OpenApiResponse,
    extend_schema,
    extend_schema_field,
    inline_serializer,
)
from webhooks_app.api.problems import ApiProblem, FieldProblem, invalid
from webhooks_app.api.read import StrictObject, found_row, read_body, read_uuid
from webhooks_app.api.view import WebhookView, location
from webhooks_app.models import ReplayJob, ReplayState, WebhookMessage
from webhooks_app.notation import sentence
from webhooks_app.operators import replay, replay_preview, replay_progress, replay_refusals
from webhooks_app.outbox import STATUSES

#: A problem; the project says what one looks like.
IN_FLIGHT = OpenApiResponse(
    description="`in_flight`: an attempt is under way. `several_messages`: the `msg_...` means"
    " several; `messages` lists them."
)
ENDED = OpenApiResponse(description="`not_running`: the replay has ended.")
SEVERAL = OpenApiResponse(
    description="`several_projects`: one URL would receive their events; `all_projects` allows it."
)


def _counts(help_text: str) -> serializers.DictField:
    return serializers.DictField(child=serializers.IntegerField(), help_text=help_text)


PREVIEW = inline_serializer(
    "ReplayPreview",
    {
        "dry_run": serializers.BooleanField(),
        "count": serializers.IntegerField(),
        "is_exact": serializers.BooleanField(help_text="False where counting stopped at `count`."),
        "projects": _counts("How many messages of each project."),
        "oldest_at": serializers.DateTimeField(allow_null=True),
        "newest_at": serializers.DateTimeField(allow_null=True),
        "error_codes": _counts("How many messages with each `last_error_code`."),
        "from": _counts("How many messages are owed to each origin now."),
        "to": serializers.CharField(allow_null=True, help_text="null: each to its own URL again."),
        "credentials_left_off": serializers.ListField(
            child=serializers.CharField(),
            help_text="Credentials that do not go along, since they are bound to other origins.",
        ),
        "sample": MessageSerializer(many=True),
    },
)


class ReplayFilter(Conditions):
    """The filter of a bulk replay; all conditions must hold."""

    status = Choice(
        list(STATUSES), required=False, help_text="`dead` unless given; with `ids`, any."
    )
    ids = Items(child=MessageId(), required=False, most=1_000)


class ReplayOneRequest(StrictObject):
    """The body of a replay of one message."""

    callback_url = CallbackUrl(required=False, help_text="Send the event there instead.")
    reason = Text(
        required=False,
        allow_blank=True,
        max_length=500,
        help_text="Goes on record. Required with `callback_url`, and for more than one message.",
    )


class BulkReplayRequest(ReplayOneRequest):
    """The body of a bulk replay."""

    filter = ReplayFilter(required=False)
    rate = Number(0.01, replay.MAX_RATE, required=False, help_text="Messages a second, at most.")
    all_projects = Flag(
        required=False,
        default=False,
        help_text="`callback_url` may receive the events of several projects.",
    )
    dry_run = Flag(required=False, default=False, help_text="Only count, and show the oldest.")


#: The counts of a replay, as in the example.
_PROGRESS = {
    "total": 12,
    "started": 10,
    "skipped": 1,
    "left": 1,
    "pending": 2,
    "delivered": 8,
    "dead": 0,
    "ended_otherwise": 0,
}


class ReplaySerializer(serializers.ModelSerializer[ReplayJob]):
    """A replay and its progress."""

    state = serializers.ChoiceField(ReplayState.choices)
    project_id = serializers.CharField(source="scope", allow_null=True)
    filter = serializers.DictField(source="filters")
    callback_url = serializers.CharField(source="target_url")
    rate = serializers.FloatField(source="rate_per_second", allow_null=True)
    progress = serializers.SerializerMethodField()

    class Meta:
        model = ReplayJob
        fields: tuple[str, ...] = (
            "id",
            "state",
            "project_id",
            "filter",
            "callback_url",
            "rate",
            "reason",
            "requested_by",
            "source",
            "progress",
            "created_at",
            "finished_at",
        )

    @extend_schema_field(
        {"type": "object", "additionalProperties": {"type": "integer"}, "example": _PROGRESS}
    )
    def get_progress(self, job: ReplayJob) -> dict[str, int]:
        seen = replay_progress.progress(job)
        return {name: getattr(seen, name) for name in _PROGRESS}


class MessageReplayView(WebhookView):
    """Send one message again, also a delivered one."""

    actions = {"POST": "admin"}

    @extend_schema(
        operation_id="replayMessage",
        request=ReplayOneRequest,
        responses={202: ReplaySerializer, 409: IN_FLIGHT},
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
        except replay_refusals.ReplayRefused as refused:
            raise _problem(refused) from None
        return _accepted(request, job)


class ReplayListView(WebhookView):
    """Bulk replays."""

    actions = {"POST": "admin"}

    @extend_schema(
        operation_id="startReplay",
        request=BulkReplayRequest,
        responses={200: PREVIEW, 202: ReplaySerializer, 409: SEVERAL},
    )
    def post(self, request: Request) -> Response:
        """Replay every message that a filter means; `dry_run` only counts and shows a sample."""
        asked = read_body(request, BulkReplayRequest)
        filters, scope = filters_of(asked.get("filter", {})), scope_of(request)
        if url := asked.get("callback_url", ""):
            check_host(request, url, "/callback_url")
        if asked["dry_run"]:
            return Response(_shown(replay_preview.preview(filters, scope, to_url=url)))
        try:
            job = replay.start(
                filters,
                scope=scope,
                to_url=url,
                all_projects=asked["all_projects"],
                rate=asked.get("rate"),
                reason=asked.get("reason", ""),
                requested_by=actor_of(request),
                source="api",
            )
        except replay_refusals.ReplayRefused as refused:
            raise _problem(refused) from None
        return _accepted(request, job)


class ReplayView(WebhookView):
    """One replay."""

    actions = {"DELETE": "admin"}

    @extend_schema(operation_id="getReplay", responses=ReplaySerializer)
    def get(self, request: Request, replay_id: str) -> Response:
        """Show how far a replay is."""
        return Response(ReplaySerializer(_find_replay(request, replay_id)).data)

    @extend_schema(operation_id="deleteReplay", responses={200: ReplaySerializer, 409: ENDED})
    def delete(self, request: Request, replay_id: str) -> Response:
        """Cancel a replay: what is due stays due, the rest is left alone."""
        return _cancel(request, replay_id)


class ReplayCancelView(WebhookView):
    """Cancel a replay, for clients that cannot send DELETE."""

    actions = {"POST": "admin"}

    @extend_schema(
        operation_id="cancelReplay", request=None, responses={200: ReplaySerializer, 409: ENDED}
    )
    def post(self, request: Request, replay_id: str) -> Response:
        """Cancel a replay."""
        return _cancel(request, replay_id)


def _cancel(request: Request, replay_id: str) -> Response:
    job = _find_replay(request, replay_id)
    try:
        job = replay.cancel(job, requested_by=actor_of(request))
    except replay_refusals.NotRunning as refused:
        problem = ApiProblem(409, refused.code, sentence(str(refused)), extra={"state": job.state})
        raise problem from None
    return Response(ReplaySerializer(job).data)


def _find_replay(request: Request, text: str) -> ReplayJob:
    return found_row(within(request, ReplayJob.objects.filter(pk=read_uuid(text))))


def _accepted(request: Request, job: ReplayJob) -> Response:
    headers = location(request, "replay", job.pk)
    return Response(ReplaySerializer(job).data, 202, headers=headers)


def _shown(seen: replay_preview.Preview) -> dict[str, Any]:
    moment = serializers.DateTimeField().to_representation
    ids = [message.pk for message in seen.sample]
    sample = for_answers(WebhookMessage.objects.filter(pk__in=ids)).order_by("id")
    return {
        "dry_run": True,
        "count": seen.count,
        "is_exact": seen.is_exact,
        "projects": seen.projects,
        "oldest_at": seen.oldest_at and moment(seen.oldest_at),
        "newest_at": seen.newest_at and moment(seen.newest_at),
        "error_codes": seen.error_codes,
        "from": seen.origins,
        "credentials_left_off": seen.credentials_left_off,
        "to": seen.to_url or None,
        "sample": MessageSerializer(sample, many=True).data,
    }


def _problem(refused: replay_refusals.ReplayRefused) -> ApiProblem:
    if isinstance(refused, replay_refusals.ReasonMissing):
        problem: FieldProblem = {"pointer": "/reason", "code": "required", "message": ""}
        return invalid([{**problem, "message": sentence(str(refused))}])
    if isinstance(refused, replay_refusals.SeveralProjects):
        text = f'{sentence(str(refused))} Name one in the filter, or say "all_projects": true.'
        return ApiProblem(409, refused.code, text, extra={"projects": refused.projects[:100]})
    return ApiProblem(409, refused.code, sentence(str(refused)))
