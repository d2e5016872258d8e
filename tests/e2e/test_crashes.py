"""Do a task and its webhook survive kill -9, of the worker and of everything?"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import psutil
import pytest

from tests.e2e.conftest import Service
from tests.support.receiver import Receiver
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.long]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver on loopback."""
    with Receiver([200]) as receiver:
        yield receiver


def submit(service: Service, receiver: Receiver) -> str:
    """Submit one image task with a callback."""
    return service.submit(
        project_id="crash",
        task_type="image_generation",
        callback_url=receiver.url,
        task_data={"prompt": "A lighthouse"},
    )


def delivered_ids(receiver: Receiver) -> set[str]:
    """Return the webhook ids that arrived."""
    return {request.headers["webhook-id"] for request in receiver.requests}


def test_nothing_is_lost_by_kill_9(still_service: Service, receiver: Receiver) -> None:
    """kill -9 of the worker mid-work, then of everything: each task ends and is reported once."""
    service = still_service
    first = submit(service, receiver)
    service.wait_for_status(first, "processing")
    for pid in service.details["worker"]:
        psutil.Process(pid).send_signal(signal.SIGKILL)
    # By the lease (3 s), not when Dramatiq misses the worker (30 s).
    task = service.wait_for_status(first, "completed", timeout=20)
    assert task["attempts"] == 1, "a lost worker is not charged to the task"

    tasks = [submit(service, receiver) for _ in range(4)]
    service.wait_for_status(tasks[0], "processing")
    service.kill_everything()
    service.start()
    for task_id in tasks:
        service.wait_for_status(task_id, "completed")
    wait_until(lambda: len(delivered_ids(receiver)) == 5, timeout=30, message=service.log)
    for task_id in [first, *tasks]:
        messages = service.call("GET", f"tasks/{task_id}/webhooks")[1]
        states = [message["status"] for message in messages["results"]]
        assert states == ["delivered"]


def test_attempt_under_way_at_the_kill_is_interrupted_and_sent_again(
    still_service: Service, receiver: Receiver
) -> None:
    """A request that was hanging when the worker died is sent again under the same id."""
    from tests.support.answers import hang

    service = still_service
    receiver.answer(hang(), 200)
    task_id = submit(service, receiver)
    receiver.wait_for(1, timeout=30)
    for pid in service.details["delivery"]:
        psutil.Process(pid).send_signal(signal.SIGKILL)
    receiver.wait_for(2, timeout=60)
    assert len(delivered_ids(receiver)) == 1

    def outcomes() -> list[str]:
        (message,) = service.call("GET", f"tasks/{task_id}/webhooks")[1]["results"]
        return [delivery["outcome"] for delivery in message["deliveries"]]

    wait_until(lambda: outcomes() == ["interrupted", "succeeded"], message=str(outcomes()))
