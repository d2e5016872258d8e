"""How does an asset change? The only writer of its row, but for what a task makes.

Each change is conditional on the state before it. A row that is to be deleted becomes ``deleting``
first, while it is locked: whoever submits a task locks the assets that it names, so either the task
finds it gone, or the asset is seen to be needed.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Sum
from django.db.models.functions import Now

from tasks_app.models import AssetOrigin, AssetState, MediaFile, Project, TaskInput

#: Role of a file that no task made; it begins the names in links.
ROLE = "asset"
#: Assets of one project that wait to be fetched; each costs a worker some time.
MOST_PENDING = 1_000
#: How long a presigned form can be used, and a file without its `complete` is kept.
PRESIGNED = timedelta(hours=1)
GIVEN = (AssetOrigin.UPLOAD, AssetOrigin.URL)
_LIVING = (AssetState.PENDING, AssetState.READY)


class QuotaExceeded(Exception):
    """The project has no room for it; the text says which quota."""


class InUse(Exception):
    """A task needs the file or made it."""


class Overtaken(Exception):
    """The asset was deleted meanwhile, or another worker fetches it."""


def retention() -> timedelta:
    """Return how long an asset that no task needs is kept."""
    return timedelta(days=settings.ASSET_RETENTION_DAYS)


# -- room ---------------------------------------------------------------------------------


def require_room(project_id: str, size_bytes: int) -> None:
    """Check a project's quota; what is inserted later is judged again, one after the other.

    Raises:
        QuotaExceeded: so many more bytes are too many.
    """
    own = Project.objects.filter(pk=project_id).values_list("asset_quota_bytes", flat=True).first()
    quota = settings.ASSET_QUOTA_BYTES if own is None else own
    if not quota and own is None:
        return
    of_project = MediaFile.objects.filter(
        project_id=project_id, origin__in=GIVEN, state__in=_LIVING, same_as=""
    )
    used = of_project.aggregate(used=Sum("size_bytes"))["used"] or 0
    if used + size_bytes > quota:
        raise QuotaExceeded(f"{used} of the project's {quota} bytes for assets are taken.")


def _one_at_a_time(project_id: str) -> None:
    """Let others who add an asset to this project wait until this transaction ends."""
    with connection.cursor() as cursor:
        lock = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"
        cursor.execute(lock, [f"assets:{project_id}"])


# -- new ones -----------------------------------------------------------------------------


def insert_ready(file: MediaFile) -> MediaFile:
    """Insert an uploaded file, unless the project has one with the same bytes: return that.

    Raises:
        QuotaExceeded: there is no room for it.
    """
    with transaction.atomic():
        _one_at_a_time(file.project_id)
        if same := kept_longer(file.project_id, file.sha256):
            return same
        require_room(file.project_id, file.size_bytes)
        file.expires_at = Now() + retention()
        file.save(force_insert=True)
    file.refresh_from_db()
    return file


def kept_longer(project_id: str, sha256: str) -> MediaFile | None:
    """Return the project's asset with the same bytes, as fresh as if it were new."""
    same = MediaFile.objects.filter(
        project_id=project_id,
        sha256=sha256,
        origin__in=GIVEN,
        state=AssetState.READY,
        same_as="",
    )
    if not same.update(expires_at=Now() + retention()):
        return None
    return same.first()


def insert_pending(project_id: str, url: str) -> MediaFile:
    """Insert an asset that a worker has to fetch.

    Raises:
        QuotaExceeded: too many wait already, or no byte of the quota is left.
    """
    waiting = MediaFile.objects.filter(project_id=project_id, due_at__isnull=False)
    if waiting[:MOST_PENDING].count() >= MOST_PENDING:
        raise QuotaExceeded(f"{MOST_PENDING} assets of the project wait to be fetched.")
    require_room(project_id, 1)
    return _insert_empty(
        project_id=project_id,
        origin=AssetOrigin.URL,
        source_url=url,
        due_at=Now(),
        expires_at=Now() + retention(),
    )


def insert_presigned(project_id: str, media_type: str, size_bytes: int) -> MediaFile:
    """Insert an asset whose bytes the client sends to the bucket itself.

    Raises:
        QuotaExceeded: there is no room for them.
    """
    with transaction.atomic():
        _one_at_a_time(project_id)
        require_room(project_id, size_bytes)
        return _insert_empty(
            project_id=project_id,
            origin=AssetOrigin.UPLOAD,
            media_type=media_type,
            size_bytes=size_bytes,
            expires_at=Now() + PRESIGNED,
        )


def bucket_name(file: MediaFile) -> str:
    """Return where a client's presigned form puts the bytes, before anybody has looked at them."""
    return f"uploads/{file.pk}"


def _insert_empty(**fields: Any) -> MediaFile:
    nothing = {"role": ROLE, "path": "", "media_type": "", "size_bytes": 0, "sha256": ""}
    file = MediaFile.objects.create(**{**nothing, **fields, "state": AssetState.PENDING})
    file.refresh_from_db()
    return file


# -- fetching -----------------------------------------------------------------------------


def hand_over(file: MediaFile) -> bool:
    """Let a worker fetch a presigned upload from the bucket; False where none is awaited."""
    mine = MediaFile.objects.filter(
        pk=file.pk, state=AssetState.PENDING, origin=AssetOrigin.UPLOAD, due_at__isnull=True
    )
    return bool(mine.update(due_at=Now(), expires_at=Now() + retention()))


def due(late_seconds: float = 0.0) -> QuerySet[MediaFile]:
    """Return the assets that a worker may begin to fetch, the oldest first."""
    late = Now() - timedelta(seconds=late_seconds)
    waiting = MediaFile.objects.filter(state=AssetState.PENDING, due_at__lte=late)
    return waiting.order_by("due_at")


def claim(lease_seconds: float) -> MediaFile | None:
    """Take the oldest asset that is due, or None; it is due again when the lease is over."""
    with transaction.atomic():
        file = due().select_for_update(skip_locked=True).first()
        if file is None:
            return None
        lease = Now() + timedelta(seconds=lease_seconds)
        MediaFile.objects.filter(pk=file.pk).update(due_at=lease, attempts=F("attempts") + 1)
    file.refresh_from_db()
    return file


def _claimed(file: MediaFile) -> QuerySet[MediaFile]:
    return MediaFile.objects.filter(
        pk=file.pk, state=AssetState.PENDING, attempts=file.attempts, due_at__isnull=False
    )


def extend(file: MediaFile, lease_seconds: float) -> bool:
    """Extend the lease of a claimed asset; False when this worker has lost it."""
    return bool(_claimed(file).update(due_at=Now() + timedelta(seconds=lease_seconds)))


def retry_later(
    file: MediaFile, wait_seconds: float, error_code: str, *, is_free: bool = False
) -> bool:
    """Let a claimed asset be fetched again after a while; ``is_free``: it was no attempt."""
    later = Now() + timedelta(seconds=wait_seconds)
    attempts = file.attempts - 1 if is_free else file.attempts
    again = {"due_at": later, "error_code": error_code, "attempts": attempts}
    return bool(_claimed(file).update(**again))


def fail(file: MediaFile, error_code: str) -> bool:
    """End a claimed asset as failed."""
    ended = {"state": AssetState.FAILED, "due_at": None, "size_bytes": 0, "path": ""}
    return bool(_claimed(file).update(**ended, error_code=error_code))


def finish(file: MediaFile) -> MediaFile:
    """Make a fetched asset ready; return it, or the project's asset that has the same bytes.

    Args:
        file: the claimed asset with all that is known of its content.

    Raises:
        Overtaken: it is not this worker's any more.
        QuotaExceeded: there is no room for it.
    """
    with transaction.atomic():
        _one_at_a_time(file.project_id)
        before = _claimed(file).select_for_update().first()
        if before is None:
            raise Overtaken
        ready = {"state": AssetState.READY, "due_at": None, "error_code": ""}
        if same := kept_longer(file.project_id, file.sha256):
            MediaFile.objects.filter(pk=file.pk).update(**ready, same_as=same.pk, size_bytes=0)
            TaskInput.objects.filter(file_id=file.pk).update(file_id=same.pk)
            return same
        require_room(file.project_id, file.size_bytes - before.size_bytes)
        content = ("path", "media_type", "size_bytes", "sha256", "codecs")
        measures = ("width", "height", "duration", "fps")
        found = {name: getattr(file, name) for name in (*content, *measures)}
        MediaFile.objects.filter(pk=file.pk).update(**ready, **found)
    file.refresh_from_db()
    return file


# -- going away ---------------------------------------------------------------------------


def is_needed(file: MediaFile) -> bool:
    """Say whether a task that has not ended names the file."""
    return TaskInput.objects.filter(file_id=file.pk, task__finished_at__isnull=True).exists()


def begin_delete(file_id: str) -> MediaFile:
    """Make an asset one that nobody can name any more; its bytes may then be deleted.

    Raises:
        InUse: a task needs it. MediaFile.DoesNotExist: it is gone.
    """
    with transaction.atomic():
        file = MediaFile.objects.select_for_update().get(pk=file_id)
        # A statement of its own: it sees the task of whoever held the row's lock until now.
        if is_needed(file):
            raise InUse
        gone: dict[str, Any] = {"state": AssetState.DELETING, "due_at": None}
        if file.origin in GIVEN:
            gone["expires_at"] = Now()  # the daily run ends what is interrupted here
        MediaFile.objects.filter(pk=file_id).update(**gone)
    return file


def end_delete(file: MediaFile) -> None:
    """Delete the row of an asset whose bytes are gone, and those that turned out to be it."""
    MediaFile.objects.filter(Q(pk=file.pk) | Q(same_as=file.pk)).delete()


def expired() -> QuerySet[MediaFile]:
    """Return the assets whose time is over, and those whose deletion was interrupted."""
    over = MediaFile.objects.filter(expires_at__lte=Now(), origin__in=GIVEN)
    return over.exclude(Exists(needs())).order_by("expires_at")


def needs() -> QuerySet[TaskInput]:
    """Return the uses of a file, in a query of files, by tasks that have not ended."""
    return TaskInput.objects.filter(file_id=OuterRef("pk"), task__finished_at__isnull=True)


def unclaimed_ids(ids: list[str]) -> set[str]:
    """Return those of the ids that no row has."""
    return set(ids) - set(MediaFile.objects.filter(pk__in=ids).values_list("pk", flat=True))


_FILL = """
UPDATE tasks_app_mediafile file SET project_id = task.project_id
FROM tasks_app_task task
WHERE task.id = file.task_id AND file.id IN (
  SELECT id FROM tasks_app_mediafile WHERE project_id = '' AND task_id IS NOT NULL LIMIT %s)
"""


def fill_projects(limit: int) -> int:
    """Give files that an older version inserted their project; return how many."""
    with connection.cursor() as cursor:
        cursor.execute(_FILL, [limit])
        return int(cursor.rowcount)
