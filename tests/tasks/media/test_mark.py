"""Does a second database on the same media ever delete the first one's files?"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.checks import run_checks
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from tasks_app.api import readiness
from tasks_app.media import mark as storage_mark
from tasks_app.models import MediaFile, Task
from tasks_app.upkeep import daily, sweep
from tasks_app.upkeep.orphans import remove_orphans
from tasks_app.work import run as work_run
from tests.support import factories

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    _restart(monkeypatch)


def _restart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clear what the process remembers, as in a worker that starts."""
    monkeypatch.setattr(daily, "_run", None)
    monkeypatch.setattr(daily, "_rests_until", 0.0)
    monkeypatch.setattr(storage_mark, "_next_round", 0.0)


def finished_task(days_ago: float) -> Task:
    """Make a completed task with a file that was stored two hours ago."""
    ended = timezone.now() - timedelta(days=days_ago)
    task = factories.make_task("completed", finished_at=ended)
    file = factories.make_media_file(task)
    store(file.path)
    return task


def store(path: str) -> str:
    """Put a file into the storage; where that is a folder, two hours ago."""
    path = default_storage.save(path, ContentFile(b"x" * 10))
    if not settings.S3_BUCKET:
        then = time.time() - 7_200
        os.utime(default_storage.path(path), (then, then))
    return path


def stored_files() -> set[str]:
    """Return the paths of all media in the storage."""
    found: set[str] = set()
    for task in storage_mark.folders("results"):
        for run in storage_mark.folders(f"results/{task}"):
            names = default_storage.listdir(f"results/{task}/{run}")[1]
            found |= {f"results/{task}/{run}/{name}" for name in names}
    return found


@pytest.fixture
def restored_dump() -> Iterator[Callable[[], Any]]:
    """A function: copy the database, and return a block in which Django is at the copy."""
    name, copy = connection.settings_dict["NAME"], f"copy_{uuid.uuid4().hex[:12]}"

    @contextmanager
    def copied() -> Iterator[None]:
        at(copy)
        try:
            yield
        finally:
            at(name)

    def at(database: str) -> None:
        connection.close()
        connection.settings_dict["NAME"] = database

    def admin(statement: str) -> None:
        at("postgres")
        with connection.cursor() as cursor:
            cursor.execute(statement)
        at(name)

    def make() -> Any:
        admin(f'CREATE DATABASE "{copy}" TEMPLATE "{name}"')
        return copied()

    yield make
    admin(f'DROP DATABASE IF EXISTS "{copy}"')


PRUNE_MEDIA = ("--only", "media", "--reason", "a test", "--yes")


def delete_by_every_way(monkeypatch: pytest.MonkeyPatch) -> str:
    """Do everything that deletes media, as in a new process; return what prune says."""
    _restart(monkeypatch)
    assert sweep.sweep()
    with pytest.raises(storage_mark.NotOurs):
        list(remove_orphans())
    with pytest.raises(CommandError) as caught:
        call_command("prune", "--days", "0", *PRUNE_MEDIA, stdout=StringIO())
    return str(caught.value)


def test_a_restored_dump_deletes_nothing_of_the_first(
    restored_dump: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy's sweep, daily run, orphans and prune delete no file and say what to do."""
    finished_task(31), finished_task(1)
    storage_mark.keep()
    copy = restored_dump()
    newer = finished_task(1)  # which the copy does not know
    before = stored_files()
    assert len(before) == 3
    with copy:
        assert not Task.objects.filter(pk=newer.pk).exists()
        told = delete_by_every_way(monkeypatch)
        assert "belongs to another database" in told
        assert "manage.py adopt_storage" in told
        assert stored_files() == before
        assert MediaFile.objects.count() == 2, "a row stays with its file"
        found = [one.msg for one in run_checks(tags=["database"], databases=["default"])]
        assert any("belongs to another database" in text for text in found)
        assert any("belongs to another database" in text for text in readiness.look().problems)
    _restart(monkeypatch)
    sweep.sweep()
    assert len(stored_files()) == 2, "the first goes on as ever: what is 31 days old is gone"


def test_the_copy_may_be_started_first_after_the_restore(
    restored_dump: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the first one is stopped and does not refresh its mark, the copy is refused, too."""
    finished_task(31)
    with monkeypatch.context() as early:
        early.setattr(storage_mark.timezone, "now", lambda: _long_ago)
        storage_mark.keep()
    with restored_dump():
        assert "another database" in delete_by_every_way(monkeypatch)
        assert len(stored_files()) == 1


_long_ago = timezone.now() - timedelta(days=3)


def test_adopting_makes_the_copy_the_owner_and_the_first_a_stranger(
    restored_dump: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After adopt_storage the copy prunes, readiness is ok, and the first is refused."""
    finished_task(31)
    storage_mark.keep()
    with restored_dump():
        delete_by_every_way(monkeypatch)
        with pytest.raises(CommandError, match="--yes"):
            call_command("adopt_storage", "--reason", "restored", stdout=StringIO())
        call_command("adopt_storage", "--yes", "--reason", "restored", stdout=StringIO())
        assert not any("media" in text for text in readiness.look().problems)
        _restart(monkeypatch)
        sweep.sweep()
        assert not stored_files()
    finished_task(31)
    assert "belongs to another database" in delete_by_every_way(monkeypatch)
    assert len(stored_files()) == 1


def test_unmarked_files_of_somebody_else_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A storage without a mark becomes ours only if every task in it is ours."""
    store(f"results/{uuid.uuid4()}/{uuid.uuid4()}/primary.png")
    assert "files of tasks that are not in here" in delete_by_every_way(monkeypatch)
    assert storage_mark.read() is None
    assert len(stored_files()) == 1


def restarted(monkeypatch: pytest.MonkeyPatch, later: timedelta = timedelta(0)) -> None:
    """Pretend that the database's server was restarted and time has passed."""
    own = storage_mark._own()
    now = datetime.now(UTC) + later
    mark = storage_mark.Mark(own.database, "a later start", now.isoformat())
    monkeypatch.setattr(storage_mark, "_own", lambda: mark)
    monkeypatch.setattr(storage_mark.timezone, "now", lambda: now)


def test_a_restart_or_failover_of_the_server_only_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the old mark is not refreshed, deleting resumes after 15 minutes."""
    finished_task(31)
    storage_mark.require_ours()
    restarted(monkeypatch)
    with pytest.raises(storage_mark.NotOurs, match="15 minutes") as caught:
        storage_mark.require_ours()
    assert caught.value.is_passing
    assert storage_mark.problem() == ""
    restarted(monkeypatch, timedelta(minutes=16))
    storage_mark.require_ours()
    mark = storage_mark.read()
    assert mark is not None
    assert mark.server == "a later start"


def test_a_copy_of_the_whole_server_is_refused_once_the_first_shows_life(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A full copy has the same ids: a refreshed mark is respected, however long it waits."""
    storage_mark.require_ours()
    first = storage_mark.read()
    assert first is not None
    restarted(monkeypatch)
    with pytest.raises(storage_mark.NotOurs, match="15 minutes"):
        storage_mark.require_ours()
    storage_mark.write(storage_mark.Mark(first.database, first.server, timezone.now().isoformat()))
    restarted(monkeypatch, timedelta(days=1))
    with pytest.raises(storage_mark.NotOurs, match="A copy of this database is at work"):
        storage_mark.require_ours()


def test_a_live_run_of_another_database_keeps_its_work_directory() -> None:
    """Two services with one WORK_ROOT: a locked work directory is kept, whichever run owns it."""
    work = Path(settings.WORK_ROOT, str(uuid.uuid4()))
    work.mkdir(parents=True)
    os.utime(work, (time.time() - 120,) * 2)
    with work_run.in_use(work):
        sweep.remove_dead_work()
        assert work.is_dir()
    sweep.remove_dead_work()
    assert not work.exists()


def test_a_torn_mark_stops_deleting_in_a_line() -> None:
    """An unreadable mark belongs to no one: prune reports it, and the files stay."""
    finished_task(31)
    storage_mark.require_ours()
    Path(settings.MEDIA_ROOT, storage_mark.NAME).write_text('{"data')
    with pytest.raises(CommandError, match=r"Files stay: .* is not readable"):
        call_command("prune", *PRUNE_MEDIA, stdout=StringIO())
    assert len(stored_files()) == 1
