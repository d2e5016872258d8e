"""Does a limit hold over all keys, threads and processes, with and without Redis?"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.test import Client

from tasks_app import redis_gate
from tasks_app.access import throttling
from tests.support import factories

LIMIT = 1_000


def test_a_burst_from_many_threads_gets_what_there_is_and_no_more() -> None:
    """Of 2,000 who ask as fast as they can, a bucket of 1,000 lets 1,000 through."""
    began = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        verdicts = list(pool.map(lambda _: throttling.take("c", LIMIT), range(2_000)))
    came_back = (time.monotonic() - began) * LIMIT / throttling.MINUTE
    allowed = sum(verdict.is_allowed for verdict in verdicts)
    assert LIMIT <= allowed <= LIMIT + came_back + 1
    assert all(verdict.retry_in > 0 for verdict in verdicts if not verdict.is_allowed)


@pytest.mark.django_db
def test_the_keys_of_a_project_share_its_limit(settings: Any) -> None:
    """A project's keys share the project's limit; other projects and unbound keys do not count."""
    settings.PROJECT_RATE_LIMIT_PER_MINUTE = 3
    first, second, other, free = (
        Client(headers={"x-api-key": factories.make_api_key(project_id=project)[1]})
        for project in ("p", "p", "q", None)
    )
    for api in (first, second, first):
        assert api.get("/api/v1/tasks")["RateLimit-Limit"] == "3"
    for api in (first, second):
        answer = api.get("/api/v1/tasks")
        assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
        assert 0 < int(answer["Retry-After"]) <= 20
    last = Client(
        headers={
            "x-api-key": factories.make_api_key(
                "one more", project_id="p", rate_limit_per_minute=1
            )[1]
        }
    )
    assert last.get("/api/v1/tasks").status_code == 429, "the last of its own is not the project's"
    assert other.get("/api/v1/tasks").status_code == 200
    assert free.get("/api/v1/tasks")["RateLimit-Limit"] == str(settings.RATE_LIMIT_PER_MINUTE)


def test_without_redis_each_process_counts_for_itself(monkeypatch: Any) -> None:
    """The bucket in the process's memory gives as many tokens as the one in Redis, and no more."""
    monkeypatch.setattr(redis_gate.gate, "fault", redis_gate.UNREACHABLE)
    began = time.monotonic()
    verdicts = [throttling.take("f", LIMIT) for _ in range(2_000)]
    came_back = (time.monotonic() - began) * LIMIT / throttling.MINUTE
    assert verdicts[0].remaining == LIMIT - 1
    assert LIMIT <= sum(verdict.is_allowed for verdict in verdicts) <= LIMIT + came_back + 1
    refused = next(verdict for verdict in verdicts if not verdict.is_allowed)
    assert 0 < refused.retry_in <= throttling.MINUTE / LIMIT
