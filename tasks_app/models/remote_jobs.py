"""Which work is at providers elsewhere, and what is known of their servers?

Other rooms import these classes from `tasks_app.models`.
"""

from __future__ import annotations

import secrets
import uuid
from typing import Any, ClassVar

from django.db import models
from django.db.models import Q


def new_callback_token() -> str:
    """Return 192 random bits as 48 hex digits: who knows it may say that a remote job has news."""
    return secrets.token_hex(24)


class RemoteJobState(models.TextChoices):
    """The state of work at a provider; the first three are active, one such job per task."""

    SUBMITTING = "submitting"
    RUNNING = "running"
    READY = "ready"  # the provider is done, its files are not here yet
    STOPPING = "stopping"  # the provider must still be told to stop
    ENDED = "ended"


ACTIVE_JOBS = (RemoteJobState.SUBMITTING, RemoteJobState.RUNNING, RemoteJobState.READY)


class RemoteJobOutcome(models.TextChoices):
    """How work at a provider ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"
    UNSTOPPED = "unstopped", "could not be stopped"
    LOST = "lost"
    UNCLEAR = "unclear", "unclear: perhaps paid"
    LATE = "late", "late: kept for a retry"


class RemoteJob(models.Model):
    """Work for a task at a provider elsewhere. Rows are kept: they say what was paid for.

    ``next_look_at`` is also the lease: who takes the row moves it into the future. Only
    `tasks_app.state.remote_jobs` writes these rows.
    """

    #: That of its task, where it was taken by `remote_jobs.take_due`; no column.
    traceparent = ""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    task = models.ForeignKey("tasks_app.Task", on_delete=models.CASCADE, related_name="remote_jobs")
    provider = models.CharField(max_length=50)
    server = models.CharField(max_length=100, help_text="The server's label, never its address.")
    model = models.CharField(max_length=200, blank=True, default="")
    task_type = models.CharField(max_length=50)
    attempt = models.PositiveSmallIntegerField()
    state = models.CharField(max_length=12, choices=RemoteJobState)
    outcome = models.CharField(
        max_length=12, choices=RemoteJobOutcome, blank=True, default="", help_text="Once it ended."
    )
    # Why it is to be stopped: cancelled, lost, or the error code of its task.
    stop_reason = models.CharField(max_length=40, blank=True, default="")
    remote = models.JSONField(default=dict, help_text="What the provider answered at submit.")
    outputs = models.JSONField(default=list, help_text="Where the provider keeps the results.")
    facts = models.JSONField(default=dict, help_text="Added to the receipt.")
    callback_token = models.CharField(max_length=48, unique=True, default=new_callback_token)
    note = models.CharField(max_length=500, blank=True, default="", help_text="For operators.")
    look_token = models.UUIDField(null=True, blank=True)
    next_look_at = models.DateTimeField()
    asked_at = models.DateTimeField(null=True, blank=True)  # when a submit may have gone out
    seen_at = models.DateTimeField(null=True, blank=True)  # when the provider last answered
    stop_owed_at = models.DateTimeField(null=True, blank=True)
    stop_told_at = models.DateTimeField(null=True, blank=True)
    deadline = models.DateTimeField(help_text="When the task's time is over.")
    created_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar[list[Any]] = [
            models.UniqueConstraint(
                fields=["task"],
                condition=Q(state__in=["submitting", "running", "ready"]),
                name="remote_job_one_active",
            )
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                fields=["next_look_at"], condition=~Q(state="ended"), name="remote_job_due"
            ),
            models.Index(
                fields=["provider", "server"],
                condition=Q(state__in=["submitting", "running", "stopping"]),
                name="remote_job_running",
            ),
            models.Index(fields=["created_at", "id"], name="remote_job_page"),
            models.Index(fields=["outcome", "created_at", "id"], name="remote_job_outcome_page"),
            models.Index(fields=["provider", "created_at", "id"], name="remote_job_provider_page"),
            models.Index(
                fields=["provider", "server", "created_at", "id"], name="remote_job_server_page"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.provider} {self.id}"


class RemoteServer(models.Model):
    """What was learned about a provider's server; its address is in the configuration alone."""

    provider = models.CharField(max_length=50)
    label = models.CharField(max_length=100)
    learned_limit = models.PositiveIntegerField(
        null=True, blank=True, help_text="Most jobs at once, as learned; empty: no limit is known."
    )
    busy_until = models.DateTimeField(null=True, blank=True)
    is_paused = models.BooleanField(default=False, help_text="No new jobs; running ones go on.")
    last_error = models.CharField(max_length=500, blank=True, default="")
    seen_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar[list[Any]] = [
            models.UniqueConstraint(fields=["provider", "label"], name="remote_server_once")
        ]

    def __str__(self) -> str:
        return f"{self.provider}/{self.label}"
