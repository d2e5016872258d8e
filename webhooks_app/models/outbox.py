"""What happened, who is owed the news, and what came of every attempt to tell them?

Rows of `WebhookMessage` are rewritten on each attempt and therefore kept narrow; the body is in the
immutable `WebhookEvent`. The receivers' side is in `receivers.py`.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any, ClassVar

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Q

from webhooks_app.models.receivers import WebhookDestination, WebhookEndpoint


def _page(field: str, name: str, condition: Q | None = None) -> models.Index:
    """Return the index for a list filtered by ``field``, newest first."""
    return models.Index(fields=[field, "-id"], name=name, condition=condition)


class WebhookEvent(models.Model):
    """Something that happened. Immutable, except for ``acknowledged_at``."""

    event_id = models.CharField(max_length=64, unique=True)
    scope = models.CharField(max_length=100)
    subject = models.CharField(max_length=64)
    event_type = models.CharField(max_length=60)
    sequence = models.PositiveIntegerField()
    is_terminal = models.BooleanField(default=False)
    body = models.BinaryField()
    # The id of the API request that led to the event, for the engine's log lines.
    request_id = models.CharField(max_length=64, blank=True, default="", db_default="")
    # W3C Trace Context of what led to the event; each attempt is a span below it.
    traceparent = models.CharField(max_length=55, blank=True, default="", db_default="")
    # What an event may be found by: the client's own words, each value as text. The body has all.
    metadata = models.JSONField(null=True, blank=True)
    created_at = models.DateTimeField()
    acknowledged_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar[list[Any]] = [
            models.UniqueConstraint(fields=["subject", "sequence"], name="event_sequence_once"),
            models.UniqueConstraint(
                fields=["subject"], condition=Q(is_terminal=True), name="event_terminal_once"
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                fields=["scope", "id"],
                condition=Q(acknowledged_at__isnull=True),
                name="event_unacked",
            ),
            models.Index(fields=["created_at"], name="event_created"),
            GinIndex(
                fields=["metadata"],
                opclasses=["jsonb_path_ops"],
                condition=Q(metadata__isnull=False),
                name="event_metadata",
            ),
            _page("event_type", "event_type_page"),
            _page("request_id", "event_request_page", ~Q(request_id="")),
        ]

    def __str__(self) -> str:
        return f"{self.event_type} {self.event_id}"


class ReplayState(models.TextChoices):
    """The state of a replay."""

    RUNNING = "running"
    FINISHED = "finished"
    CANCELLED = "cancelled"


class ReplayJob(models.Model):
    """A replay of one message or many: which, to which URL, how fast, by whom, why, progress."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    scope = models.CharField(max_length=100, null=True, blank=True)
    filters = models.JSONField(default=dict)
    target_url = models.CharField(max_length=2048, blank=True, default="")
    rate_per_second = models.FloatField(null=True, blank=True)
    reason = models.CharField(max_length=500, blank=True, default="")
    requested_by = models.CharField(max_length=150)
    source = models.CharField(max_length=20)
    state = models.CharField(max_length=12, choices=ReplayState, default=ReplayState.RUNNING)
    total = models.PositiveIntegerField(default=0)
    started_count = models.PositiveIntegerField(default=0)
    skipped_count = models.PositiveIntegerField(default=0)
    last_message_id = models.BigIntegerField(default=0)
    highest_message_id = models.BigIntegerField(default=0)
    next_batch_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "replay"
        permissions: ClassVar[Any] = [("replay_webhooks", "Can replay webhook messages")]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                fields=["next_batch_at"], condition=Q(state="running"), name="replay_running"
            ),
            models.Index(fields=["-created_at", "-id"], name="replay_page"),
            models.Index(fields=["state", "-created_at", "-id"], name="replay_state_page"),
            models.Index(fields=["scope", "-created_at", "-id"], name="replay_scope_page"),
        ]

    def __str__(self) -> str:
        return f"replay {self.id} by {self.requested_by}"


class MessageStatus(models.TextChoices):
    """The state of a message; only pending ones are ever claimed."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"
    #: A dead letter that was sent elsewhere: its copy is ``replayed_as``.
    REPLAYED = "replayed"
    #: A dead letter that an operator has dealt with otherwise.
    SET_ASIDE = "set_aside", "Set aside"


#: The ``next_attempt_at`` of a message that waits for the one before it at an ordered endpoint.
WAITS_FOR_PREDECESSOR = datetime(9999, 1, 1, tzinfo=UTC)


class WebhookMessage(models.Model):
    """One event owed to one URL: the outbox row.

    The claim does not change ``next_attempt_at``: it writes only columns without an index, so that
    taking a lease costs one short row version (a HOT update) and no index entry.
    """

    # `message_once` begins with this column, so it needs no index of its own.
    event = models.ForeignKey(
        WebhookEvent, on_delete=models.CASCADE, related_name="messages", db_index=False
    )
    url = models.CharField(max_length=2048)
    destination = models.ForeignKey(
        WebhookDestination, on_delete=models.PROTECT, related_name="messages", db_index=False
    )
    endpoint = models.ForeignKey(
        WebhookEndpoint, models.SET_NULL, "messages", null=True, blank=True, db_index=False
    )
    status = models.CharField(max_length=10, choices=MessageStatus, default=MessageStatus.PENDING)
    # The name of the credential that its requests carry; empty: none.
    callback_auth = models.CharField(max_length=100, blank=True, default="", db_default="")
    policy = ArrayField(models.FloatField())
    jitter = models.FloatField(default=0.0)
    retry_step = models.PositiveSmallIntegerField(default=0)
    interrupted_count = models.PositiveSmallIntegerField(default=0)
    attempt_count = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True, blank=True)
    lease_token = models.UUIDField(null=True, blank=True)
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    last_status_code = models.PositiveSmallIntegerField(null=True, blank=True)
    last_error_code = models.CharField(max_length=24, blank=True, default="")
    replay = models.ForeignKey(
        ReplayJob, models.SET_NULL, "messages", null=True, blank=True, db_index=False
    )
    # The message that must end before this one is sent, at an ordered endpoint. Not a foreign key:
    # pruning that message must not look for this one.
    after_id = models.BigIntegerField(null=True, blank=True)
    # The event that this one did not wait for any longer, since it had become a dead letter.
    skipped = models.CharField(max_length=64, blank=True, default="", db_default="")
    # Its copy, where it was replayed to another URL.
    replayed_as = models.ForeignKey(
        "self", models.SET_NULL, "replay_of", null=True, blank=True, db_index=False
    )
    created_at = models.DateTimeField()
    delivered_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "message"
        constraints: ClassVar[list[Any]] = [
            models.UniqueConstraint(fields=["event", "url"], name="message_once"),
            models.CheckConstraint(
                name="message_due_iff_pending",
                condition=Q(status="pending", next_attempt_at__isnull=False)
                | (~Q(status="pending") & Q(next_attempt_at__isnull=True)),
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [
            # Destination first: the claim then skips a destination's backlog in one step.
            models.Index(
                fields=["destination", "next_attempt_at"],
                condition=Q(status="pending"),
                name="message_due_by_destination",
            ),
            models.Index(
                fields=["next_attempt_at"], condition=Q(status="pending"), name="message_due"
            ),
            # Without delivered messages: a page of those is found by walking back from the newest,
            # and each delivery saves an index entry.
            _page("status", "message_status_page", ~Q(status="delivered")),
            _page("destination", "message_destination_page"),
            models.Index(fields=["-created_at"], name="message_created_page"),
            models.Index(fields=["finished_at"], condition=Q(status="dead"), name="message_dead"),
            # Partial: a message delivered at once, as nearly all are, has no entry in these.
            _page("last_error_code", "message_error_page", ~Q(last_error_code="")),
            _page("last_status_code", "message_answer_page", Q(last_status_code__gte=300)),
            _page("endpoint", "message_endpoint_page", Q(endpoint__isnull=False)),
            models.Index(
                fields=["replay", "status"],
                condition=Q(replay__isnull=False),
                name="message_replay_status",
            ),
            models.Index(
                fields=["after_id"], condition=Q(after_id__isnull=False), name="message_after"
            ),
            models.Index(
                fields=["replayed_as"],
                condition=Q(replayed_as__isnull=False),
                name="message_replayed_as",
            ),
            models.Index(
                fields=["callback_auth"],
                condition=Q(status="pending") & ~Q(callback_auth=""),
                name="message_callback_auth",
            ),
        ]

    def __str__(self) -> str:
        return f"message {self.pk}"

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for the message ``after_id`` to end."""
        return self.next_attempt_at is not None and self.next_attempt_at >= WAITS_FOR_PREDECESSOR


class DeliveryOutcome(models.TextChoices):
    """How one attempt ended."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class DeliveryTrigger(models.TextChoices):
    """Why an attempt was made."""

    SCHEDULED = "scheduled"
    REPLAY = "replay"
    PING = "ping"


class WebhookDelivery(models.Model):
    """One attempt, written before the request goes out and closed after it."""

    message = models.ForeignKey(
        WebhookMessage, on_delete=models.CASCADE, related_name="deliveries", db_index=False
    )
    attempt_number = models.PositiveIntegerField()
    trigger = models.CharField(max_length=10, choices=DeliveryTrigger, default="scheduled")
    url = models.CharField(max_length=2048)
    remote_address = models.CharField(max_length=64, blank=True, default="")
    request_headers = models.JSONField(default=dict, blank=True)
    started_at = models.DateTimeField()
    duration_ms = models.FloatField(null=True, blank=True)
    phases = models.JSONField(default=dict, blank=True)
    outcome = models.CharField(max_length=12, choices=DeliveryOutcome, default="pending")
    response_status = models.PositiveSmallIntegerField(null=True, blank=True)
    response_headers = models.JSONField(default=dict, blank=True)
    response_body = models.BinaryField(null=True, blank=True)
    is_truncated = models.BooleanField(default=False)
    reconnected = models.BooleanField(default=False)
    error_code = models.CharField(max_length=24, blank=True, default="")
    error = models.CharField(max_length=500, blank=True, default="")

    class Meta:
        constraints: ClassVar[list[Any]] = [
            models.UniqueConstraint(fields=["message", "attempt_number"], name="attempt_once")
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["started_at"], name="delivery_started"),
            _page("outcome", "delivery_outcome_page", ~Q(outcome="succeeded")),
            _page("error_code", "delivery_error_page", ~Q(error_code="")),
            _page("response_status", "delivery_answer_page", Q(response_status__gte=300)),
            _page("trigger", "delivery_trigger_page", ~Q(trigger="scheduled")),
        ]
        verbose_name = "delivery"
        verbose_name_plural = "deliveries"

    def __str__(self) -> str:
        return f"attempt {self.attempt_number} of message {self.message_id}"

    @property
    def is_connection_reused(self) -> bool:
        """Whether it used a kept connection; its phases then start with the first byte."""
        return bool(self.remote_address) and "connect_ms" not in self.phases


class OperatorAction(models.Model):
    """What an operator did to the outbox: who, when, why. Written by admin, API and commands."""

    at = models.DateTimeField(auto_now_add=True, db_index=True)
    # The project it touched; empty: the installation, or several.
    scope = models.CharField(max_length=100, blank=True, default="", db_default="")
    actor = models.CharField(max_length=150)
    action = models.CharField(max_length=60)
    target = models.CharField(max_length=300)
    reason = models.CharField(max_length=500, blank=True, default="")

    class Meta:
        verbose_name = "operators' action"
        verbose_name_plural = "operators' actions"
        indexes: ClassVar[list[models.Index]] = [
            # A target begins with the kind of object acted upon.
            models.Index(
                fields=["target"], opclasses=["varchar_pattern_ops"], name="action_target"
            ),
            models.Index(fields=["actor"], opclasses=["varchar_pattern_ops"], name="action_actor"),
            _page("action", "action_page"),
            _page("scope", "action_scope_page"),
        ]

    def __str__(self) -> str:
        return f"{self.actor} {self.action} {self.target}"
