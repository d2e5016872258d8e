"""Where are media files stored, and how is one described?

A file is stored at ``results/{task_id}/{run_token}/{role}.{ext}``: a run that lost its task never
overwrites another run's files. What clients hand in lies at ``assets/{asset_id}/asset.{ext}``.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path, PurePath
from typing import Any

import structlog
from django.core.files import File
from django.core.files.storage import default_storage

from tasks_app.media import inputs
from tasks_app.media.serve import EXTENSIONS, media_url
from tasks_app.models import MediaFile, Task, new_link_token, new_media_id
from tasks_app.providers import prices
from tasks_app.providers.base import MediaOutput, ProviderError, Result
from webhooks_app.crash_points import faultpoint

logger = structlog.get_logger(__name__)

#: What is known of a file's content: a provider's output and the stored row call it the same.
_FACTS = ("media_type", "size_bytes", "sha256", "width", "height", "duration", "fps")


class _Rendered(File):  # type: ignore[type-arg]
    """A finished file that the file system storage may move instead of copying."""

    def temporary_file_path(self) -> str:
        """Return the file's current path (the name that Django's storage looks for)."""
        return str(self.name)


def store(task: Task, result: Result) -> list[MediaFile]:
    """Put a result's files into the storage and return their (unsaved) rows.

    Raises:
        ProviderError: ``storage_failed``, retryable.
    """
    stored: list[MediaFile] = []
    try:
        for output in result.files:
            stored.append(_store_one(task, output))
    except OSError as error:
        discard(stored)
        raise ProviderError("storage_failed") from error
    return stored


def _store_one(task: Task, output: MediaOutput) -> MediaFile:
    extension = EXTENSIONS.get(output.media_type) or output.path.suffix.lstrip(".") or "bin"
    path = keep(output.path, f"results/{task.id}/{task.run_token}/{output.role}.{extension}")
    faultpoint("media.after_save")
    return MediaFile(
        project_id=task.project_id,
        task=task,
        run_token=task.run_token or "",
        role=output.role,
        path=path,
        codecs=list(output.codecs),
        **{name: getattr(output, name) for name in _FACTS},
    )


def copy(task: Task, files: list[MediaFile]) -> list[MediaFile]:
    """Copy another task's files in the storage and return their (unsaved) rows.

    Raises:
        ProviderError: ``storage_failed``, retryable.
    """
    copied: list[MediaFile] = []
    try:
        for file in files:
            name = f"results/{task.id}/{task.run_token}/{PurePath(file.path).name}"
            with default_storage.open(file.path) as content:
                path = default_storage.save(name, content)
            row = MediaFile.objects.get(pk=file.pk)
            row.pk, row.link_token = new_media_id(), new_link_token()
            row.task, row.run_token, row.path = task, task.run_token or row.run_token, path
            row._state.adding = True
            copied.append(row)
    except OSError as error:
        discard(copied)
        raise ProviderError("storage_failed") from error
    return copied


def keep(path: Path, name: str) -> str:
    """Move a finished file into the storage; return its name there.

    Raises:
        OSError: the storage cannot be used.
    """
    with path.open("rb") as handle:
        os.fsync(handle.fileno())
        return default_storage.save(name, _Rendered(handle, name=str(path)))


def discard(files: list[MediaFile]) -> None:
    """Delete stored files that no committed row refers to."""
    for file in files:
        with contextlib.suppress(OSError):
            default_storage.delete(file.path)


def receipt(file: MediaFile) -> dict[str, Any]:
    """Return a file's entry in the webhook; keys without a value are left out."""
    facts = {
        "role": file.role,
        "media_url": media_url(file),
        "payload_media_id": file.id,
        **{name: getattr(file, name) for name in _FACTS},
        "codecs": file.codecs,
    }
    return {key: value for key, value in facts.items() if value is not None}


def describe(result: Result, files: list[MediaFile]) -> dict[str, Any]:
    """Return a completed task's ``result``: the main file, all files, provider and model."""
    primary = next(file for file in files if file.role == "primary")
    head = {key: value for key, value in receipt(primary).items() if key != "role"}
    cost = prices.measured(result.model, files)
    made_from = inputs.receipts(primary.task) if primary.task is not None else []
    return {
        **head,
        **({"inputs": made_from} if made_from else {}),
        "files": [receipt(file) for file in files],
        "provider": result.provider,
        "model": result.model,
        "seed": result.seed,
        "cost": result.cost or (cost.told() if cost else None),
        "provider_metadata": result.metadata,
    }
