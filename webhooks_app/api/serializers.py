"""How are messages, attempts, replays, endpoints and events shown to a client?

Answers only; requests are in `fields`, `message_requests` and the views' modules.
"""

from __future__ import annotations

import json
from typing import Any

from django.utils import timezone
from rest_framework import serializers

from webhooks_app.api.fields import RetryPolicy
from webhooks_app.api.openapi import OpenApiTypes, extend_schema_field
from webhooks_app.models import (
    DeliveryOutcome,
    DeliveryTrigger,
    MessageStatus,
    ReplayJob,
    ReplayState,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookEvent,
    WebhookMessage,
)
from webhooks_app.operators.replay import progress


class Payload:
    """The body of an event within an answer; no dataclass, which orjson would write itself."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    def tolist(self) -> Any:
        """Return what it says; DRF's own encoder asks for it by this name."""
        return json.loads(self.body)


#: Names of members, in their order in an answer.
Names = tuple[str, ...]


class DeliverySerializer(serializers.ModelSerializer[WebhookDelivery]):
    """One attempt: what was sent, what came back, how long it took."""

    event_id = serializers.CharField(source="message.event.event_id", help_text="`webhook-id`")
    event_type = serializers.CharField(source="message.event.event_type")
    project_id = serializers.CharField(source="message.event.scope")
    task_id = serializers.CharField(source="message.event.subject")
    trigger = serializers.ChoiceField(DeliveryTrigger.choices)
    outcome = serializers.ChoiceField(DeliveryOutcome.choices)
    response_body = serializers.SerializerMethodField()
    phases = serializers.DictField(child=serializers.FloatField(), help_text="Milliseconds.")
    request_headers = serializers.DictField(child=serializers.CharField())
    response_headers = serializers.DictField()
    is_connection_reused = serializers.BooleanField()

    class Meta:
        model = WebhookDelivery
        fields: Names = (
            "id",
            "message_id",
            "event_id",
            "event_type",
            "project_id",
            "task_id",
            "attempt_number",
            "trigger",
            "url",
            "outcome",
            "error_code",
            "error",
            "started_at",
            "duration_ms",
            "phases",
            "is_connection_reused",
            "reconnected",
            "request_headers",
            "response_status",
            "response_headers",
            "response_body",
            "is_truncated",
        )
        extra_kwargs = {
            "error": {
                "help_text": "Why it failed, in a sentence. Also a note on an answer that was odd "
                "behind its status line; such an attempt may have succeeded."
            }
        }

    def get_response_body(self, delivery: WebhookDelivery) -> str | None:
        """Return the kept bytes as text; bytes that are not UTF-8 become replacement characters."""
        if delivery.response_body is None:
            return None
        return bytes(delivery.response_body).decode(errors="replace")


class MessageSerializer(serializers.ModelSerializer[WebhookMessage]):
    """One event owed to one URL, and the state of its delivery."""

    event_id = serializers.CharField(source="event.event_id", help_text="`webhook-id`")
    event_type = serializers.CharField(source="event.event_type")
    project_id = serializers.CharField(source="event.scope")
    task_id = serializers.CharField(source="event.subject", help_text="What the event is about.")
    sequence = serializers.IntegerField(source="event.sequence")
    status = serializers.ChoiceField(MessageStatus.choices)
    is_in_flight = serializers.SerializerMethodField()
    next_attempt_at = serializers.SerializerMethodField()
    held_until = serializers.DateTimeField(
        source="destination.held_until",
        allow_null=True,
        help_text="The destination is held back until then.",
    )
    is_destination_disabled = serializers.SerializerMethodField()
    policy = serializers.ListField(
        child=serializers.FloatField(), help_text="Waits before the retries, in seconds."
    )

    class Meta:
        model = WebhookMessage
        fields: Names = (
            "id",
            "event_id",
            "event_type",
            "project_id",
            "task_id",
            "sequence",
            "url",
            "endpoint_id",
            "status",
            "is_in_flight",
            "attempt_count",
            "retry_step",
            "policy",
            "next_attempt_at",
            "held_until",
            "is_destination_disabled",
            "last_status_code",
            "last_error_code",
            "replay_id",
            "created_at",
            "delivered_at",
            "finished_at",
        )

    def get_is_in_flight(self, message: WebhookMessage) -> bool:
        """Say whether an attempt is under way."""
        end = message.lease_expires_at if message.lease_token else None
        return end is not None and end > timezone.now()

    @extend_schema_field(serializers.DateTimeField(allow_null=True))
    def get_next_attempt_at(self, message: WebhookMessage) -> Any:
        """Return the due time; None during an attempt, and when the message has ended."""
        if message.next_attempt_at is None or self.get_is_in_flight(message):
            return None
        return serializers.DateTimeField().to_representation(message.next_attempt_at)

    def get_is_destination_disabled(self, message: WebhookMessage) -> bool:
        """Say whether an operator disabled the destination."""
        return message.destination.disabled_at is not None


class MessageDetailSerializer(MessageSerializer):
    """A message with its payload and every attempt, oldest first."""

    payload = serializers.SerializerMethodField()
    deliveries = serializers.SerializerMethodField()

    class Meta(MessageSerializer.Meta):
        fields: Names = (*MessageSerializer.Meta.fields, "payload", "deliveries")

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
        fields: Names = (
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
        {
            "type": "object",
            "additionalProperties": {"type": "integer"},
            "example": {
                "total": 12,
                "started": 10,
                "skipped": 1,
                "left": 1,
                "pending": 2,
                "delivered": 8,
                "dead": 0,
                "ended_otherwise": 0,
            },
        }
    )
    def get_progress(self, job: ReplayJob) -> dict[str, int]:
        """Return the counts."""
        seen = progress(job)
        names = (
            "total",
            "started",
            "skipped",
            "left",
            "pending",
            "delivered",
            "dead",
            "ended_otherwise",
        )
        return {name: getattr(seen, name) for name in names}


class EndpointSerializer(serializers.ModelSerializer[WebhookEndpoint]):
    """A subscription."""

    project_id = serializers.CharField(source="scope")
    event_types = serializers.ListField(child=serializers.CharField())
    retry_policy = RetryPolicy(allow_null=True)

    class Meta:
        model = WebhookEndpoint
        fields: Names = (
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
        fields: Names = (*EndpointSerializer.Meta.fields, "secret")


class EventSerializer(serializers.ModelSerializer[WebhookEvent]):
    """An event, for clients of the pull feed."""

    id = serializers.CharField(source="event_id", help_text="`webhook-id`; what to acknowledge.")
    project_id = serializers.CharField(source="scope")
    task_id = serializers.CharField(source="subject")
    payload = serializers.SerializerMethodField()

    class Meta:
        model = WebhookEvent
        fields: Names = (
            "id",
            "event_type",
            "project_id",
            "task_id",
            "sequence",
            "is_terminal",
            "created_at",
            "payload",
        )

    @extend_schema_field(OpenApiTypes.OBJECT)
    def get_payload(self, event: WebhookEvent) -> Any:
        """Return the body as receivers get it."""
        return Payload(bytes(event.body))


class PreviousSecretSerializer(serializers.Serializer[Any]):
    """A secret that still signs beside the current one."""

    secret = serializers.CharField()
    expires_at = serializers.DateTimeField()


class SecretSerializer(serializers.Serializer[Any]):
    """What signs the webhooks of a project, or of one endpoint."""

    project_id = serializers.CharField()
    secret = serializers.CharField(help_text="`whsec_` and base64.")
    previous = PreviousSecretSerializer(many=True)
