"""Does the main job work on databases that nobody here built, with every process of the service?

`manage.py run` against each of them: the API takes a task, a worker renders it, a signed webhook
arrives, a failing receiver gets its retries, a dead letter is replayed, and a killed worker loses
nothing.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tasks_app.task_types import TASK_TYPES
from tests.e2e.conftest import Service
from tests.foreign.postgres import Postgres
from tests.receiver import Receiver
from tests.waiting import wait_until

pytestmark = [
    *(pytest.mark.e2e, pytest.mark.long),
    # Of Debian's only the harder way, through the pool: each service takes seconds to start.
    pytest.mark.parametrize(
        "foreign_database", ["oldest", "pooled"], indirect=True, scope="module"
    ),
]

_ATTEMPTS = """
SELECT delivery.outcome, delivery.response_status, delivery.trigger
FROM webhooks_app_webhookdelivery delivery
JOIN webhooks_app_webhookmessage message ON message.id = delivery.message_id
JOIN webhooks_app_webhookevent event ON event.id = message.event_id
WHERE event.subject = '{task}' ORDER BY delivery.attempt_number
"""


@pytest.fixture(scope="module")
def service(
    foreign_database: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """All processes of the service, with quick pictures, and the database as operators set it."""
    still = {"provider": "tests.providers.StillProvider", "options": {"seconds": 0.3}}
    service = Service(
        tmp_path_factory.mktemp("foreign") / "var",
        DATABASE_URL=os.environ["DATABASE_URL"],
        ENVIRONMENT="development",
        GENERATION_PROVIDERS=json.dumps(dict.fromkeys(TASK_TYPES, still)),
    )
    service.start()
    yield service
    service.stop()


def submit(service: Service, receiver: Receiver, **more: Any) -> str:
    """Submit a picture whose webhook goes to the receiver."""
    return service.submit(
        project_id="test_project",
        task_type="image_generation",
        callback_url=receiver.url,
        task_data={"image_data": {"prompt": "A lighthouse"}},
        **more,
    )


def verified(service: Service, answers: list[Any]) -> Receiver:
    """Return a receiver that verifies with the project's secret."""
    status, answer = service.call("GET", "webhooks/signing-secret?project_id=test_project")
    assert status == 200, answer
    return Receiver(answers, secret=answer["secret"])


def attempts(server: Postgres, task: str) -> list[tuple[Any, ...]]:
    """Read the attempts of a task's webhook by a way of the test's own."""
    return server.execute(
        _ATTEMPTS.format(task=task), os.environ["DATABASE_URL"].rpartition("/")[2]
    )


def test_task_ends_in_a_signed_webhook_after_a_retry(
    service: Service, foreign_database: Postgres
) -> None:
    """One task, one failed attempt, one delivery, both signed, and both rows say so."""
    with verified(service, [500, 200]) as receiver:
        task = submit(service, receiver)
        service.wait_for_status(task, "completed")
        requests = receiver.wait_for(2, timeout=20)
        expected = [("failed", 500, "scheduled"), ("succeeded", 200, "scheduled")]
        wait_until(lambda: attempts(foreign_database, task) == expected)
    assert [request.is_verified for request in requests] == [True, True]
    assert json.loads(requests[0].body)["status"] == "completed"
    assert len({request.body for request in requests}) == 1
    assert service.call("GET", "health/ready")[1]["problems"] == []


def test_dead_letter_is_replayed(service: Service, foreign_database: Postgres) -> None:
    """A receiver that answers once it is mended gets the message by the API's replay."""
    with verified(service, [500]) as receiver:
        task = submit(service, receiver, retry_policy=[])
        wait_until(lambda: attempts(foreign_database, task) == [("failed", 500, "scheduled")])
        (message,) = service.call("GET", f"tasks/{task}/webhooks")[1]["results"]
        receiver.answer(200)
        status, answer = service.call("POST", f"webhooks/messages/{message['id']}/replay", {})
        assert status < 300, answer
        wait_until(lambda: attempts(foreign_database, task)[1:] == [("succeeded", 200, "replay")])
    assert [request.is_verified for request in receiver.requests] == [True, True]


def test_killed_worker_loses_nothing(service: Service, foreign_database: Postgres) -> None:
    """kill -9 of every worker in the middle of five renders: five webhooks, none twice."""
    with verified(service, [200]) as receiver:
        tasks = [submit(service, receiver) for _ in range(5)]
        wait_until(lambda: service.call("GET", "tasks?status=processing")[1]["results"])
        for pid in service.details["worker"]:
            os.kill(pid, signal.SIGKILL)
        for task in tasks:
            service.wait_for_status(task, "completed")
        receiver.wait_for(5, timeout=30)
        wait_until(lambda: all(attempts(foreign_database, task) for task in tasks))
    arrived = [json.loads(request.body)["task_id"] for request in receiver.requests]
    assert set(arrived) == set(tasks)
    assert all(request.is_verified for request in receiver.requests)
