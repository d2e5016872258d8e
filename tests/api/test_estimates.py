"""Do the place in the queue and the expected time match the rows?"""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks_app.models import Task
from tasks_app.state import estimates, submit
from tests.support import factories

pytestmark = pytest.mark.django_db


def test_the_place_counts_those_ahead_by_priority_and_age(api: Client) -> None:
    """Higher priorities and older tasks of the type are ahead, of every project; no others."""
    now = timezone.now()
    for priority, age, more in (
        (1, 0, {}),
        (2, 60, {"project_id": "elsewhere"}),
        (2, -60, {}),
        (3, 90, {}),
        (1, 90, {"task_type": "image_generation"}),
    ):
        factories.make_task(priority=priority, created_at=now - timedelta(seconds=age), **more)
    factories.make_task("processing", priority=1)
    task = factories.make_task(priority=2, created_at=now)
    assert api.get(f"/api/v1/tasks/{task.pk}").json()["queue_position"] == 3


@pytest.mark.django_db(transaction=True)  # in one transaction all would have the same age
def test_the_place_at_submit_is_counted_up_to_a_thousand(api: Client) -> None:
    """The answer to a submit counts the tasks ahead, up to a thousand."""
    assert _submitted(api) == 1
    _queue(997)
    assert [_submitted(api) for _ in range(4)] == [999, 1000, 1000, 1000]


def test_a_deep_queue_is_known_for_a_moment() -> None:
    """Far beyond the limit the rows are not counted again for a moment, and then they are."""
    _queue(1)
    now = [5.0]
    deep = estimates.DeepQueues(lambda: now[0])
    task = Task.objects.latest("created_at")
    deep.note(task, estimates.POSITION_LIMIT + estimates.DEEP_BEYOND - 1)
    assert not deep.is_deep(task)
    deep.note(task, estimates.POSITION_LIMIT + estimates.DEEP_BEYOND)
    assert deep.is_deep(task)
    assert not deep.is_deep(Task(task_type=task.task_type, priority=task.priority + 1))
    now[0] += estimates.DEEP_SECONDS
    assert not deep.is_deep(task)


def test_a_submit_to_a_deep_queue_does_not_count_it(
    api: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first submit counts a deep queue, the second reuses that, and both answer a thousand."""
    monkeypatch.setattr(submit, "_deep_queues", estimates.DeepQueues(lambda: 5.0))
    _queue(1_200)
    assert _submitted(api) == 1000
    with CaptureQueriesContext(connection) as asked:
        assert _submitted(api) == 1000
    assert not any("count(*)" in query["sql"] and "ahead" in query["sql"] for query in asked)


def _queue(count: int) -> None:
    now = timezone.now() - timedelta(hours=1)
    Task.objects.bulk_create(
        Task(
            project_id="elsewhere",
            task_type="image_generation",
            task_data={},
            timeout_seconds=600,
            created_at=now,
            available_at=now,
        )
        for _ in range(count)
    )


def _submitted(api: Client) -> int:
    body = {"project_id": "p1", "task_type": "image_generation", "task_data": {"prompt": "x"}}
    answer = api.post("/api/v1/tasks/submit", body, content_type="application/json")
    return int(answer.json()["queue_position"])


def test_the_expected_time_is_the_prior_until_five_ran(api: Client) -> None:
    """Four measured tasks change nothing; from the fifth on their median is used."""
    task, now = factories.make_task(), timezone.now()

    def expected() -> int:
        estimates._cache.clear()
        return int(api.get(f"/api/v1/tasks/{task.pk}").json()["estimated_duration"])

    prior = expected()
    for number in range(4):
        started_at = now - timedelta(seconds=1000 + number)
        factories.make_task("completed", started_at=started_at, finished_at=now)
    assert expected() == prior
    factories.make_task("completed", started_at=now - timedelta(seconds=9999), finished_at=now)
    assert expected() == 1002
    estimates._cache.clear()
