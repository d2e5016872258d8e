"""Are old files deleted and young ones kept, and can a run be stopped and repeated at any point?"""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import call_command
from django.utils import timezone

from tasks_app.models import IdempotencyKey, MediaFile, Task
from tasks_app.upkeep import prune
from tests.support import factories

pytestmark = pytest.mark.django_db


def make_files(days_ago: float, *roles: str) -> Task:
    """Make a task that ended this long ago, with existing files."""
    ended = timezone.now() - timedelta(days=days_ago)
    task = factories.make_task("completed", finished_at=ended)
    run = None
    for role in roles or ("primary",):
        file = factories.make_media_file(task, role=role, **({"run_token": run} if run else {}))
        run = file.run_token
        default_storage.save(file.path, ContentFile(b"x" * 10))
    return task


def test_old_files_go_with_their_folders_and_young_ones_stay() -> None:
    """Rows, files and empty folders of a task that ended 31 days ago vanish; the task stays."""
    old, young = make_files(31, "primary", "poster"), make_files(29)
    pruned = prune.prune()
    assert (pruned.files, pruned.is_complete) == (2, True)
    assert not (Path(default_storage.location) / "results" / str(old.pk)).exists()
    assert default_storage.exists(MediaFile.objects.get().path)
    assert MediaFile.objects.get().task == young
    assert Task.objects.count() == 2


def test_a_kill_between_file_and_row_is_finished_by_the_next_run() -> None:
    """A row whose file is gone already is removed without complaint."""
    task = make_files(31)
    default_storage.delete(task.files.get().path)
    assert prune.prune().files == 1
    assert not MediaFile.objects.exists()


def test_a_slice_ends_in_time_and_the_next_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no time left one batch is done; the next run does the rest."""
    monkeypatch.setattr(prune, "BATCH", 1)
    for _ in range(3):
        make_files(31)
    left = []
    while not prune.prune(budget_seconds=0).is_complete:
        left.append(MediaFile.objects.count())
    assert left == [2, 1, 0]


def test_a_file_that_cannot_be_deleted_keeps_its_row_and_stops_nothing() -> None:
    """If the storage refuses to delete a file, the next run tries again; the others are gone."""
    stuck, other = make_files(31).files.get(), make_files(31).files.get()
    folder = Path(default_storage.path(stuck.path))
    folder.unlink()
    folder.mkdir()
    (folder / "in the way").write_text("x")  # a folder that is not empty: deleting it fails
    assert prune.prune().files == 1
    assert list(MediaFile.objects.all()) == [stuck]
    assert not default_storage.exists(other.path)


def test_spent_idempotency_keys_go() -> None:
    """A key is kept for its 24 hours and no longer."""
    task = factories.make_task()
    for name, hours in (("spent", 25), ("valid", 23)):
        key = IdempotencyKey.objects.create(scope="s", key=name, task=task, response={})
        created = timezone.now() - timedelta(hours=hours)
        IdempotencyKey.objects.filter(pk=key.pk).update(created_at=created)
    assert prune.prune().keys == 1
    assert IdempotencyKey.objects.get().key == "valid"


def test_the_command_prunes_messages_and_media() -> None:
    """One command for both, each alone with --only, and --dry-run changes nothing."""
    then = timezone.now() - timedelta(days=31)
    factories.make_message("delivered", created_at=then, finished_at=then)
    make_files(31)

    def run(*arguments: Any) -> str:
        out = StringIO()
        call_command("prune", *arguments, "--reason", "a test", "--yes", stdout=out)
        return out.getvalue()

    assert run("--dry-run").splitlines() == ["1 message would go", "1 file would go"]
    assert run("--only", "messages").startswith("removed 1 message,")
    assert MediaFile.objects.count() == 1
    assert "removed 1 file (1,234 bytes)" in run()
    assert not MediaFile.objects.exists()
