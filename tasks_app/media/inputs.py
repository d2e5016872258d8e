"""Which files is a task made from, and how does a provider get at their bytes?

For providers: a value for each file, which knows nothing of requests. It can be opened, copied to
disk, or named by a link that lives for a short time.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.core.files.storage import default_storage

from tasks_app.media.serve import EXTENSIONS, short_link
from tasks_app.models import MediaFile, Task, TaskInput


@dataclass(frozen=True, slots=True)
class InputFile:
    """One input of a task; pixels, seconds and frames per second are None where there are none."""

    name: str
    asset_id: str
    sha256: str
    media_type: str
    size_bytes: int
    width: int | None
    height: int | None
    duration: float | None
    fps: float | None
    file: MediaFile

    @property
    def filename(self) -> str:
        """Return a name that says what it is, and no client has chosen."""
        return f"{self.asset_id}.{EXTENSIONS.get(self.media_type, 'bin')}"

    def open(self) -> IO[bytes]:
        """Open the file for reading.

        Raises:
            OSError: the storage cannot be used.
        """
        handle: IO[bytes] = default_storage.open(self.file.path, "rb")
        return handle

    def read(self) -> bytes:
        """Return all bytes, for a data URI; look at ``size_bytes`` first."""
        with self.open() as handle:
            return handle.read()

    def copied_to(self, directory: Path) -> Path:
        """Copy the file into a directory and return where it is.

        Raises:
            OSError: the storage cannot be used.
        """
        place = directory / self.filename
        with self.open() as source, place.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        return place

    def link(self, seconds: int) -> str:
        """Return a URL at which whoever knows it can fetch the file, for so many seconds."""
        if settings.S3_BUCKET:
            link: str = default_storage.url(self.file.path, expire=seconds)  # type: ignore[call-arg]
            return link
        return short_link(self.file, seconds)


def inputs_of(task: Task) -> dict[str, list[InputFile]]:
    """Return the files that a task names, by the names of its inputs, each in the client's order.

    All of them are ready once the task can be claimed.
    """
    found: dict[str, list[InputFile]] = {}
    for row in (
        TaskInput.objects.filter(task_id=task.pk)
        .select_related("file")
        .order_by("name", "position")
    ):
        found.setdefault(row.name, []).append(_as_input(row.name, row.file))
    return found


def _as_input(name: str, file: MediaFile) -> InputFile:
    return InputFile(
        name=name,
        asset_id=file.pk,
        sha256=file.sha256,
        media_type=file.media_type,
        size_bytes=file.size_bytes,
        width=file.width,
        height=file.height,
        duration=file.duration,
        fps=file.fps,
        file=file,
    )


def receipts(task: Task) -> list[dict[str, Any]]:
    """Return what a task's result says of its inputs."""
    return [
        {"name": file.name, "asset_id": file.asset_id, "sha256": file.sha256}
        for files in inputs_of(task).values()
        for file in files
    ]
