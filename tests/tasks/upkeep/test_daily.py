"""What is deleted each day, what is kept, and does the sweep stay quick meanwhile?"""

from __future__ import annotations

import os
import time
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.utils import timezone

from tasks_app.media import mark
from tasks_app.models import MediaFile, Task
from tasks_app.upkeep import daily, sweep
from tasks_app.upkeep.orphans import remove_orphans
from tests.support import factories
from webhooks_app.models import OperatorAction

pytestmark = pytest.mark.django_db

LONG_AGO = timedelta(days=31)
TWO_HOURS = 7_200


@pytest.fixture(autouse=True)
def _no_run_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daily, "_run", None)
    monkeypatch.setattr(daily, "_rests_until", 0.0)


@pytest.fixture(autouse=True)
def _our_storage() -> None:
    mark.adopt("a test", "")


def stored(task: Task, run_token: uuid.UUID, age_seconds: float = 0) -> str:
    """Put a file where a run of the task would, and return its path."""
    path = default_storage.save(f"results/{task.pk}/{run_token}/primary.png", ContentFile(b"png"))
    moment = time.time() - age_seconds
    os.utime(default_storage.path(path), (moment, moment))
    return path


def media_of(task: Task, **fields: Any) -> MediaFile:
    """Make a media record with its file."""
    file = factories.make_media_file(task)
    file.path = stored(task, file.run_token, TWO_HOURS)
    file.save(update_fields=["path"])
    return file


def old_file() -> MediaFile:
    """Make a file of a task that ended 31 days ago."""
    return media_of(factories.make_task("completed", finished_at=timezone.now() - LONG_AGO))


def test_files_of_runs_that_lost_are_removed_and_no_others() -> None:
    """Old files of lost runs are deleted; the owner's, live runs', young and foreign ones stay."""
    task = factories.make_task("completed")
    winner = media_of(task)
    loser = stored(task, uuid.uuid4(), TWO_HOURS)
    young = stored(task, uuid.uuid4())
    running = factories.make_task("processing")
    assert running.run_token is not None
    live = stored(running, running.run_token, TWO_HOURS)
    unknown = default_storage.save("results/notes/of-an-operator.txt", ContentFile(b"x"))
    taskless = stored(Task(id=uuid.uuid4()), uuid.uuid4(), TWO_HOURS)
    assert sum(remove_orphans()) == 2
    assert not default_storage.exists(loser)
    assert not default_storage.exists(taskless)
    for path in (winner.path, young, live, unknown):
        assert default_storage.exists(path)


def test_the_sweep_prunes_once_a_day_for_all_workers() -> None:
    """The first sweep of a day prunes and records it; the others see the record and do nothing."""
    old_file()
    assert sweep.sweep()
    assert not MediaFile.objects.exists()
    note = OperatorAction.objects.get(actor="sweep", action="prune")
    assert "1 file, 0 orphaned files" in note.target
    old_file()
    assert sweep.sweep()
    assert MediaFile.objects.count() == 1
    OperatorAction.objects.update(at=timezone.now() - timedelta(hours=25))
    assert sweep.sweep()
    assert not MediaFile.objects.exists()


def test_a_long_run_is_spread_over_many_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call stops at its budget and the next continues; the record is written at the end."""
    monkeypatch.setattr(daily, "STEP_SECONDS", 0.0)
    for _ in range(3):
        old_file()
    left = []
    while not daily.prune_daily(budget_seconds=0.0):
        left.append(MediaFile.objects.count())
        assert not OperatorAction.objects.filter(action="prune").exists()
    assert left[:3] == [2, 1, 0]
    assert "3 files" in OperatorAction.objects.get(action="prune").target


def test_the_run_of_a_worker_ends_when_another_has_finished_it() -> None:
    """Two workers that take turns prune once: the second finds the first one's record."""
    old_file()
    assert not daily.prune_daily(budget_seconds=0.0)
    OperatorAction.objects.create(actor="sweep", action="prune", target="by another worker")
    assert not daily.prune_daily()
    assert daily._run is None
    assert OperatorAction.objects.filter(action="prune").count() == 1


def test_a_storage_out_of_reach_is_left_in_peace_for_a_while(settings: Any) -> None:
    """A failed run does not count as done; the next one starts again after a pause."""
    Path(settings.MEDIA_ROOT, "results").write_text("not a folder")
    with pytest.raises(NotADirectoryError):
        daily.prune_daily()
    assert not daily.prune_daily()
    assert not OperatorAction.objects.filter(action="prune").exists()
