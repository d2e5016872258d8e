"""Does a limit hold, although a process far from it asks Redis only rarely?"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
from django.test import Client

from tasks_app import redis_gate
from tasks_app.access import throttling
from tasks_app.access.throttling import TAB_PART, Tabs
from tests.support import factories

LIMIT = 1_000  # seventeen come back a second


class Clock:
    """A clock that is set by the test."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def questions() -> int:
    """How often Redis ran our script."""
    counts = cast(Any, redis_gate.client().info("commandstats"))
    return sum(counts.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("evalsha", "eval"))


def test_far_from_the_limit_redis_is_asked_now_and_then_and_told_all() -> None:
    """Two processes take 200 tokens with few calls to Redis, and every token is counted."""
    clock = Clock()
    first, second = Tabs(clock), Tabs(clock)
    redis_gate.client().config_resetstat()
    shown = [(first, second)[number % 2].take("a", LIMIT).remaining for number in range(200)]
    assert questions() < 200 / 5
    assert shown[:3] == [LIMIT - 1, LIMIT - 2, LIMIT - 2], "each counts what it took itself"
    clock.now += throttling.TAB_SECONDS
    first.take("a", LIMIT)
    left = second.take("a", LIMIT).remaining
    assert LIMIT - 202 <= left <= LIMIT - 202 + 5, "all were told, a few have come back since"


def test_near_the_limit_every_token_is_asked_for() -> None:
    """Tokens that one process took are missing in the other's next answer."""
    first, second = Tabs(), Tabs()
    limit = TAB_PART - 1
    remaining = [(first, second)[number % 2].take("b", limit).remaining for number in range(10)]
    assert remaining == list(range(limit - 1, limit - 11, -1))


def test_a_burst_from_many_threads_gets_what_there_is_and_no_more() -> None:
    """Two processes of eight threads each, as fast as they can: at most one in a hundred over."""
    processes = (Tabs(), Tabs())
    with ThreadPoolExecutor(16) as pool:
        asked = pool.map(lambda n: processes[n % 2].take("c", LIMIT).is_allowed, range(2_000))
        allowed = sum(asked)
    assert LIMIT <= allowed <= LIMIT + 2 * LIMIT // TAB_PART + 60, "60 may have come back"


def test_what_was_taken_too_much_is_paid_back() -> None:
    """Tokens taken without asking count even if the bucket is empty: the next wait is longer."""
    verdict = throttling.take("d", 10, taken_before=12)
    assert (verdict.is_allowed, verdict.remaining) == (False, 0)
    assert 15 < verdict.retry_in <= 18


def test_a_new_limit_holds_with_the_next_request() -> None:
    """After a change of the limit the remembered bucket is not used."""
    tabs = Tabs()
    assert tabs.take("e", 100_000).remaining == 99_999
    assert tabs.take("e", 50).limit == 50


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


def test_without_redis_the_tab_is_paid_here(monkeypatch: Any) -> None:
    """The local bucket counts tokens taken without asking, as Redis does."""
    monkeypatch.setattr(redis_gate.gate, "fault", redis_gate.UNREACHABLE)
    clock = Clock()
    tabs = Tabs(clock)
    for _ in range(50):
        clock.now += throttling.TAB_SECONDS / 2
        tabs.take("f", LIMIT)
    clock.now += throttling.TAB_SECONDS
    assert LIMIT - 51 <= tabs.take("f", LIMIT).remaining <= LIMIT - 51 + 5
