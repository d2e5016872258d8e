"""What can a client ask about messages, how is one shown, and how is it set aside?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import OuterRef, QuerySet, Subquery
from django.utils import timezone
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from webhooks_app.api.access import actor_of, scope_of
from webhooks_app.api.deliveries import Conditions, DeliverySerializer
from webhooks_app.api.fields import Choice, Flag, Items, MessageId, Text
from webhooks_app.api.openapi import (
    OpenApiResponse,
    OpenApiTypes,
    extend_schema,
    extend_schema_field,
    inline_serializer,
)
from webhooks_app.api.pages import PageQuery, page_of, page_response
from webhooks_app.api.problems import ApiProblem, not_found
from webhooks_app.api.read import StrictObject, read_body, read_id, read_query
from webhooks_app.api.view import WebhookView
from webhooks_app.models import MessageStatus, WebhookMessage
from webhooks_app.notation import EVENT_ID_PREFIX, LEFT_OFF, Payload, sentence
from webhooks_app.operators import set_aside
from webhooks_app.outbox import STATUSES, InvalidFilter, MessageFilters, messages_of, who
from webhooks_app.shown import safe_url

#: So many of the messages that one id means are listed.
MOST_NAMED = 50
#: A problem; the project says what one looks like.
SEVERAL = OpenApiResponse(
    description="`several_messages`: the `msg_...` means several; `messages` lists them."
)


class MessageQuery(PageQuery, Conditions):
    """The query string of the list of messages."""

    status = Choice(list(STATUSES), required=False)


def filters_of(values: dict[str, Any]) -> MessageFilters:
    """Turn the API's parameters into the filters of lists and replays."""
    names = {"task_id": "task", "project_id": "project", "event_type": "event"}
    known = (
        *("status", "host", "status_code", "error_code", "since", "until", "ids"),
        *("request_id", "metadata", *names),
    )
    return MessageFilters.of(
        {names.get(name, name): values[name] for name in known if name in values}
    )


def for_answers(found: QuerySet[WebhookMessage]) -> QuerySet[WebhookMessage]:
    """Return messages with all that an answer shows of each, in one query."""
    originals = WebhookMessage.objects.filter(replayed_as=OuterRef("pk")).order_by("id")
    before = WebhookMessage.objects.filter(pk=OuterRef("after_id"))
    return found.select_related("event", "destination").annotate(
        copied_from=ArraySubquery(originals.values("id")),
        predecessor=Subquery(before.values("event__event_id")[:1]),
    )


class MessageSerializer(serializers.ModelSerializer[WebhookMessage]):
    """One event owed to one URL, and the state of its delivery."""

    event_id = serializers.CharField(source="event.event_id", help_text="`webhook-id`")
    event_type = serializers.CharField(source="event.event_type")
    project_id = serializers.CharField(source="event.scope")
    task_id = serializers.CharField(source="event.subject", help_text="What the event is about.")
    sequence = serializers.IntegerField(source="event.sequence")
    status = serializers.ChoiceField(MessageStatus.choices)
    callback_auth = serializers.SerializerMethodField()
    is_in_flight = serializers.SerializerMethodField()
    next_attempt_at = serializers.SerializerMethodField()
    held_until = serializers.DateTimeField(
        source="destination.held_until",
        allow_null=True,
        help_text="The destination is held back until then.",
    )
    is_destination_disabled = serializers.SerializerMethodField()
    waits_for = serializers.SerializerMethodField()
    skipped = serializers.SerializerMethodField()
    policy = serializers.ListField(
        child=serializers.FloatField(), help_text="Waits before the retries, in seconds."
    )
    replayed_as = serializers.IntegerField(
        source="replayed_as_id", allow_null=True, help_text="The message it became at another URL."
    )
    replay_of = serializers.SerializerMethodField()

    class Meta:
        model = WebhookMessage
        fields: tuple[str, ...] = (
            "id",
            "event_id",
            "event_type",
            "project_id",
            "task_id",
            "sequence",
            "url",
            "endpoint_id",
            "callback_auth",
            "status",
            "is_in_flight",
            "attempt_count",
            "retry_step",
            "policy",
            "next_attempt_at",
            "held_until",
            "is_destination_disabled",
            "waits_for",
            "skipped",
            "last_status_code",
            "last_error_code",
            "replay_id",
            "replayed_as",
            "replay_of",
            "created_at",
            "delivered_at",
            "finished_at",
        )

    def get_callback_auth(self, message: WebhookMessage) -> str:
        """Return the name of the credential that its requests carry; empty: none."""
        name = message.callback_auth
        return "" if name.startswith(LEFT_OFF) else name

    def get_is_in_flight(self, message: WebhookMessage) -> bool:
        """Say whether an attempt is under way."""
        end = message.lease_expires_at if message.lease_token else None
        return end is not None and end > timezone.now()

    @extend_schema_field(serializers.DateTimeField(allow_null=True))
    def get_next_attempt_at(self, message: WebhookMessage) -> Any:
        """Return the due time; None during an attempt, behind another message, and at the end."""
        due = None if message.is_waiting else message.next_attempt_at
        if due is None or self.get_is_in_flight(message):
            return None
        return serializers.DateTimeField().to_representation(due)

    @extend_schema_field(serializers.ListField(child=serializers.IntegerField()))
    def get_replay_of(self, message: WebhookMessage) -> list[int]:
        """Return the messages that were replayed as this one."""
        found: list[int] | None = getattr(message, "copied_from", None)
        if found is None:
            found = list(message.replay_of.order_by("id").values_list("id", flat=True))
        return found

    def get_waits_for(self, message: WebhookMessage) -> str | None:
        """Return the `webhook-id` of the event before it that an ordered endpoint gets first."""
        if not message.is_waiting:
            return None
        if not hasattr(message, "predecessor"):
            before = WebhookMessage.objects.filter(pk=message.after_id or 0)
            return before.values_list("event__event_id", flat=True).first()
        found: str | None = message.predecessor
        return found

    def get_skipped(self, message: WebhookMessage) -> str | None:
        """Return the `webhook-id` of the dead letter that it did not wait for any longer."""
        return message.skipped or None

    def get_is_destination_disabled(self, message: WebhookMessage) -> bool:
        """Say whether an operator disabled the destination."""
        return message.destination.disabled_at is not None


class MessageDetailSerializer(MessageSerializer):
    """A message with its payload and every attempt, oldest first."""

    payload = serializers.SerializerMethodField()
    deliveries = serializers.SerializerMethodField()

    class Meta(MessageSerializer.Meta):
        fields: tuple[str, ...] = (*MessageSerializer.Meta.fields, "payload", "deliveries")

    @extend_schema_field(OpenApiTypes.OBJECT)
    def get_payload(self, message: WebhookMessage) -> Any:
        """Return the body as it is sent."""
        return Payload(bytes(message.event.body))

    @extend_schema_field(DeliverySerializer(many=True))
    def get_deliveries(self, message: WebhookMessage) -> Any:
        """Return the attempts."""
        rows = sorted(message.deliveries.all(), key=lambda row: row.attempt_number)
        for row in rows:
            row.message = message
        return DeliverySerializer(rows, many=True).data


def find_message(request: Request, text: str) -> WebhookMessage:
    """Return the one message that a number, or an event's id or its beginning, names.

    Raises:
        ApiProblem: 404 if it is absent or belongs to another project; 409 if there are several.
    """
    visible = messages_of(MessageFilters(), scope_of(request))
    if text.startswith(EVENT_ID_PREFIX):
        found = visible.filter(who.event_id_condition(_event_id(text), "event__event_id"))
    else:
        found = visible.filter(pk=read_id(text))
    rows = list(for_answers(found).order_by("pk")[: MOST_NAMED + 1])
    if not rows:
        raise not_found()
    if len(rows) > 1:
        raise _several(text, rows)
    return rows[0]


def _event_id(text: str) -> str:
    try:
        return who.read_event_id(text)
    except InvalidFilter:
        raise not_found() from None


def _several(text: str, rows: list[WebhookMessage]) -> ApiProblem:
    many = "" if len(rows) <= MOST_NAMED else f" The first {MOST_NAMED} are listed."
    return ApiProblem(
        409,
        "several_messages",
        f"{text} means several messages: use the id of one.{many}",
        extra={
            "messages": [
                {
                    "id": row.pk,
                    "event_id": row.event.event_id,
                    "url": safe_url(row.url),
                    "status": row.status,
                }
                for row in rows[:MOST_NAMED]
            ]
        },
    )


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
        return page_response(
            request,
            for_answers(found).defer("event__body"),
            asked,
            MessageSerializer,
        )


class MessageView(WebhookView):
    """One message."""

    @extend_schema(
        operation_id="getMessage", responses={200: MessageDetailSerializer, 409: SEVERAL}
    )
    def get(self, request: Request, message_id: str) -> Response:
        """Show a message with its payload and every attempt; `message_id` may be `msg_...`."""
        return Response(MessageDetailSerializer(find_message(request, message_id)).data)


# -- set aside ------------------------------------------------------------------------------------

#: One request takes no more, so that its work is bounded.
MOST = 1_000
OTHER_STATE = OpenApiResponse(description="`not_possible`: the message is in another state.")
DONE = inline_serializer(
    "SetAside",
    {
        "changed": serializers.IntegerField(),
        "is_complete": serializers.BooleanField(
            help_text=f"False where more are left; one request takes {MOST} and a few."
        ),
    },
)


class WhyRequest(StrictObject):
    """The body: the reason, which goes on record."""

    reason = Text(max_length=500, min_length=1)


class SetAsideFilter(Conditions):
    """Which dead letters; all conditions must hold."""

    ids = Items(child=MessageId(), required=False, most=1_000)


class SetAsideRequest(WhyRequest):
    """The body: which messages, and why."""

    filter = SetAsideFilter(required=False)
    undo = Flag(
        required=False,
        default=False,
        help_text="Make dead letters again of those that were set aside.",
    )


class MessageSetAsideView(WebhookView):
    """A message that was set aside, or is to be."""

    actions = {"POST": "admin", "DELETE": "admin"}

    @extend_schema(
        operation_id="setMessageAside",
        request=WhyRequest,
        responses={200: MessageSerializer, 409: OTHER_STATE},
    )
    def post(self, request: Request, message_id: str) -> Response:
        """Set a dead letter aside: it is kept and can be replayed, but counts no more."""
        message = find_message(request, message_id)
        reason = read_body(request, WhyRequest)["reason"]
        return _changed(request, message, reason, is_undone=False)

    @extend_schema(
        operation_id="takeMessageBack",
        request=None,
        responses={200: MessageSerializer, 409: OTHER_STATE},
    )
    def delete(self, request: Request, message_id: str) -> Response:
        """Make a message that was set aside a dead letter again."""
        return _changed(request, find_message(request, message_id), "", is_undone=True)


class SetAsideView(WebhookView):
    """Many dead letters at once."""

    actions = {"POST": "admin"}

    @extend_schema(operation_id="setMessagesAside", request=SetAsideRequest, responses=DONE)
    def post(self, request: Request) -> Response:
        """Set aside the dead letters that a filter means; again while `is_complete` is false."""
        asked = read_body(request, SetAsideRequest)
        filters, scope = filters_of(asked.get("filter", {})), scope_of(request)
        changed = set_aside.many(
            filters,
            scope,
            actor=actor_of(request),
            reason=asked["reason"],
            is_undone=asked["undo"],
            on_batch=lambda done: done < MOST,
        )
        before = MessageStatus.SET_ASIDE if asked["undo"] else MessageStatus.DEAD
        left = messages_of(replace(filters, status=str(before)), scope)
        return Response({"changed": changed, "is_complete": not left.exists()})


def _changed(
    request: Request, message: WebhookMessage, reason: str, *, is_undone: bool
) -> Response:
    try:
        set_aside.one(message, actor=actor_of(request), reason=reason, is_undone=is_undone)
    except set_aside.NotPossible as refused:
        text = sentence(str(refused))
        raise ApiProblem(409, "not_possible", text, extra={"state": message.status}) from None
    return Response(MessageSerializer(find_message(request, str(message.pk))).data)
