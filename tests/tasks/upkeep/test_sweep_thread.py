"""Does the sweep continue whatever happens in one of its rounds?"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError, InterfaceError, connection

from tasks_app.middleware import SweepMiddleware
from tasks_app.models import Task
from tasks_app.state import lifecycle
from tasks_app.tickets import stopping
from tasks_app.upkeep import sweep
from tests.support import factories
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def sweeper(settings: Any) -> Iterator[SweepMiddleware]:
    """The sweep's thread, at first with work directories that cannot be listed."""
    settings.SWEEP_INTERVAL_SECONDS = 0.05
    settings.WORK_ROOT = None  # every round crashes
    stopping.clear()
    middleware = SweepMiddleware()
    middleware.after_worker_boot(None, None)
    yield middleware
    middleware.after_worker_shutdown(None, None)
    stopping.clear()


def test_sweep_goes_on_after_a_round_that_crashed(sweeper: SweepMiddleware) -> None:
    """Rounds that end in an unforeseen error do not end the sweep of this process."""
    for _ in range(2):
        task = factories.make_task("processing")
        Task.objects.filter(pk=task.pk).update(lease_expires_at=task.created_at)
        wait_until(lambda task=task: Task.objects.get(pk=task.pk).status == "queued")
    assert sweeper._thread
    assert sweeper._thread.is_alive()


def test_work_directory_that_vanishes_is_no_error(settings: Any, tmp_path: Path) -> None:
    """A directory that its own run removes meanwhile does not disturb the sweep."""
    settings.WORK_ROOT = tmp_path
    (tmp_path / str(uuid.uuid4())).symlink_to(tmp_path / "gone")
    sweep.remove_dead_work()
    assert lifecycle.take_expired_leases() == 0


def test_frozen_sweeper_gives_way(settings: Any) -> None:
    """A process that freezes during its sweep delays the others for one lease at most."""
    settings.TASK_LEASE_SECONDS = settings.SWEEP_INTERVAL_SECONDS = 0.2
    is_holding, may_go_on = threading.Event(), threading.Event()

    def freeze() -> None:
        with contextlib.suppress(DatabaseError, InterfaceError), sweep._alone():
            is_holding.set()
            may_go_on.wait(20)
        connection.close()

    frozen = threading.Thread(target=freeze)
    frozen.start()
    assert is_holding.wait(5)
    assert sweep.sweep() is None
    wait_until(lambda: sweep.sweep() is not None, timeout=5)
    may_go_on.set()
    frozen.join(5)
