"""Which files are there: made by tasks, or handed in to make tasks from?

Other rooms import these classes from `tasks_app.models`.
"""

from __future__ import annotations

import secrets
from typing import Any, ClassVar

from django.db import models
from django.db.models import Q


def new_link_token() -> str:
    """Return 128 random bits as 32 hex digits, the secret part of a media link."""
    return secrets.token_hex(16)


def new_media_id() -> str:
    """Return a 64-bit random id in lowercase hex, which clients see as ``payload_media_id``."""
    return secrets.token_hex(8)


class AssetState(models.TextChoices):
    """Whether a file can be used. Clients never see ``deleting``: such a file is gone for them."""

    PENDING = "pending"
    READY = "ready"
    FAILED = "failed"
    DELETING = "deleting"


#: What clients see; who asks for any other state finds nothing.
SHOWN_STATES = [str(state) for state in AssetState if state != AssetState.DELETING]


class AssetOrigin(models.TextChoices):
    """Where a file came from; a presigned upload is an upload, too."""

    TASK = "task"
    UPLOAD = "upload"
    URL = "url"


class MediaFile(models.Model):
    """One stored file, made by a task or handed in: an asset.

    Its ``id`` is what clients get as ``asset_id``, and as ``payload_media_id`` of what a task made.
    The defaults are the database's, since the version before inserts rows without these columns
    while a new one is deployed.
    """

    id = models.CharField(primary_key=True, max_length=32, default=new_media_id, editable=False)
    #: Empty in rows of that other version, until the daily run fills it in.
    project_id = models.CharField(max_length=100, default="", db_default="")
    state = models.CharField(
        max_length=8, choices=AssetState, default=AssetState.READY, db_default=AssetState.READY
    )
    origin = models.CharField(
        max_length=6, choices=AssetOrigin, default=AssetOrigin.TASK, db_default=AssetOrigin.TASK
    )
    #: The task that made the file.
    task = models.ForeignKey(
        "tasks_app.Task", null=True, blank=True, on_delete=models.CASCADE, related_name="files"
    )
    run_token = models.UUIDField(null=True, blank=True)
    role = models.CharField(max_length=30)
    path = models.CharField(max_length=300)
    media_type = models.CharField(max_length=100)
    size_bytes = models.BigIntegerField()
    sha256 = models.CharField(max_length=64)
    width = models.PositiveIntegerField(null=True, blank=True)
    height = models.PositiveIntegerField(null=True, blank=True)
    duration = models.FloatField(null=True, blank=True)
    fps = models.FloatField(null=True, blank=True)
    codecs = models.JSONField(default=list)
    link_token = models.CharField(max_length=32, unique=True, default=new_link_token)
    source_url = models.CharField(max_length=2048, blank=True, default="", db_default="")
    error_code = models.CharField(max_length=40, blank=True, default="", db_default="")
    #: How often a worker began to fetch the file; its number fences off who began before.
    attempts = models.SmallIntegerField(default=0, db_default=0)
    #: When a worker may (again) begin to fetch it; NULL when nobody shall.
    due_at = models.DateTimeField(null=True, blank=True)
    #: Not of files that tasks made: those stay as long as MEDIA_RETENTION_DAYS says.
    expires_at = models.DateTimeField(null=True, blank=True)
    #: The asset with the same bytes that this one turned out to be once it was fetched.
    same_as = models.CharField(max_length=32, blank=True, default="", db_default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar[list[str]] = ["created_at", "role"]
        constraints: ClassVar[list[Any]] = [
            models.UniqueConstraint(
                fields=["project_id", "sha256"],
                condition=Q(origin__in=["upload", "url"], state="ready", same_as=""),
                name="asset_once",
            )
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["project_id", "created_at", "id"], name="asset_project_page"),
            models.Index(fields=["created_at", "id"], name="asset_page"),
            models.Index(fields=["due_at"], condition=Q(due_at__isnull=False), name="asset_due"),
            models.Index(
                fields=["expires_at"], condition=Q(expires_at__isnull=False), name="asset_expiry"
            ),
            models.Index(fields=["same_as"], condition=~Q(same_as=""), name="asset_same_as"),
        ]

    def __str__(self) -> str:
        return f"{self.role} of {self.task_id}" if self.task_id else f"asset {self.id}"


class TaskInput(models.Model):
    """One file that a task is made from: under which name, and which of several."""

    task = models.ForeignKey("tasks_app.Task", on_delete=models.CASCADE, related_name="inputs")
    name = models.CharField(max_length=30)
    position = models.PositiveSmallIntegerField(default=0)
    file = models.ForeignKey(MediaFile, on_delete=models.CASCADE, related_name="uses")

    class Meta:
        constraints: ClassVar[list[Any]] = [
            models.UniqueConstraint(fields=["task", "name", "position"], name="task_input_once")
        ]

    def __str__(self) -> str:
        return f"{self.name} of {self.task_id}"
