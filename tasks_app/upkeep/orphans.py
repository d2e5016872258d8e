"""Which stored files does no task own, and when may they go?

A run stores its files before it commits. Where it lost its claim or died in between, they lie
under its run token and nothing names them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime, timedelta

import structlog
from django.core.files.storage import default_storage
from django.utils import timezone

from tasks_app.media.mark import folders, is_uuid, require_ours
from tasks_app.models import MediaFile, Task

logger = structlog.get_logger(__name__)

#: Tasks looked at in one step; a storage elsewhere takes some requests for each.
BATCH = 20
#: A run stores its files before its task names them; nothing younger is taken for lost.
MIN_AGE = timedelta(hours=1)


def remove_orphans() -> Iterator[int]:
    """Remove files of runs that own nothing, in small steps; yields how many each removed.

    Raises:
        NotOurs: the storage is another installation's.
    """
    require_ours()
    tasks = [name for name in folders("results") if is_uuid(name)]
    for start in range(0, len(tasks), BATCH):
        require_ours()
        yield _remove_of(tasks[start : start + BATCH])


def _remove_of(task_ids: list[str]) -> int:
    runs = [
        (task_id, token)
        for task_id in task_ids
        for token in folders(f"results/{task_id}")
        if is_uuid(token)
    ]
    # Asked after listing: a run that commits meanwhile is seen as owning its files.
    owned = _owned_runs(task_ids)
    lost = [f"results/{task_id}/{token}" for task_id, token in runs if token not in owned]
    return sum(_remove_old(folder) for folder in lost)


def _owned_runs(task_ids: list[str]) -> set[str]:
    stored = MediaFile.objects.filter(task_id__in=task_ids).values_list("run_token", flat=True)
    running = Task.objects.filter(pk__in=task_ids, run_token__isnull=False)
    return {str(token) for token in [*stored, *running.values_list("run_token", flat=True)]}


def _remove_old(folder: str) -> int:
    """Remove a run's files unless one of them is young, and return how many there were."""
    paths = [f"{folder}/{name}" for name in default_storage.listdir(folder)[1]]
    young = timezone.now() - MIN_AGE
    if any(_modified_at(path) > young for path in paths):
        return 0
    removed = sum(_delete(path) for path in paths)
    _delete_empty(folder)
    if removed:
        logger.info("Orphaned media removed", folder=folder, files=removed)
    return removed


def _modified_at(path: str) -> datetime:
    try:
        return default_storage.get_modified_time(path)
    except FileNotFoundError:  # removed by another hand just now
        return timezone.now()


def _delete(path: str) -> bool:
    """Delete a file and tell whether it is gone; deleting an absent one is no error."""
    try:
        default_storage.delete(path)
    except OSError as error:
        logger.warning("Media file stays", path=path, error=type(error).__name__)
        return False
    return True


def _delete_empty(folder: str) -> None:
    """Delete a run's folder and its task's where nothing is left in them."""
    with contextlib.suppress(OSError):
        default_storage.delete(folder)
        default_storage.delete(folder.rpartition("/")[0])
