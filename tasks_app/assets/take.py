"""How does an uploaded file become an asset?

Received into a work directory, decoded there, moved into the storage, and then told to the
database: a crash before the last step leaves a file that no row names, which the daily run deletes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog
from django.conf import settings

from tasks_app.media import staging, store
from tasks_app.models import AssetOrigin, MediaFile
from tasks_app.state import assets
from webhooks_app.crash_points import faultpoint

logger = structlog.get_logger(__name__)


@contextmanager
def receiving() -> Iterator[staging.StagedFile]:
    """Return a file to receive an upload in; it is deleted afterwards, unless it was taken."""
    with (
        staging.work_directory() as directory,
        staging.StagedFile(directory / "upload", settings.ASSET_MAX_BYTES) as file,
    ):
        yield file


@dataclass(frozen=True)
class Received:
    """An upload that was decoded and stored, but that no row names yet; or a known one."""

    file: MediaFile
    is_known: bool = False

    def insert(self) -> MediaFile:
        """Insert its row; return it, or the project's asset with the same bytes.

        Raises:
            QuotaExceeded: there is no room for it.
        """
        return self.file if self.is_known else assets.insert_ready(self.file)


@contextmanager
def take(upload: staging.StagedFile, project_id: str) -> Iterator[Received]:
    """Decode an upload and store it; its bytes are deleted again if no row was inserted for them.

    Raises:
        NotMedia: it cannot be decoded. OSError: the storage cannot be used.
        QuotaExceeded: there is no room for it.
    """
    upload.close()
    if known := assets.kept_longer(project_id, upload.sha256):
        yield Received(known, is_known=True)
        return
    found = staging.decoded(upload.path)
    assets.require_room(project_id, found.size_bytes)
    file = staging.stored(upload.path, found)
    file.project_id, file.origin, file.role = project_id, AssetOrigin.UPLOAD, assets.ROLE
    faultpoint("assets.after_save")
    try:
        yield Received(file)
    finally:
        if not MediaFile.objects.filter(pk=file.pk).exists():
            store.discard([file])
