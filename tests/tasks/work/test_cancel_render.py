"""Does a cancel reach the render process?"""

from __future__ import annotations

import threading

import psutil
import pytest
from django.db import connections

from tasks_app.models import Task
from tasks_app.state import lifecycle
from tasks_app.state.submit import Submit, submit
from tasks_app.work import claim_watch, run
from tests.support.family import matching
from tests.support.waiting import wait_until


def renders() -> list[psutil.Process]:
    """Return the running render processes of this test process."""
    below = psutil.Process().children(recursive=True)
    return matching(below, lambda child: "previz" in " ".join(child.cmdline()))


@pytest.mark.django_db(transaction=True)
def test_render_of_a_cancelled_task_is_dead_within_two_seconds() -> None:
    """The cancel of a running film ends the render of the built-in provider in time."""
    film = {"scene_data": {"prompt": "A lighthouse"}, "video_params": {"duration_s": 15}}
    submission = submit(Submit("p", "video_generation", film))

    def work() -> None:
        try:
            run.run_next("video_generation")
        finally:
            connections.close_all()

    worker = threading.Thread(target=work)
    worker.start()
    try:
        wait_until(lambda: renders() and Task.objects.get().progress > 0, timeout=30)
        lifecycle.cancel(submission.task.id)
        # The film is far from done; a busy machine may be late with the look that ends it.
        wait_until(lambda: not renders())
        assert claim_watch.WATCH_SECONDS <= 1
    finally:
        worker.join(timeout=30)
    assert Task.objects.get().status == "cancelled"
