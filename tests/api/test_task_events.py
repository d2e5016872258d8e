"""Does a watcher get every newer snapshot, resume where it was, and leave room for others?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import pytest
from django.test import Client

from tasks_app import redis_gate
from tasks_app.access import throttling
from tasks_app.api import stream
from tasks_app.models import ApiKey, Task
from tests.support import factories

# Real transactions: the end of a stream closes the connection, as it does in the web server.
pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def watching(api: Client, task: Task, **headers: str) -> Iterator[Iterator[bytes]]:
    """Open a stream and close it as the web server does."""
    answer = api.get(f"/api/v1/tasks/{task.pk}/events", headers=headers)
    assert (answer.status_code, answer["Content-Type"][:17]) == (200, "text/event-stream")
    try:
        yield iter(answer.streaming_content)
    finally:
        answer.close()


def next_event(stream: Iterator[bytes]) -> tuple[int, dict[str, Any]]:
    """Return id and data of the next snapshot."""
    chunk = next(part for part in stream if part.startswith(b"id: "))
    first, _, rest = chunk.partition(b"\ndata: ")
    return int(first.removeprefix(b"id: ")), orjson.loads(rest)


def change(task: Task, **fields: Any) -> None:
    """Change a task as a worker does; its version rises."""
    task.version += 1
    Task.objects.filter(pk=task.pk).update(version=task.version, **fields)


def test_snapshots_have_rising_ids_and_end_with_the_task(api: Client) -> None:
    """A watcher sees the task now, each change, and the end, after which the stream ends."""
    task = factories.make_task("processing", version=3)
    with watching(api, task) as stream:
        assert next_event(stream)[0] == 3
        change(task, progress=0.5, current_step="shot 2")
        number, seen = next_event(stream)
        assert (number, seen["progress"], seen["current_step"]) == (4, 0.5, "shot 2")
        Task.objects.filter(pk=task.pk).delete()
        task = factories.make_task("completed", id=task.pk, version=5)
        assert next_event(stream)[1]["status"] == "completed"
        assert list(stream) == []


def test_a_reconnect_gets_the_next_newer_snapshot_only(api: Client) -> None:
    """With Last-Event-ID nothing is sent twice; changes in between become one snapshot."""
    task = factories.make_task("processing", version=7)
    for step in ("shot 1", "shot 2", "shot 3"):
        change(task, current_step=step)
    with watching(api, task, last_event_id="8") as stream:
        number, seen = next_event(stream)
        assert (number, seen["current_step"]) == (10, "shot 3")
    change(task, current_step="shot 4")
    with watching(api, task, last_event_id="10") as stream:
        assert next_event(stream)[0] == 11


def test_whoever_has_seen_the_end_is_told_not_to_come_back(api: Client) -> None:
    """204 is the answer that stops an EventSource's reconnects."""
    task = factories.make_task("completed", version=5)
    path = f"/api/v1/tasks/{task.pk}/events"
    assert api.get(path, headers={"last-event-id": "5"}).status_code == 204
    for nonsense in ("4", "", "-1", "abc", "9" * 30):
        with watching(api, task, last_event_id=nonsense) as stream:
            assert next_event(stream)[0] == 5


def test_one_key_cannot_take_the_seats_of_all(api: Client, settings: Any) -> None:
    """A key's third stream is refused with Retry-After; another key's first is not."""
    settings.SSE_STREAMS, settings.SSE_STREAMS_PER_KEY = 3, 2
    task = factories.make_task("processing")
    other = Client(headers={"x-api-key": factories.make_api_key("other")[1]})
    with watching(api, task), watching(api, task):
        refused = api.get(f"/api/v1/tasks/{task.pk}/events")
        assert (refused.status_code, refused.json()["code"]) == (503, "too_many_streams")
        assert int(refused["Retry-After"]) > 0
        with watching(other, task):
            assert other.get(f"/api/v1/tasks/{task.pk}/events").status_code == 503
    assert not stream.seats._taken
    with watching(api, task):
        assert stream.seats._taken.total() == 1


def test_a_revoked_key_watches_no_longer(api: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """An open stream ends within about a second after its key is revoked."""
    task = factories.make_task("processing")
    with watching(api, task) as stream:
        next_event(stream)
        ApiKey.objects.update(revoked=True)
        assert list(stream) == []


def test_without_redis_each_process_still_holds_the_limit(settings: Any) -> None:
    """The third request of two a minute is refused by the local bucket, with the same headers."""
    settings.RATE_LIMIT_PER_MINUTE = 2
    redis_gate.gate.fault = redis_gate.UNREACHABLE
    api = Client(headers={"x-api-key": factories.make_api_key()[1]})
    answers = [api.get("/api/v1/tasks") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].json()["code"] == "rate_limited"
    assert 0 < int(answers[2]["Retry-After"]) <= 30
    assert answers[2]["RateLimit-Remaining"] == "0"
    assert throttling._local._full_at, "the local bucket was not asked"
