"""How does an asset go away? Its row says so first, then its bytes go, and at last the row."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import PurePosixPath

import structlog
from django.conf import settings
from django.core.files.storage import default_storage

from tasks_app.media.mark import require_ours
from tasks_app.models import AssetOrigin, MediaFile
from tasks_app.state import assets
from tasks_app.state.assets import InUse

logger = structlog.get_logger(__name__)

BATCH = 200


@dataclass(slots=True)
class RemovedAssets:
    """How many assets a run removed, and whether it finished."""

    assets: int = 0
    is_complete: bool = True


def delete(file: MediaFile) -> None:
    """Delete what a client handed in. What the storage does not delete now, the daily run does.

    Raises:
        InUse: a task that has not ended names it, or a task made it.
    """
    if file.origin == AssetOrigin.TASK:
        raise InUse
    gone = assets.begin_delete(file.pk)
    if _delete_bytes(gone):
        assets.end_delete(gone)
    logger.info("Asset deleted", asset_id=file.pk)


def prune(budget_seconds: float = float("inf")) -> RemovedAssets:
    """Remove the assets whose time is over and that no task needs.

    Raises:
        NotOurs: the storage belongs to another installation.
    """
    deadline = time.monotonic() + budget_seconds
    removed = RemovedAssets()
    stuck: list[str] = []
    while batch := list(assets.expired().exclude(pk__in=stuck)[:BATCH]):
        require_ours()
        for file in batch:
            if _is_removed(file):
                removed.assets += 1
            else:
                stuck.append(file.pk)
            if time.monotonic() > deadline:
                removed.is_complete = False
                return removed
    return removed


def _is_removed(file: MediaFile) -> bool:
    try:
        gone = assets.begin_delete(file.pk)
    except (InUse, MediaFile.DoesNotExist):
        return False
    if not _delete_bytes(gone):
        return False
    assets.end_delete(gone)
    return True


def _delete_bytes(file: MediaFile) -> bool:
    """Delete a file from the storage; say whether it is gone."""
    if not file.path and not settings.S3_BUCKET:
        return True
    try:
        default_storage.delete(file.path or assets.bucket_name(file))
    except OSError as error:
        logger.warning("Media file stays", path=file.path, error=type(error).__name__)
        return False
    if not settings.S3_BUCKET:  # S3 has no folders
        with contextlib.suppress(OSError):
            default_storage.delete(str(PurePosixPath(file.path).parent))
    return True
