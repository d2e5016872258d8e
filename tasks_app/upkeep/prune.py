"""How long are files and idempotency keys kept, and who removes them?

Removes files of tasks that ended MEDIA_RETENTION_DAYS ago, file first and row second: after a crash
in between, the next run deletes the row whose file is missing. The tasks themselves are kept, and
so is a file that another task is to be made from.
`daily` runs this in small parts.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import PurePosixPath

import structlog
from django.conf import settings
from django.core.files.storage import default_storage
from django.db.models import Exists, QuerySet
from django.db.models.functions import Now

from tasks_app.media.mark import require_ours
from tasks_app.models import AssetOrigin, IdempotencyKey, MediaFile
from tasks_app.state import assets

logger = structlog.get_logger(__name__)

BATCH = 200
#: After this many files that the storage did not delete, and none that it did, the run gives up.
STUCK_LIMIT = 10


@dataclass(slots=True)
class Pruned:
    """What a run removed, and whether it finished."""

    files: int = 0
    size_bytes: int = 0
    keys: int = 0
    is_complete: bool = True


def prune(
    days: float | None = None,
    *,
    on_batch: Callable[[Pruned], None] = lambda seen: None,
    budget_seconds: float = float("inf"),
) -> Pruned:
    """Remove files of tasks that ended more than ``days`` ago, and expired idempotency keys.

    Args:
        days: the setting MEDIA_RETENTION_DAYS when not given.
        on_batch: called after every batch with the counts so far.
        budget_seconds: stop after about this time; the next run continues.

    Raises:
        NotOurs: the storage belongs to another installation.
        OSError: the storage refuses every delete.
    """
    deadline = time.monotonic() + budget_seconds
    day = timedelta(hours=settings.IDEMPOTENCY_HOURS)
    pruned = Pruned(keys=IdempotencyKey.objects.filter(created_at__lt=Now() - day).delete()[0])
    stuck: list[str] = []
    while batch := list(prunable(days).exclude(pk__in=stuck)[:BATCH]):
        require_ours()
        for file in batch:
            if _remove(file):
                pruned.files += 1
                pruned.size_bytes += file.size_bytes
            else:
                stuck.append(file.pk)
                if len(stuck) >= STUCK_LIMIT and not pruned.files:
                    raise OSError("the storage refuses to delete files")
            if time.monotonic() > deadline:
                pruned.is_complete = False
                return pruned
        on_batch(pruned)
    return pruned


def prunable(days: float | None = None) -> QuerySet[MediaFile]:
    """Return the files that a run would remove now."""
    kept = timedelta(days=settings.MEDIA_RETENTION_DAYS if days is None else days)
    ended = MediaFile.objects.filter(origin=AssetOrigin.TASK, task__finished_at__lt=Now() - kept)
    return ended.exclude(Exists(assets.needs())).order_by("created_at")


def _remove(file: MediaFile) -> bool:
    """Remove a file and its row; False (and both stay) if the storage refuses."""
    try:
        assets.begin_delete(file.pk)
    except (assets.InUse, MediaFile.DoesNotExist):  # a new task wants to be made from it
        return False
    if not delete(file.path):
        return False
    if not settings.S3_BUCKET:  # S3 has no folders
        with contextlib.suppress(OSError):  # the folder still holds another file
            for folder in list(PurePosixPath(file.path).parents)[:2]:
                default_storage.delete(str(folder))
    assets.end_delete(file)
    return True


def delete(path: str) -> bool:
    """Delete a stored file and return whether it is gone; an absent one counts as deleted."""
    try:
        default_storage.delete(path)
    except OSError as error:
        logger.warning("Media file stays", path=path, error=type(error).__name__)
        return False
    return True
