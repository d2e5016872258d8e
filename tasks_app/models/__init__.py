"""What did clients ask for, how did it go, and who may ask?

Only `tasks_app.state` writes ``Task.status``.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any, ClassVar

from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import F, Func, Q, TextField, Value
from django.db.models.functions import Lower
from rest_framework_api_key.models import AbstractAPIKey, BaseAPIKeyManager

from tasks_app.models.assets import (
    SHOWN_STATES,
    AssetOrigin,
    AssetState,
    MediaFile,
    TaskInput,
    new_link_token,
    new_media_id,
)
from tasks_app.models.costs import AMOUNT, Cost, CostBasis, Project
from tasks_app.models.remote_jobs import (
    ACTIVE_JOBS,
    RemoteJob,
    RemoteJobOutcome,
    RemoteJobState,
    RemoteServer,
    new_callback_token,
)

__all__ = [
    "ACTIVE_JOBS",
    "ALL_SCOPES",
    "CALLBACK_HOST",
    "SHOWN_STATES",
    "TERMINAL_STATUSES",
    "WAITS_FOR_INPUTS",
    "ApiKey",
    "ApiKeyManager",
    "AssetOrigin",
    "AssetState",
    "Cost",
    "CostBasis",
    "IdempotencyKey",
    "Lease",
    "MediaFile",
    "Priority",
    "Project",
    "RemoteJob",
    "RemoteJobOutcome",
    "RemoteJobState",
    "RemoteServer",
    "Task",
    "TaskInput",
    "TaskStatus",
    "default_scopes",
    "new_callback_token",
    "new_link_token",
    "new_media_id",
    "task_type_choices",
]

ALL_SCOPES = ("read", "submit", "admin")


def default_scopes() -> list[str]:
    """Return every scope: a key created without a choice may do everything."""
    return list(ALL_SCOPES)


def task_type_choices() -> list[tuple[str, str]]:
    """Return the registered task types; a callable, so that a new type needs no migration."""
    from tasks_app.task_types import choices

    return choices()


class ApiKeyManager(BaseAPIKeyManager):
    """Creates keys whose primary key is their public prefix.

    The library makes the hash part of the primary key, from where it would spread to foreign keys
    and admin URLs.
    """

    def assign_key(self, obj: AbstractAPIKey) -> str:
        """Give ``obj`` a new key, and return it: only its hash is stored."""
        key = super().assign_key(obj)
        obj.id = obj.prefix
        return str(key)


class ApiKey(AbstractAPIKey):
    """A client's key. Only its hash is stored."""

    project_id = models.CharField(
        max_length=100,
        null=True,
        blank=True,
        db_index=True,
        help_text="The one project this key may touch; empty for all projects.",
    )
    scopes = models.JSONField(default=default_scopes, help_text="Any of read, submit, admin.")
    rate_limit_per_minute = models.PositiveIntegerField(
        null=True, blank=True, help_text="Requests a minute; empty for the service's default."
    )
    callback_hosts = models.JSONField(
        default=list, blank=True, help_text="Hosts callbacks may go to; empty for any allowed one."
    )
    retry_policy = models.JSONField(
        null=True, blank=True, help_text="Default policy of this key's tasks: a name or waits."
    )
    callback_auth = models.CharField(
        max_length=100,
        blank=True,
        default="",
        db_default="",
        help_text="The credential of its tasks' callbacks, by name; empty: the project's.",
    )
    budget_amount = models.DecimalField(
        null=True, blank=True, **AMOUNT, help_text="Most per calendar month (UTC); empty: no limit."
    )
    budget_currency = models.CharField(max_length=3, blank=True, default="", db_default="")
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = ApiKeyManager()  # type: ignore[assignment, misc]  # the library types its own

    class Meta(AbstractAPIKey.Meta):
        verbose_name = "API key"
        verbose_name_plural = "API keys"
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["name"], opclasses=["varchar_pattern_ops"], name="api_key_name")
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix})"


class TaskStatus(models.TextChoices):
    """The state of a task; the last three are terminal."""

    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


#: ``available_at`` of a queued task until all its inputs are ready.
WAITS_FOR_INPUTS = datetime(9999, 1, 1, tzinfo=UTC)
TERMINAL_STATUSES = (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED)


class Priority(models.IntegerChoices):
    """Clients see the lower-case names; a smaller number goes first."""

    HIGH = 1, "high"
    NORMAL = 2, "normal"
    LOW = 3, "low"


#: The host of a task's callback, lower case; an IPv6 address has its brackets.
CALLBACK_HOST = Lower(
    Func(
        F("callback_url"),
        Value(r"^[^:]+://(\[[^]]*\]|[^/?#:]+)"),
        function="substring",
        output_field=TextField(),
    )
)


class Task(models.Model):
    """What a client asked for."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project_id = models.CharField(max_length=100)
    task_type = models.CharField(max_length=50, choices=task_type_choices)
    task_data = models.JSONField()
    # Text, not JSON: key order and the form of numbers must come back as the client sent them.
    metadata = models.TextField(null=True, blank=True)
    # What a task may be found by: the scalar members of its metadata, each value as text.
    metadata_values = models.JSONField(null=True, blank=True, editable=False)
    callback_url = models.CharField(max_length=2048, blank=True, default="")
    # The credential that its callbacks carry, by name; empty: that of the key or the project.
    callback_auth = models.CharField(max_length=100, blank=True, default="", db_default="")
    webhook_events = models.JSONField(default=list)
    retry_policy = models.JSONField(null=True, blank=True)
    priority = models.PositiveSmallIntegerField(choices=Priority, default=Priority.NORMAL)
    status = models.CharField(max_length=12, choices=TaskStatus, default=TaskStatus.QUEUED)
    progress = models.FloatField(default=0.0)
    current_step = models.CharField(max_length=200, blank=True, default="")
    version = models.PositiveIntegerField(default=1)
    result = models.JSONField(null=True, blank=True)
    error_code = models.CharField(max_length=40, blank=True, default="")
    error = models.TextField(blank=True, default="")
    traceback = models.TextField(blank=True, default="")
    attempts = models.PositiveSmallIntegerField(default=0)
    lost_count = models.PositiveSmallIntegerField(default=0)
    available_at = models.DateTimeField()
    timeout_seconds = models.PositiveIntegerField()
    # Set by the first claim: timeout_seconds cover all attempts and waits from then on.
    deadline = models.DateTimeField(null=True, blank=True)
    run_token = models.UUIDField(null=True, blank=True)
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    event_sequence = models.PositiveIntegerField(default=0)
    # The provider that makes it elsewhere; empty while the task waits, or is made on this machine.
    remote_provider = models.CharField(max_length=50, blank=True, default="", db_default="")
    # "provider:model" whose servers are full; the task is queued until one of them has room.
    waits_for = models.CharField(max_length=255, blank=True, default="", db_default="")
    # What it is expected to cost, counted against budgets until it has ended.
    reserved_amount = models.DecimalField(null=True, blank=True, **AMOUNT)
    reserved_currency = models.CharField(max_length=3, blank=True, default="", db_default="")
    # The providers that could not be had, in order; the next of the chain makes it.
    fallback_from = models.JSONField(default=list, db_default=Value([], models.JSONField()))
    retry_of = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="retries"
    )
    api_key = models.ForeignKey(ApiKey, null=True, blank=True, on_delete=models.SET_NULL)
    request_id = models.CharField(max_length=64, blank=True, default="")
    # W3C Trace Context of the request that submitted it.
    traceparent = models.CharField(max_length=55, blank=True, default="", db_default="")
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar[list[Any]] = [
            models.CheckConstraint(
                name="task_finished_at_iff_terminal",
                condition=Q(
                    status__in=["completed", "failed", "cancelled"], finished_at__isnull=False
                )
                | Q(status__in=["queued", "processing"], finished_at__isnull=True),
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                fields=["task_type", "project_id", "priority", "created_at", "id"],
                condition=Q(status="queued"),
                name="task_queue",
            ),
            models.Index(
                fields=["task_type", "priority", "created_at", "id"],
                condition=Q(status="queued"),
                name="task_position",
            ),
            models.Index(
                fields=["task_type", "project_id"],
                condition=Q(status="processing"),
                name="task_running",
            ),
            models.Index(
                fields=["task_type", "project_id", "started_at"],
                condition=Q(started_at__isnull=False),
                name="task_served",
            ),
            models.Index(
                fields=["lease_expires_at"], condition=Q(status="processing"), name="task_lease"
            ),
            GinIndex(
                fields=["metadata_values"],
                opclasses=["jsonb_path_ops"],
                condition=Q(metadata_values__isnull=False),
                name="task_metadata",
            ),
            models.Index(
                CALLBACK_HOST,
                "created_at",
                "id",
                condition=~Q(callback_url=""),
                name="task_callback_host",
            ),
            models.Index(
                fields=["request_id", "created_at", "id"],
                condition=~Q(request_id=""),
                name="task_request_page",
            ),
            models.Index(fields=["project_id", "created_at", "id"], name="task_project_page"),
            models.Index(fields=["created_at", "id"], name="task_page"),
            models.Index(
                fields=["project_id", "status", "created_at", "id"], name="task_project_status"
            ),
            models.Index(fields=["status", "created_at", "id"], name="task_status_page"),
            models.Index(fields=["task_type", "created_at", "id"], name="task_type_page"),
            models.Index(
                fields=["task_type", "finished_at"],
                condition=Q(status="completed"),
                name="task_history",
            ),
            models.Index(
                fields=["waits_for", "project_id", "priority", "created_at", "id"],
                condition=Q(status="queued") & ~Q(waits_for=""),
                name="task_waiting",
            ),
            models.Index(
                fields=["project_id"],
                condition=Q(status__in=["queued", "processing"], reserved_amount__isnull=False),
                name="task_reserved",
            ),
            models.Index(
                fields=["api_key"],
                condition=Q(status__in=["queued", "processing"], reserved_amount__isnull=False),
                name="task_reserved_by_key",
            ),
            models.Index(
                fields=["available_at"],
                condition=Q(status="queued", available_at__gte=WAITS_FOR_INPUTS),
                name="task_unready",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.task_type} {self.id}"

    @property
    def seconds_at_claim(self) -> float:
        """Return the time it had left when it was claimed, in seconds."""
        assert self.deadline is not None, "set by the first claim"
        assert self.started_at is not None, "set by each claim"
        return (self.deadline - self.started_at).total_seconds()

    @property
    def is_terminal(self) -> bool:
        """Say whether the task has ended."""
        return self.status in TERMINAL_STATUSES


class IdempotencyKey(models.Model):
    """The answer to a submit, or to a new asset, that carried an ``Idempotency-Key``."""

    scope = models.CharField(max_length=110)
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)
    task = models.ForeignKey(Task, null=True, blank=True, on_delete=models.CASCADE)
    file = models.ForeignKey(MediaFile, null=True, blank=True, on_delete=models.CASCADE)
    response = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        constraints: ClassVar[list[Any]] = [
            models.UniqueConstraint(fields=["scope", "key"], name="idempotency_once")
        ]

    def __str__(self) -> str:
        return f"{self.scope}:{self.key}"


class Lease(models.Model):
    """A job that only one process may do at a time: its name, and until when it is taken."""

    name = models.CharField(primary_key=True, max_length=40)
    token = models.UUIDField()
    expires_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name
