"""Does the sweep send the tickets that are missing, and only those?"""

from __future__ import annotations

from collections.abc import Iterator

import dramatiq
import pytest

from tasks_app import lifecycle, sweep, wake
from tasks_app.task_types import TASK_TYPES

pytestmark = pytest.mark.django_db(transaction=True)

QUEUE = TASK_TYPES["image_generation"].queue


@pytest.fixture(autouse=True)
def _empty_queues() -> Iterator[None]:
    """Begin and end without tickets of other tests."""
    dramatiq.get_broker().flush_all()
    yield
    dramatiq.get_broker().flush_all()


def submit() -> None:
    """Submit one task, which sends its ticket."""
    lifecycle.submit(
        lifecycle.Submit(
            project_id="tickets", task_type="image_generation", task_data={"prompt": "x"}
        )
    )


def test_ticket_that_died_with_its_worker_is_replaced_at_once() -> None:
    """A ticket taken and never finished does not keep the sweep from sending another one."""
    submit()
    consumer = dramatiq.get_broker().consume(QUEUE, prefetch=1, timeout=1000)
    assert next(consumer) is not None, "the ticket is taken, and nobody will finish it"
    assert wake.waiting_tickets(QUEUE) == 0
    assert sweep.send_tickets() == 1
    consumer.close()


def test_waiting_tickets_are_not_doubled() -> None:
    """Tasks whose tickets wait in the queue get no second ones; lost tickets come back."""
    submit()
    submit()
    assert wake.waiting_tickets(QUEUE) == 2
    assert sweep.send_tickets() == 0
    wake.client().flushdb()
    assert sweep.send_tickets() == 2
