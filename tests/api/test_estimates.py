"""Are the place in the queue and the expected time those of the rows?"""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from tasks_app import estimates
from tests import factories

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


def test_the_expected_time_is_the_prior_until_five_ran(api: Client) -> None:
    """Four measured tasks change nothing; with the fifth it is their median."""
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
