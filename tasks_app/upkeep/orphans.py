"""Which stored files belong to no task, and when are they deleted?

A run stores its files before it commits. If it lost its claim or died in between, they stay in a
folder with its run token's name, and no row refers to them. So does an upload in a folder with the
name of an asset.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from datetime import datetime, timedelta

import structlog
from django.core.files.storage import default_storage
from django.utils import timezone

from tasks_app.media.mark import folders, is_uuid, require_ours
from tasks_app.models import MediaFile, Task
from tasks_app.state import assets
from tasks_app.upkeep.prune import delete

logger = structlog.get_logger(__name__)

#: Tasks checked in one step; a remote storage needs several requests for each.
BATCH = 20
#: Younger files are kept: a run stores its files before its task refers to them.
MIN_AGE = timedelta(hours=1)
_ASSET_ID = re.compile(r"[0-9a-f]{16}")


def remove_orphans() -> Iterator[int]:
    """Remove the files of runs whose task does not refer to them; yield counts, step by step.

    Raises:
        NotOurs: the storage belongs to another installation.
    """
    require_ours()
    for start in range(0, len(given := folders("assets")), BATCH):
        require_ours()
        yield _remove_unnamed(given[start : start + BATCH])
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
    # Read after listing: a run that commits meanwhile is then seen as the owner of its files.
    stored = MediaFile.objects.filter(task_id__in=task_ids).values_list("run_token", flat=True)
    running = Task.objects.filter(pk__in=task_ids, run_token__isnull=False)
    owned = {str(token) for token in [*stored, *running.values_list("run_token", flat=True)]}
    lost = [f"results/{task_id}/{token}" for task_id, token in runs if token not in owned]
    return sum(_remove_old(folder) for folder in lost)


def _remove_unnamed(asset_ids: list[str]) -> int:
    """Remove the files of uploads that were stored, but of which the database was never told."""
    ids = [name for name in asset_ids if _ASSET_ID.fullmatch(name)]
    return sum(_remove_old(f"assets/{asset_id}") for asset_id in assets.unclaimed_ids(ids))


def _remove_old(folder: str) -> int:
    """Remove a run's files unless one is younger than MIN_AGE; return how many there were."""
    paths = [f"{folder}/{name}" for name in default_storage.listdir(folder)[1]]
    young = timezone.now() - MIN_AGE
    if any(_modified_at(path) > young for path in paths):
        return 0
    removed = sum(delete(path) for path in paths)
    with contextlib.suppress(OSError):  # the folders of the run and of its task, if empty now
        default_storage.delete(folder)
        if folder.count("/") > 1:
            default_storage.delete(folder.rpartition("/")[0])
    if removed:
        logger.info("Orphaned media removed", folder=folder, files=removed)
    return removed


def _modified_at(path: str) -> datetime:
    try:
        return default_storage.get_modified_time(path)
    except FileNotFoundError:  # removed by somebody else meanwhile
        return timezone.now()
