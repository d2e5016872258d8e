"""Do cancel and retry work, also when a worker finishes the task at the same moment?"""

from __future__ import annotations

import threading
import uuid
from typing import Any

import pytest
from django.db import connections
from django.test import Client
from django.utils import timezone

from tasks_app.models import Task
from tasks_app.state import lifecycle
from tests.support import factories
from webhooks_app.models import WebhookEvent

pytestmark = pytest.mark.django_db
ROUNDS = 1000


@pytest.mark.parametrize("status", ["queued", "processing"])
@pytest.mark.parametrize("method", ["delete", "post"])
def test_cancelling_ends_a_task_and_writes_its_event(api: Client, status: str, method: str) -> None:
    """The answer is the cancelled task; its event exists, and the worker's claim is void."""
    task = factories.make_task(status)
    path = f"/api/v1/tasks/{task.id}" + ("/cancel" if method == "post" else "")
    answer = api.generic(method.upper(), path)
    assert answer.status_code == 200, answer.content
    body = answer.json()
    assert (body["status"], body["queue_position"]) == ("cancelled", None)
    assert body["cancelled_at"] == body["finished_at"] is not None
    assert WebhookEvent.objects.get(subject=str(task.id)).event_type == "task.cancelled"
    assert Task.objects.get(pk=task.pk).run_token is None


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_cancelling_what_has_ended_is_409(api: Client, status: str) -> None:
    """The 409 names the task's state."""
    task = factories.make_task(status)
    answer = api.delete(f"/api/v1/tasks/{task.id}")
    assert answer.status_code == 409
    assert (answer.json()["code"], answer.json()["state"]) == ("already_ended", status)


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_retry_is_a_new_task_linked_both_ways(api: Client, status: str) -> None:
    """The new task has the input, the options and the metadata of the first, and a link to it."""
    metadata = '{"b": 1.0, "a": 2}'
    task = factories.make_task(status, metadata=metadata, priority=1, retry_policy=[5])
    answer = api.post(f"/api/v1/tasks/{task.id}/retry")
    assert answer.status_code == 201, answer.content
    copy = Task.objects.get(pk=answer.json()["task_id"])
    assert answer["Location"].endswith(str(copy.pk))
    assert answer.json()["retry_of"] == str(task.id)
    for name in ("project_id", "task_data", "metadata", "priority", "retry_policy"):
        assert getattr(copy, name) == getattr(task, name)
    seen = api.get(f"/api/v1/tasks/{task.id}").json()
    assert seen["retried_by"] == [str(copy.pk)]
    assert api.get(f"/api/v1/tasks/{copy.pk}").json()["retry_of"] == str(task.id)


def test_retry_keeps_to_the_hosts_of_the_key(db: None) -> None:
    """A key limited to one callback host cannot retry a task with another host."""
    task = factories.make_task("failed", callback_url="https://elsewhere.example.com/hook")
    key = factories.make_api_key(callback_hosts=["mine.example.com"])[1]
    refused = Client(headers={"x-api-key": key}).post(f"/api/v1/tasks/{task.id}/retry")
    assert refused.status_code == 422, refused.content
    assert refused.json()["errors"][0]["pointer"] == "/callback_url"
    assert Task.objects.count() == 1
    key = factories.make_api_key(callback_hosts=["elsewhere.example.com"])[1]
    assert (
        Client(headers={"x-api-key": key}).post(f"/api/v1/tasks/{task.id}/retry").status_code == 201
    )


@pytest.mark.parametrize("status", ["queued", "processing", "completed"])
def test_retrying_anything_else_is_409(api: Client, status: str) -> None:
    """Only failed and cancelled tasks can be retried."""
    task = factories.make_task(status)
    answer = api.post(f"/api/v1/tasks/{task.id}/retry")
    assert (answer.status_code, answer.json()["code"]) == (409, "not_retryable")
    assert answer.json()["state"] == status


def test_a_retry_needs_room_in_the_queue(api: Client, settings: Any) -> None:
    """The quota of queued tasks applies to a retried task as to a new one."""
    settings.QUEUE_LIMIT_PER_PROJECT = 1
    task = factories.make_task("failed")
    factories.make_task("queued", project_id=task.project_id)
    answer = api.post(f"/api/v1/tasks/{task.id}/retry")
    assert (answer.status_code, answer.json()["code"]) == (429, "queue_full")
    assert int(answer["Retry-After"]) > 0
    assert Task.objects.count() == 2


def running_tasks(count: int) -> list[Task]:
    """Insert tasks that a worker has claimed."""
    now = timezone.now()
    return Task.objects.bulk_create(
        Task(
            project_id="p",
            task_type="image_generation",
            task_data={},
            status="processing",
            run_token=uuid.uuid4(),
            lease_expires_at=now,
            available_at=now,
            created_at=now,
            started_at=now,
            timeout_seconds=60,
        )
        for _ in range(count)
    )


@pytest.mark.django_db(transaction=True)
def test_cancel_against_completion_has_one_winner_a_thousand_times() -> None:
    """In each round both sides agree on the winner, and there is exactly that one event."""
    tasks = running_tasks(ROUNDS)
    start = threading.Barrier(2)
    wins: dict[str, set[uuid.UUID]] = {"completed": set(), "cancelled": set()}
    errors: list[BaseException] = []

    def race(name: str, end: Any, lost: type[Exception]) -> None:
        try:
            for task in tasks:
                start.wait(timeout=60)
                try:
                    end(task)
                    wins[name].add(task.pk)
                except lost:
                    pass
        except BaseException as error:  # a thread's error must reach the test
            errors.append(error)
            start.abort()
        finally:
            connections.close_all()

    sides = [
        threading.Thread(
            target=race,
            args=("completed", lambda t: lifecycle.complete(t, {}, []), lifecycle.LostClaim),
        ),
        threading.Thread(
            target=race,
            args=("cancelled", lambda t: lifecycle.cancel(t.pk), lifecycle.AlreadyEnded),
        ),
    ]
    for side in sides:
        side.start()
    for side in sides:
        side.join(timeout=120)
    assert not errors
    assert not wins["completed"] & wins["cancelled"]
    assert len(wins["completed"]) + len(wins["cancelled"]) == ROUNDS
    for status, won in wins.items():
        assert set(Task.objects.filter(status=status).values_list("pk", flat=True)) == won
        events = WebhookEvent.objects.filter(event_type=f"task.{status}")
        assert {uuid.UUID(event.subject) for event in events} == won
    assert WebhookEvent.objects.count() == ROUNDS
