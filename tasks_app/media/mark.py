"""Which installation may delete files in the media storage? Only the one whose mark is there.

A second database on the same storage (a restored dump, a staging system, a cloned disk) knows other
tasks than the first, so the first one's files look unused to it. So the storage has a mark with the
id of one database and one start of its server; that installation's sweep refreshes it every few
minutes. Code that deletes media calls `require_ours` first:

- Another database's mark: refused, until an operator says otherwise (`manage.py adopt_storage`).
- The same database after another start of its server: either a restart or failover, or a copy of
  the whole server. Waiting tells which: a mark that is no longer refreshed is taken over; if it is
  refreshed, a copy is running, and deleting is refused.
- No mark: the storage becomes ours if it is empty or holds files of our own tasks only; otherwise
  deleting is refused.

Writing files is always allowed, since their names are unguessable and never reused.
"""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings
from django.core.files.storage import default_storage
from django.db import connection
from django.utils import timezone

from tasks_app.models import Task
from webhooks_app.models import OperatorAction
from webhooks_app.operators import record

logger = structlog.get_logger(__name__)

NAME = ".installation"
#: How often the owner refreshes the mark, and after which time without that it is abandoned.
REFRESH = timedelta(minutes=5)
ABANDONED = timedelta(minutes=15)
ADOPT = "If its files are this installation's alone: manage.py adopt_storage"
#: Beginnings of the operator actions' targets; the index over targets finds them.
_RECORD, _SEEN = "media storage: ", "media storage mark "


class NotOurs(Exception):
    """This installation may not delete in the storage (yet); the text says what to do."""

    def __init__(self, text: str, *, is_passing: bool = False) -> None:
        super().__init__(text)
        self.is_passing = is_passing


@dataclass(frozen=True, slots=True)
class Mark:
    """A database, one start of its server, and when the mark was last refreshed."""

    database: str
    server: str
    refreshed_at: str


def require_ours(*, is_check: bool = False) -> None:
    """Check that this installation may delete files; refresh its mark or take the storage over.

    Args:
        is_check: only look, and change nothing.

    Raises:
        NotOurs: it may not.
        OSError: the storage cannot be reached.
    """
    own, mark = _own(), read()
    if mark is None:
        ids = [name for name in folders("results") if is_uuid(name)]
        if Task.objects.filter(pk__in=ids).count() < len(ids):
            raise NotOurs(f"The media storage holds files of tasks that are not in here. {ADOPT}")
    elif mark.database != own.database:
        raise NotOurs(f"The media storage belongs to another database. {ADOPT}")
    elif mark.server != own.server:
        _require_abandoned(mark, is_check)
    elif datetime.fromisoformat(mark.refreshed_at) > timezone.now() - REFRESH:
        return
    if not is_check:
        write(own)


def _require_abandoned(mark: Mark, is_check: bool) -> None:
    """Return once the old mark has not been refreshed for ABANDONED since we first saw it."""
    seen = f"{_SEEN}{mark.server} "
    first = OperatorAction.objects.filter(target__startswith=seen).order_by("at", "pk").first()
    if first is None and not is_check:
        first = record.note("sweep", "storage.seen", seen + mark.refreshed_at)
    if first is not None and first.target != seen + mark.refreshed_at:
        raise NotOurs(f"A copy of this database is at work on the same media storage. {ADOPT}")
    if first is None or timezone.now() - first.at < ABANDONED:
        raise NotOurs(
            "The media storage is marked by an earlier start of this database's server; nothing is"
            " deleted until it is certain that no copy of it is at work"
            f" ({ABANDONED.seconds // 60} minutes).",
            is_passing=True,
        )


def adopt(actor: str, reason: str) -> None:
    """Make the storage ours, whatever its mark; recorded as an operator action."""
    before = read()
    write(_own())
    whose = f"it was of database {before.database}" if before else "it had no mark"
    record.note(actor, "storage.adopt", f"{_RECORD}adopted; {whose}", reason)


def read() -> Mark | None:
    """Return the storage's mark.

    Raises:
        OSError: it cannot be read or parsed.
    """
    try:
        if settings.S3_BUCKET:
            text = default_storage.read(NAME)  # type: ignore[attr-defined]
        else:
            text = Path(default_storage.path(NAME)).read_bytes()
        content: dict[str, Any] = json.loads(text)
        return Mark(**{field.name: str(content[field.name]) for field in fields(Mark)})
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise OSError(f"{NAME} in the media storage is not readable") from error


def write(mark: Mark) -> None:
    """Replace the storage's mark."""
    text = json.dumps({**asdict(mark), "what": "whose media these are; see docs/operations.md"})
    if settings.S3_BUCKET:
        default_storage.put(NAME, text.encode())  # type: ignore[attr-defined]
        return
    place = Path(default_storage.path(NAME))
    place.parent.mkdir(parents=True, exist_ok=True)
    new = place.with_name(f"{NAME}.{uuid.uuid4().hex}")
    new.write_text(text)
    new.replace(place)  # atomic: nobody reads half of it


def _own() -> Mark:
    """Return the mark that this database would write now.

    The cluster's id differs in a database restored elsewhere, the database's id in one restored on
    the same server. A copy of the whole server has both ids, but another start time.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT oid, pg_postmaster_start_time(),"
            " has_function_privilege('pg_control_system()', 'EXECUTE')"
            " FROM pg_database WHERE datname = current_database()"
        )
        number, started_at, may_ask = cursor.fetchone()
        cluster = ""
        if may_ask:
            cursor.execute("SELECT system_identifier FROM pg_control_system()")
            cluster = cursor.fetchone()[0]
    return Mark(f"{cluster}/{number}", started_at.isoformat(), timezone.now().isoformat())


# Used by the sweep and by readiness.

_next_round = 0.0


def keep() -> None:
    """Refresh the mark; log if the storage is not ours. Cheap to call often."""
    global _next_round
    if time.monotonic() < _next_round:
        return
    _next_round = time.monotonic() + REFRESH.total_seconds() / 5
    refused = ""
    try:
        require_ours()
    except NotOurs as error:
        if error.is_passing:
            logger.info("Media are not deleted yet", reason=str(error))
            return
        refused = str(error)
        logger.error("Media are not deleted", reason=refused)
    except OSError as error:
        logger.warning("Media storage cannot be asked", error=type(error).__name__)
        return
    if refused != problem():
        record.note("sweep", "storage.look", _RECORD + (refused or "it is ours"))


def problem() -> str:
    """Return why nothing is deleted, as the last sweep found it; "" if all is well."""
    last = OperatorAction.objects.filter(target__startswith=_RECORD).order_by("-at", "-pk").first()
    is_well = last is None or last.action == "storage.adopt" or last.target.endswith("it is ours")
    return "" if last is None or is_well else last.target.removeprefix(_RECORD)


def folders(path: str) -> list[str]:
    """Return the names of the folders in a folder of the storage; [] if it does not exist."""
    try:
        return default_storage.listdir(path)[0]
    except FileNotFoundError:
        return []


def is_uuid(name: str) -> bool:
    """Say whether a name has the form of a task's or run's folder."""
    try:
        uuid.UUID(name)
    except ValueError:
        return False
    return True
