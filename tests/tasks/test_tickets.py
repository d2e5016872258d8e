"""Does the sweep send the tickets that are missing, and only those?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import dramatiq
import pytest
import redis

from tasks_app import redis_gate, tickets
from tasks_app.models import Task
from tasks_app.state.submit import Submit
from tasks_app.state.submit import submit as submit_task
from tasks_app.task_types import TASK_TYPES
from tasks_app.upkeep import sweep
from tests.chaos.tcpproxy import TcpProxy

pytestmark = pytest.mark.django_db(transaction=True)

QUEUE = TASK_TYPES["image_generation"].queue


@pytest.fixture(autouse=True)
def _empty_queues(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Begin and end without tickets of other tests, and with an open gate."""
    monkeypatch.setattr(redis_gate, "gate", redis_gate.RedisGate())
    # The whole Redis of this test process: the broker's own flush leaves what killed workers
    # held, and that comes back to the queue when their heartbeats have run out.
    redis_gate.client().flushdb()
    yield
    redis_gate.client().flushdb()


def submit() -> None:
    """Submit one task, which sends its ticket."""
    submit_task(
        Submit(project_id="tickets", task_type="image_generation", task_data={"prompt": "x"})
    )


def test_ticket_that_died_with_its_worker_is_replaced_at_once() -> None:
    """A ticket that was taken but never finished does not prevent another one."""
    submit()
    consumer = dramatiq.get_broker().consume(QUEUE, prefetch=1, timeout=1000)
    assert next(consumer) is not None, "the ticket is taken, and nobody will finish it"
    assert tickets.waiting_tickets(QUEUE) == 0
    assert sweep.send_tickets() == 1
    consumer.close()


def test_waiting_tickets_are_not_doubled() -> None:
    """Tasks whose tickets wait in the queue get no second ones; lost tickets are replaced."""
    submit()
    submit()
    assert tickets.waiting_tickets(QUEUE) == 2
    assert sweep.send_tickets() == 0
    redis_gate.client().flushdb()
    assert sweep.send_tickets() == 2


@pytest.mark.parametrize("mode", ["refuse", "hang"])
def test_submit_is_accepted_while_the_broker_is_away(mode: str, monkeypatch: Any) -> None:
    """Without any ticket a task is still claimed within a second."""
    with TcpProxy("/nowhere") as proxy, monkeypatch.context() as patch:
        patch.setattr(redis_gate, "gate", redis_gate.RedisGate())
        proxy.set_mode(mode)
        timeouts = "socket_timeout=0.25&socket_connect_timeout=0.25"
        away = redis.Redis.from_url(f"redis://127.0.0.1:{proxy.port}/0?{timeouts}")
        script = dramatiq.get_broker().scripts["dispatch"]
        patch.setattr(script, "registered_client", away)
        began = time.monotonic()
        submit()
        assert time.monotonic() - began < 1.0
        assert redis_gate.gate.fault, "the next calls spare Redis and our callers"
        away.close()
    assert Task.objects.filter(status="queued").count() == 1
