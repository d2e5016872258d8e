"""May an endpoint be deleted while a message to it is being published?"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest
from django.db import connection, transaction

from tests.support.factories import PROJECT, make_endpoint, make_event, make_message
from tests.support.waiting import wait_until
from webhooks_app import outbox
from webhooks_app.models import WebhookEndpoint, WebhookMessage
from webhooks_app.operators import endpoints
from webhooks_app.signing import store

_numbers = count(2)
pytestmark = pytest.mark.django_db(transaction=True)


def elsewhere(work: Callable[[], Any]) -> Future[Any]:
    """Do something in another connection; return when it is done or waits for a lock."""
    pids: list[int] = []

    def run() -> Any:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid()")
                pids.append(cursor.fetchone()[0])
            return work()
        finally:
            connection.close()

    pool = ThreadPoolExecutor(1)
    future = pool.submit(run)
    pool.shutdown(wait=False)
    wait_until(lambda: future.done() or (pids and is_waiting(pids[0])))
    return future


def is_waiting(pid: int) -> bool:
    """Say whether a connection waits for another's lock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT cardinality(pg_blocking_pids(%s)) > 0", [pid])
        return bool(cursor.fetchone()[0])


def publish_end() -> None:
    """End a task, as the outbox sees it."""
    with transaction.atomic():
        outbox.publish(
            scope=PROJECT,
            subject="task-1",
            sequence=next(_numbers),
            event_type="task.completed",
            body=b"{}",
            supersedes="task.progress",
        )


def test_an_endpoint_deleted_while_a_task_ends_takes_the_new_message_along() -> None:
    """The task's end is written, and its message to the deleted endpoint is cancelled."""
    endpoint = make_endpoint()
    with transaction.atomic():
        publish_end()
        deletion = elsewhere(lambda: endpoints.delete(endpoint, actor="me"))
    deletion.result(10)
    message = WebhookMessage.objects.get()
    assert (message.status, message.endpoint_id) == ("cancelled", None)


def test_a_task_that_ends_while_an_endpoint_is_deleted_owes_it_nothing() -> None:
    """The task's end waits for the deletion and is then written without the endpoint."""
    endpoint = make_endpoint()
    progress = make_event("task.progress", subject="task-1")
    make_message(event=progress, endpoint=endpoint)
    with transaction.atomic():
        endpoints.delete(endpoint, actor="me")
        end = elsewhere(publish_end)
    end.result(10)
    assert WebhookMessage.objects.get().event == progress


CHANGES: dict[str, Callable[[WebhookEndpoint], object]] = {
    "change": lambda endpoint: endpoints.update(endpoint, {"description": "x"}, actor="me"),
    "ping": lambda endpoint: endpoints.ping(endpoint, actor="me"),
    "delete": lambda endpoint: endpoints.delete(endpoint, actor="me"),
    "secret": lambda endpoint: store.get_or_create(PROJECT, endpoint.pk),
    "rotate": lambda endpoint: store.rotate(PROJECT, endpoint_id=endpoint.pk),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_done_to_an_endpoint_that_was_deleted_meanwhile_says_so(change: str) -> None:
    """A change of an endpoint that was just deleted fails as not found; nothing is half done."""
    endpoint = make_endpoint()
    WebhookEndpoint.objects.filter(pk=endpoint.pk).delete()
    with pytest.raises(WebhookEndpoint.DoesNotExist):
        CHANGES[change](endpoint)


def test_tasks_of_one_project_end_side_by_side() -> None:
    """Two publishers to the same endpoint do not wait for each other."""
    make_endpoint()
    publish_end()  # makes the destination, for which the first two would wait
    with transaction.atomic():
        publish_end()
        assert elsewhere(publish_end).done(), "the second waits for the first"
    assert WebhookMessage.objects.count() == 3


def test_an_endpoint_gone_is_a_404(api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that found the endpoint just before another deleted it is answered with a 404."""
    endpoint = make_endpoint()
    real = endpoints.update

    def late(*args: Any, **kwargs: Any) -> WebhookEndpoint:
        WebhookEndpoint.objects.filter(pk=endpoint.pk).delete()
        return real(*args, **kwargs)

    monkeypatch.setattr(endpoints, "update", late)
    answer = api.patch(
        f"/api/v1/webhooks/endpoints/{endpoint.pk}", {"description": "x"}, "application/json"
    )
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
