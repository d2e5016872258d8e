"""Does `/metrics` give the right figures, to the right callers, at a constant cost?"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from tasks_app import metrics, redis_gate
from tasks_app.state import lifecycle
from tasks_app.state.submit import Submit, submit
from tests.support import factories

pytestmark = pytest.mark.django_db

Figures = dict[tuple[str, frozenset[tuple[str, str]]], float]


def figures_of(text: str) -> Figures:
    """Return every sample of a scrape by its name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(client: Client) -> Any:
    """Scrape; the answer is a function from name and labels to the value."""
    answer = client.get("/metrics")
    assert answer.status_code == 200, answer.content
    figures = figures_of(answer.content.decode())
    return lambda name, **labels: figures[name, frozenset(labels.items())]


def test_only_a_key_for_all_projects_or_a_listed_address_may_scrape(settings: Any) -> None:
    """Figures cover all projects: 401 without a key, 403 for a project's, 200 from a network."""
    clear = {
        "all": factories.make_api_key()[1],
        "one": factories.make_api_key(project_id="film")[1],
        "blind": factories.make_api_key(scopes=["submit"])[1],
        "wrong": "abcdefgh.abcdefghabcdefghabcdefgh",
    }

    def status(**headers: str) -> int:
        return Client(headers=headers).get("/metrics").status_code

    assert status() == 401
    assert [status(**{"x-api-key": clear[name]}) for name in clear] == [200, 403, 403, 401]
    assert status(authorization=f"Bearer {clear['all']}") == 200
    settings.METRICS_ALLOW_NETWORKS = [ip_network("10.0.0.0/8")]
    assert status() == 401
    settings.METRICS_ALLOW_NETWORKS = [ip_network("127.0.0.0/8")]
    assert status() == 200
    problem = Client().post("/metrics")
    assert (problem.status_code, problem["Content-Type"]) == (405, "application/problem+json")


def test_gauges_are_what_the_database_holds(api: Client) -> None:
    """Tasks and messages by state, oldest due ages, breakers and the worst destinations."""
    now = timezone.now()
    factories.make_task(available_at=now - timedelta(seconds=50))
    factories.make_task(available_at=now + timedelta(seconds=50))
    factories.make_task("processing", task_type="image_generation")
    for url, due in (("https://a.example.org/x", 40), ("https://b.example.org/y", 90)):
        factories.make_message(url=url, next_attempt_at=now - timedelta(seconds=due))
    factories.make_message("dead", url="https://b.example.org/z?token=canary")
    factories.make_destination(
        "https://b.example.org/",
        breaker_state="open",
        failing_messages=10,
        held_until=now + timedelta(seconds=30),
    )
    factories.make_destination("https://c.example.org/", disabled_at=now)
    value = scrape(api)
    video = {"task_type": "video_generation"}
    assert value("movies_tasks", **video, status="queued") == 2
    assert value("movies_tasks", task_type="image_generation", status="processing") == 1
    assert 49 <= value("movies_task_oldest_due_seconds", **video) < 60
    assert value("movies_task_oldest_due_seconds", task_type="image_generation") == 0
    states = {"pending": 2, "delivered": 0, "dead": 1, "superseded": 0, "cancelled": 0}
    assert {s: value("webhooks_messages", status=s) for s in states} == states
    assert 39 <= value("webhooks_oldest_due_seconds", held="no") < 50
    assert 89 <= value("webhooks_oldest_due_seconds", held="yes") < 100
    assert value("webhooks_destinations", breaker="open") == 1
    assert value("webhooks_destinations", breaker="closed") == 2
    assert value("webhooks_destinations_disabled") == 1
    assert value("webhooks_destinations_held") == 1
    assert value("webhooks_destination_failing_messages", origin="https://b.example.org") == 10
    assert (value("movies_database_up"), value("movies_redis_up")) == (1, 1)


def test_ends_waits_and_failures_are_counted_when_they_are_committed(api: Client) -> None:
    """Submit, wait, failed attempt, end and cancel each raise their own figure by one."""
    before = scrape(api)
    submission = submit(Submit("p", "image_generation", {"prompt": "x"}))
    task = lifecycle.claim_next("image_generation")
    assert task is not None
    lifecycle.retry_later(task, "some-code-of-a-provider", 0)
    task = lifecycle.claim_next("image_generation")
    assert task is not None
    lifecycle.fail(task, "timed_out")
    second = submit(Submit("p", "image_generation", {"prompt": "x"})).task
    lifecycle.cancel(second.id)
    with pytest.raises(lifecycle.AlreadyEnded):
        lifecycle.cancel(submission.task.id)
    after = scrape(api)

    def moved(name: str, **labels: str) -> float:
        labels["task_type"] = "image_generation"
        return after(name, **labels) - before(name, **labels)

    assert moved("movies_tasks_submitted_total") == 2
    assert moved("movies_task_wait_seconds_count") == 2
    assert moved("movies_task_attempts_failed_total", error_code="internal_error") == 1
    assert moved("movies_task_attempts_failed_total", error_code="timed_out") == 1
    assert moved("movies_tasks_ended_total", status="failed") == 1
    assert moved("movies_tasks_ended_total", status="cancelled") == 1
    assert moved("movies_task_duration_seconds_count", status="failed") == 1


def test_labels_are_bounded_and_tell_no_secrets(api: Client) -> None:
    """However many receivers fail, 20 are named; no URL, project, task or query becomes a label."""
    for number in range(25):
        url = f"https://user-{number}.example.org/path-canary?token=query-canary"
        factories.make_destination(url, scope="scope-canary", failing_messages=number + 1)
        message = factories.make_message("dead", url=url)
    text = api.get("/metrics").content.decode()
    named = [line for line in text.splitlines() if line.startswith("webhooks_destination_failing")]
    assert len(named) == 20
    assert "canary" not in text
    assert message.event.subject not in text
    assert message.event.scope not in text


def test_a_scrape_asks_a_fixed_number_of_questions_and_then_none(
    api: Client, forget_keys: Callable[[], None], django_assert_num_queries: Any
) -> None:
    """Ten statements for tables of any size, and within five seconds only the key's."""
    factories.make_dead_letter()
    api.get("/api/v1/tasks/metrics")  # notes the use of the key
    forget_keys()
    with django_assert_num_queries(1 + 10):
        api.get("/metrics")
    forget_keys()
    with django_assert_num_queries(1):
        api.get("/metrics")


def test_without_its_servers_a_scrape_says_so(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From an allowed network a scrape works even without Redis."""
    settings.METRICS_ALLOW_NETWORKS = [ip_network("127.0.0.0/8")]
    settings.REDIS_URL = "unix:///nowhere/redis.sock?socket_timeout=0.25"
    monkeypatch.setattr(redis_gate, "_client", None)
    value = scrape(Client())
    monkeypatch.undo()
    assert (value("movies_redis_up"), value("movies_database_up")) == (0, 1)


def test_every_error_code_of_a_failure_has_its_series() -> None:
    """An unknown error code is counted as an internal error."""
    task = factories.make_task("processing")
    child = metrics.attempts_failed.labels(task.task_type, "internal_error")
    before = child._value.get()
    metrics.attempt_failed(task, "x" * 500)
    assert child._value.get() == before + 1


def test_figures_of_an_older_version_are_not_shown(api: Client, settings: Any) -> None:
    """The files outlive an upgrade; a metric that was removed from the code is not shown."""
    former = Counter(
        "movies_former", "Counted by a version before.", ["kind"], registry=CollectorRegistry()
    )
    former.labels("x").inc()
    assert "movies_former" in {family.name for family in settings.PROCESS_METRICS.collect()}
    text = api.get("/metrics").content.decode()
    assert "movies_tasks_submitted_total" in text
    assert "movies_former" not in text
