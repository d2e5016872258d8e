"""Are lists stable, filtered, and as fast on page ten thousand as on page one?"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from tasks_app.api import queries
from tasks_app.models import Task
from tests.support import factories
from webhooks_app.api.pages import BY_TIME, page_query

pytestmark = pytest.mark.django_db


def make_tasks(count: int, **fields: Any) -> list[str]:
    """Make tasks a second apart, and answer their ids, newest first."""
    now = timezone.now()
    made = [
        factories.make_task(**{"created_at": now - timedelta(seconds=age), **fields})
        for age in range(count)
    ]
    return [str(task.id) for task in made]


def ids(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.content
    return [task["task_id"] for task in answer.json()["results"]]


def test_pages_hold_each_task_once_while_others_arrive(api: Client) -> None:
    """Paging by cursor shows what existed at the start, newest first, whatever is added."""
    expected = make_tasks(7)
    seen: list[str] = []
    address: str | None = "/api/v1/tasks?limit=3"
    while address:
        page = api.get(address)
        seen += ids(page)
        address = page.json()["next"]
        factories.make_task()
    assert seen == expected


def test_tasks_of_one_moment_are_not_lost_between_pages(api: Client) -> None:
    """A cursor inside a group of equal times continues inside that group."""
    make_tasks(5, created_at=timezone.now())
    first = api.get("/api/v1/tasks?limit=2").json()
    second = api.get(first["next"]).json()
    third = api.get(second["next"]).json()
    pages = [*first["results"], *second["results"], *third["results"]]
    assert len({task["task_id"] for task in pages}) == 5
    assert third["next"] is None


def test_filters(api: Client) -> None:
    """Status, type, project and time filter the list, alone and together."""
    make_tasks(2)
    failed = str(factories.make_task("failed").id)
    image = str(factories.make_task(task_type="image_generation", project_id="p2").id)
    old = factories.make_task(created_at=timezone.now() - timedelta(days=9))
    assert ids(api.get("/api/v1/tasks?status=failed")) == [failed]
    assert ids(api.get("/api/v1/tasks?task_type=image_generation")) == [image]
    assert ids(api.get("/api/v1/projects/p2/tasks")) == [image]
    assert ids(api.get("/api/v1/projects/p2/tasks?status=failed")) == []
    moment = (timezone.now() - timedelta(days=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert ids(api.get(f"/api/v1/tasks?created_before={moment}")) == [str(old.id)]
    assert len(ids(api.get(f"/api/v1/tasks?created_after={moment}"))) == 4
    assert len(ids(api.get("/api/v1/tasks?project_id=test_project&status=queued"))) == 3


def test_a_page_of_100_costs_as_many_queries_as_one_of_2(
    api: Client, forget_keys: Callable[[], None], django_assert_num_queries: Any
) -> None:
    """Key, tasks, webhooks: three queries for a page of any length."""
    make_tasks(101)
    for task in Task.objects.all()[:50]:
        event = factories.make_event(subject=str(task.id))
        factories.make_message("delivered", event=event, last_error_code="http_status")
    api.get("/api/v1/tasks")  # notes the use of the key
    for size in (2, 100):
        forget_keys()
        with django_assert_num_queries(3):
            page = api.get(f"/api/v1/tasks?limit={size}")
        assert len(ids(page)) == size


def test_deep_pages_use_the_index(api: Client) -> None:
    """The plan for a later page reads the index from the cursor on, without a sort."""
    make_tasks(3)
    oldest = Task.objects.earliest("created_at")
    place = BY_TIME.cursor(oldest)
    with connection.cursor() as cursor:  # a table this small would be read as a whole
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
    found = queries.page_query(Task.objects.all(), {})
    plan = page_query(found, order=BY_TIME, cursor=place)[:101].explain()
    assert "Index Scan Backward using task_page" in plan
    assert "created_at <=" in plan.split("Index Cond")[1]
    assert "Sort" not in plan


def test_the_summary_of_webhooks_tells_what_needs_attention(api: Client) -> None:
    """The summary's state: pending before dead, dead before delivered."""
    task = factories.make_task("failed")
    event = factories.make_event("task.failed", subject=str(task.id))
    path = f"/api/v1/tasks/{task.id}/status"
    assert api.get(path).json()["webhooks"]["state"] == "none"
    factories.make_message("delivered", event=event, url="https://a.example.org/", attempt_count=1)
    assert api.get(path).json()["webhooks"]["state"] == "delivered"
    dead = factories.make_message("dead", event=event, attempt_count=4)
    summary = api.get(path).json()["webhooks"]
    assert (summary["state"], summary["attempts"], summary["last_error"]) == (
        "dead",
        5,
        dead.last_error_code,
    )
    factories.make_message("pending", event=event, url="https://b.example.org/")
    summary = api.get(path).json()["webhooks"]
    assert summary["state"] == "pending"
    assert summary["next_attempt_at"].endswith("Z")
