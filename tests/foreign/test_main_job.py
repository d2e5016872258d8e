"""Does the main job work on ordinary databases, with the real processes of the service?

The real web server takes a task, a worker process renders it, a signed webhook arrives, a failing
receiver gets its retry, a dead letter is replayed, and a killed worker loses nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks_app.models import Task
from tasks_app.task_types import TASK_TYPES
from tests.support import factories, processes
from tests.support.family import family, kill
from tests.support.receiver import Receiver
from tests.support.server import WebServer, no_renders
from tests.support.waiting import wait_until
from webhooks_app.models import WebhookDelivery
from webhooks_app.signing.store import get_or_create

pytestmark = [
    *(pytest.mark.e2e, pytest.mark.long, pytest.mark.django_db(transaction=True)),
    # Of Debian's only the harder way, through the pool: every process takes seconds to start.
    pytest.mark.parametrize("foreign_database", ["oldest", "pooled"], indirect=True),
    pytest.mark.usefixtures("foreign_database"),
]

_STILL = {"provider": "tests.support.providers.StillProvider", "options": {"seconds": 0.4}}
_WORKER = {
    "GENERATION_PROVIDERS": json.dumps(dict.fromkeys(TASK_TYPES, _STILL)),
    "TASK_LEASE_SECONDS": "2",
    "SWEEP_INTERVAL_SECONDS": "0.5",
    "WEBHOOK_TIMEOUT_SECONDS": "3",
    "WEBHOOK_LEASE_MARGIN_SECONDS": "5",
}


@contextmanager
def worker(log: Path) -> Iterator[psutil.Process]:
    """Run a worker process, which also has the engine and the sweep; kill it at the end."""
    command = ("manage.py", "rundramatiq", "-p", "1", "-t", "2", "--skip-logging")
    media = str(log.parent / "media")
    with processes.running(log, *command, **_WORKER, MEDIA_ROOT=media) as process:
        yield psutil.Process(process.pid)


class Client:
    """The client that submits pictures, and its receiver."""

    def __init__(self, web: WebServer, receiver: Receiver) -> None:
        self._web, self._receiver = web, receiver
        self._key = factories.make_api_key()[1]

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request that must succeed and return its answer."""
        answer = self._web.call(method, f"/api/v1/{path}", body, key=self._key)
        assert answer.status < 300, answer
        return answer.json()

    def submit(self, **more: Any) -> str:
        """Submit a picture and return its task's id."""
        body = {
            **{"project_id": factories.PROJECT, "task_type": "image_generation"},
            **{"task_data": {"prompt": "A lighthouse"}, "callback_url": self._receiver.url},
        }
        return str(self.call("POST", "tasks/submit", body | more)["task_id"])


def attempts(task: str) -> list[tuple[Any, ...]]:
    """Return the outcome of each attempt at a task's webhook."""
    rows = WebhookDelivery.objects.filter(message__event__subject=task).order_by("attempt_number")
    return list(rows.values_list("outcome", "response_status", "trigger"))


def test_main_job_on_a_foreign_database(tmp_path: Path) -> None:
    """A retry, a replay and a killed worker: every webhook arrives signed, every row says so."""
    log = tmp_path / "worker.log"
    with (
        WebServer(processes=1, **no_renders()) as web,
        Receiver([500, 200], secret=get_or_create(factories.PROJECT)) as receiver,
    ):
        client = Client(web, receiver)
        with worker(log) as process:
            _retries(client, receiver)
            _replays(client, receiver)
            tasks = [client.submit() for _ in range(5)]
            wait_until(lambda: client.call("GET", "tasks?status=processing")["results"])
            kill(family(process))
            with worker(log):
                _loses_nothing(receiver, tasks)
        assert all(request.is_verified for request in receiver.requests)
    assert "Traceback" not in log.read_text(), log.read_text()


def _retries(client: Client, receiver: Receiver) -> None:
    task = client.submit()
    expected = [("failed", 500, "scheduled"), ("succeeded", 200, "scheduled")]
    wait_until(lambda: attempts(task) == expected, timeout=30)
    assert len({request.body for request in receiver.requests}) == 1
    assert json.loads(receiver.requests[0].body)["status"] == "completed"


def _replays(client: Client, receiver: Receiver) -> None:
    receiver.answer(500)
    task = client.submit(retry_policy=[])
    wait_until(lambda: attempts(task) == [("failed", 500, "scheduled")], timeout=30)
    (message,) = client.call("GET", f"tasks/{task}/webhooks")["results"]
    receiver.answer(200)
    wait_until(lambda: client.call("GET", f"tasks/{task}")["webhooks"]["state"] == "dead")
    client.call("POST", f"webhooks/messages/{message['id']}/replay", {})
    wait_until(lambda: attempts(task)[1:] == [("succeeded", 200, "replay")])


def _loses_nothing(receiver: Receiver, tasks: list[str]) -> None:
    def arrived() -> Counter[str]:
        return Counter(json.loads(request.body)["task_id"] for request in receiver.requests)

    wait_until(lambda: set(tasks) <= set(arrived()), timeout=60)
    assert set(Task.objects.values_list("status", flat=True)) == {"completed"}
    assert max(arrived()[task] for task in tasks) <= 2, "at least once, and twice at most"
