"""What do subscribers of progress get while a task runs, and when it has ended?"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
from django.db import connection

from tasks_app.state.submit import Submit, submit
from tasks_app.work import run
from tests.support.receiver import Receiver
from tests.support.running import running_engine
from tests.support.waiting import wait_until
from webhooks_app.models import WebhookEvent, WebhookMessage

pytestmark = pytest.mark.django_db(transaction=True)

WANTED = ["task.started", "task.progress", "task.completed"]


@pytest.fixture(autouse=True)
def _slow_work(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work of 1.2 s that stores progress 20 times a second and publishes it every 0.3 s."""
    monkeypatch.setattr(run, "PROGRESS_SECONDS", 0.05)
    settings.TASK_PROGRESS_EVENT_SECONDS = 0.3
    options = {"provider": "tests.support.providers.StillProvider", "options": {"seconds": 1.2}}
    settings.GENERATION_PROVIDERS = {"image_generation": options}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that accepts everything."""
    with Receiver([200]) as receiver:
        yield receiver


def run_task(url: str, wanted: Sequence[str] = WANTED) -> None:
    """Submit a task with these events for ``url``, and run it."""
    request = Submit(
        project_id=f"progress-{uuid.uuid4().hex[:8]}",
        task_type="image_generation",
        task_data={"prompt": "A lighthouse"},
        callback_url=url,
        webhook_events=wanted,
        retry_policy=[30],
    )
    submit(request)
    run.run_next("image_generation")


def test_progress_is_told_at_the_interval_and_rises(receiver: Receiver) -> None:
    """About 24 steps of work give 3 to 5 events, 0.3 s apart, with rising progress and sequence."""
    with running_engine():
        run_task(receiver.url)
        wait_until(lambda: WebhookMessage.objects.filter(status="delivered").count() >= 5)
    events = list(WebhookEvent.objects.filter(event_type="task.progress").order_by("sequence"))
    assert 3 <= len(events) <= 5
    gaps = [(later.created_at - earlier.created_at) for earlier, later in pairwise(events)]
    assert all(gap.total_seconds() >= 0.25 for gap in gaps)
    told = [json.loads(bytes(event.body)) for event in events]
    assert [t["progress"] for t in told] == sorted(t["progress"] for t in told)
    assert {t["status"] for t in told} == {"processing"}
    assert all(t["current_step"] == "waiting" for t in told)
    sequences = [json.loads(request.body)["sequence"] for request in receiver.requests]
    assert len(sequences) == len(set(sequences))


def test_at_most_one_progress_event_waits_and_none_after_the_end() -> None:
    """Without delivery, each new progress supersedes the pending one; the end, the last."""
    most_waiting = 0

    def watch() -> None:
        nonlocal most_waiting
        while not has_ended.wait(0.03):
            most_waiting = max(most_waiting, waiting().count())
        connection.close()

    has_ended = threading.Event()
    watcher = threading.Thread(target=watch)
    watcher.start()
    run_task("http://127.0.0.1:9/hook")
    has_ended.set()
    watcher.join()
    assert most_waiting == 1
    assert waiting().count() == 0
    states = WebhookMessage.objects.filter(event__event_type="task.progress")
    assert set(states.values_list("status", flat=True)) == {"superseded"}
    ended = WebhookMessage.objects.get(event__event_type="task.completed")
    assert ended.status == "pending"


def waiting() -> Any:
    """Return the pending progress messages."""
    return WebhookMessage.objects.filter(status="pending", event__event_type="task.progress")


def test_older_event_is_not_sent_once_the_terminal_one_was_delivered(receiver: Receiver) -> None:
    """A `task.started` that waits for its retry is superseded by the delivered end."""
    receiver.answer(500, 200)
    with running_engine():
        run_task(receiver.url, ["task.started", "task.completed"])
        wait_until(lambda: not WebhookMessage.objects.filter(status="pending").exists())
    types = [request.headers["webhook-event"] for request in receiver.requests]
    assert types == ["task.started", "task.completed"]
    assert WebhookMessage.objects.get(event__event_type="task.started").status == "superseded"
