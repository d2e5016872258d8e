"""How do end-to-end tests start the service? With the command that everybody uses."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pytest

from tests import ROOT
from tests.support import first_start
from tests.support.family import family, kill, matching
from tests.support.ports import free_port
from tests.support.waiting import wait_until

#: What the test run itself set; the service under test finds its own.
_NOT_INHERITED = ("DATABASE_URL", "REDIS_URL", "EMBEDDED", "SECRET_KEY", "ENVIRONMENT", "VAR_DIR")


class Service:
    """`manage.py run` in a process of its own, with its own state directory."""

    #: What spares a test minutes of waiting for leases to run out.
    tuning: ClassVar[dict[str, str]] = {
        "TASK_LEASE_SECONDS": "3",
        "SWEEP_INTERVAL_SECONDS": "0.5",
        "WEBHOOK_TIMEOUT_SECONDS": "5",
    }

    #: Whether its database and static files are there before its first start, which a test of
    #: that start does not want; making them takes as much time as all the rest of it.
    is_set_up = True

    #: What Python is started with.
    program: Sequence[str] = ("manage.py",)

    def __init__(self, var: Path, **environment: str) -> None:
        self.var = var
        self.port = free_port()
        self.environment = environment
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start everything and wait until the service reports that it is ready."""
        if self.is_set_up and not self.var.exists():
            first_start.copy(self.var)
        self.process = self.run()
        wait_until(self._is_ready, timeout=60, message=self.log)

    def run(self) -> subprocess.Popen[bytes]:
        """Run the command; its output goes to the log."""
        inherited = {k: v for k, v in os.environ.items() if k not in _NOT_INHERITED}
        place = {"VAR_DIR": str(self.var), "PORT": str(self.port)}
        with (self.var.parent / "service.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *self.program, "run"],
                cwd=ROOT,
                env={**inherited, **place, **self.tuning, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the service ended: {self.log()}"
        return self.details.get("supervisor") == self.process.pid

    @property
    def details(self) -> dict[str, Any]:
        """Return the content of run.json; {} where there is none."""
        try:
            return dict(json.loads((self.var / "run.json").read_text()))
        except (OSError, ValueError):
            return {}

    def log(self) -> str:
        """Return the end of what the service printed."""
        return self.whole_log()[-3000:]

    def whole_log(self) -> str:
        """Return all that the service printed."""
        return (self.var.parent / "service.log").read_text(errors="replace")

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Send an API request and return status and JSON."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/v1/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-API-Key": self.details["api_key"], "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def submit(self, **body: Any) -> str:
        """Submit a task and return its id."""
        status, answer = self.call("POST", "tasks/submit", body)
        assert status == 201, answer
        return str(answer["task_id"])

    def wait_for_status(self, task_id: str, status: str, timeout: float = 60) -> dict[str, Any]:
        """Wait until a task has that status and return it."""

        def found() -> Any:
            task = self.call("GET", f"tasks/{task_id}")[1]
            return task if task.get("status") == status else None

        return wait_until(found, timeout=timeout, message=f"{task_id} {status}")

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a management command against the running service's servers."""
        command = self.begin(*arguments)
        output, errors = command.communicate(timeout=120)
        return subprocess.CompletedProcess(arguments, command.returncode, output, errors)

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a management command against the running service's servers."""
        inherited = {k: v for k, v in os.environ.items() if k not in _NOT_INHERITED}
        place = {"VAR_DIR": str(self.var), "PORT": str(self.port), "PYTHONUNBUFFERED": "1"}
        return subprocess.Popen(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env={**inherited, **place, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def everything(self) -> list[psutil.Process]:
        """Return every process of the service, the embedded servers included."""
        assert self.process is not None
        return [*family(self.process.pid), *self.servers()]

    def servers(self) -> list[psutil.Process]:
        """Return the embedded servers that run, with their children."""
        return matching(psutil.process_iter(), self._is_server)

    def _is_server(self, process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.AccessDenied):  # somebody else's
            return process.cwd().startswith(f"{self.var}{os.sep}")
        return False

    def kill_everything(self) -> None:
        """kill -9 every process at once."""
        kill(self.everything())
        assert self.process is not None
        self.process.wait(10)

    def stop(self) -> None:
        """Stop as Ctrl-C does."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(45)


@pytest.fixture
def still_service(tmp_path: Path) -> Iterator[Service]:
    """A service whose tasks take a scripted time and make a small picture."""
    options = {"provider": "tests.support.providers.StillProvider", "options": {"seconds": 1.5}}
    types = ("video_generation", "image_generation", "audio_generation")
    service = Service(
        tmp_path / "var",
        GENERATION_PROVIDERS=json.dumps(dict.fromkeys(types, options)),
        WEBHOOK_LEASE_MARGIN_SECONDS="2.6",
    )
    service.start()
    yield service
    service.stop()
