"""Does readiness say what is wrong, in words only to callers with a key?"""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.utils import timezone

from moviesvc.run import embedded
from tasks_app import redis_gate, tickets
from tests.support import factories
from tests.support.waiting import wait_until
from webhooks_app.models import WebhookMessage

pytestmark = pytest.mark.django_db


@pytest.fixture
def own_redis(
    settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[psutil.Process]:
    """A Redis server for this test alone, which it may kill."""
    settings.REDIS_URL = embedded.redis(tmp_path) + "&socket_timeout=0.25"
    monkeypatch.setattr(redis_gate, "_client", None)
    monkeypatch.setattr(redis_gate, "gate", redis_gate.RedisGate())
    yield psutil.Process(int((tmp_path / "redis.pid").read_text()))
    embedded.stop(tmp_path)


def ready(client: Client) -> dict[str, Any]:
    """Return what readiness says."""
    answer = client.get("/api/v1/health/ready")
    assert answer.status_code == 200, answer.content
    return dict(answer.json())


def test_details_are_for_those_with_a_key(api: Client) -> None:
    """Everybody sees ok or not; the number of workers is only for callers with a key."""
    tickets.report_alive()
    assert ready(Client()) == {"status": "ok"}
    factories.make_task(available_at=timezone.now() - timedelta(seconds=50))
    found = ready(api)
    assert (found["status"], found["problems"]) == ("ok", [])
    assert (found["database"], found["redis"], found["workers_alive"]) == ("ok", "ok", 1)
    assert found["migrations_pending"] == 0
    assert 49 <= found["oldest_due_seconds"] < 60
    assert Client(headers={"x-api-key": "wrong"}).get("/api/v1/health/ready").status_code == 401


def test_a_killed_redis_is_named_and_its_return_noticed(
    api: Client, own_redis: psutil.Process, tmp_path: Path
) -> None:
    """Without Redis tasks are accepted: ready, degraded, with a reason; then ok again."""
    tickets.report_alive()
    assert ready(api)["status"] == "ok"
    own_redis.send_signal(signal.SIGKILL)
    own_redis.wait(10)
    found = ready(api)
    assert (found["status"], found["redis"], found["workers_alive"]) == (
        "degraded",
        "unreachable",
        None,
    )
    assert found["problems"][0].startswith("Redis is unreachable")
    assert ready(Client()) == {"status": "degraded"}
    embedded.redis(tmp_path)
    tickets.report_alive()
    wait_until(lambda: ready(api)["status"] == "ok")


def test_missing_workers_and_engines_are_named(api: Client, own_redis: psutil.Process) -> None:
    """No sign of life from a worker, and a webhook without a hold that is not sent."""
    assert ready(api)["problems"] == ["No worker gives a sign of life; accepted tasks wait."]
    tickets.report_alive()
    late = timezone.now() - timedelta(seconds=100)
    held = factories.make_destination(
        "https://held.example.org/", held_until=timezone.now() + timedelta(hours=1)
    )
    factories.make_message(url="https://held.example.org/", destination=held, next_attempt_at=late)
    found = ready(api)
    assert found["problems"] == [], "what is held back on purpose is no fault"
    assert 90 <= found["oldest_due_webhook_seconds"] < 110, "the clock is the transaction's begin"
    assert found["oldest_free_webhook_seconds"] == 0
    factories.make_message(next_attempt_at=late)
    found = ready(api)
    assert "A webhook that nothing holds back is" in found["problems"][0]
    assert 90 <= found["oldest_free_webhook_seconds"] < 110


def test_a_webhook_is_late_from_the_end_of_what_held_it(api: Client) -> None:
    """A hold that has just ended, and an engine with a request open there, are no fault."""
    tickets.report_alive()
    now = timezone.now()
    hold = {"next_attempt_at": now - timedelta(hours=2), "url": "https://back.example.org/"}
    back = factories.make_destination(hold["url"], held_until=now - timedelta(seconds=10))
    factories.make_message(destination=back, **hold)
    busy = factories.make_message(url="https://busy.example.org/", next_attempt_at=now)
    factories.make_delivery(busy, outcome="pending")
    lease = {"lease_token": uuid.uuid4(), "lease_expires_at": now + timedelta(seconds=40)}
    WebhookMessage.objects.filter(pk=busy.pk).update(**lease)
    factories.make_message(
        url="https://busy.example.org/",
        destination=busy.destination,
        next_attempt_at=now - timedelta(hours=3),
    )
    found = ready(api)
    assert found["problems"] == []
    assert 9 <= found["oldest_free_webhook_seconds"] < 30
    assert 10_799 <= found["oldest_due_webhook_seconds"] < 10_830


def test_pending_migrations_make_it_not_ready(api: Client) -> None:
    """Code that is newer than its tables is not ready, and gives the reason to a key."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'webhooks_app'")
    cache.clear()
    answer = api.get("/api/v1/health/ready")
    assert (answer.status_code, answer["Content-Type"]) == (503, "application/problem+json")
    body = answer.json()
    assert body["migrations_pending"] > 0
    assert "migrations are not applied" in body["problems"][0]
    public = Client().get("/api/v1/health/ready")
    assert public.status_code == 503
    assert "problems" not in public.json()
