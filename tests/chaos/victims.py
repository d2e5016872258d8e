"""How is a running service broken and checked afterwards? By pid, signal and socket."""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import signal
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
import redis

from moviesvc.run import embedded
from moviesvc.run.daemons import socket_directory
from tests.chaos import place
from tests.chaos.history import History, Post
from tests.chaos.load import Load
from tests.chaos.stage import DUE, TASK_TYPE
from tests.e2e.conftest import Service
from tests.support.family import answers, kill, matching
from tests.support.receiver import Receiver
from tests.support.waiting import wait_until

#: Seconds where the product's defaults are tens of seconds, to keep runs short.
_ENVIRONMENT = {
    "WORKER_PROCESSES": "2",
    "TASK_LEASE_SECONDS": "2",
    "SWEEP_INTERVAL_SECONDS": "0.5",
    "TASK_LOST_LIMIT": "100",
    "TASK_RETRY_WAITS": "0.3,0.3",
    "WEBHOOK_TIMEOUT_SECONDS": "2",
    "WEBHOOK_LEASE_MARGIN_SECONDS": "3",
    "RENDER_SLOTS": "4",
    "WORKER_THREADS": "4",
}


class Scene:
    """A running service, a receiver and the clients of one run."""

    def __init__(self, service: Service, receiver: Receiver, name: str) -> None:
        self.service = service
        self.receiver = receiver
        self.scope = f"{name}-{secrets.token_hex(4)}"
        # A secret in the query, as some clients use it; it must not be in any log.
        self.canary = f"canary-{secrets.token_hex(8)}"
        self.url = f"{receiver.url}/{self.scope}?token={self.canary}"
        self.secret = self._signing_secret()

    def load(self, **options: Any) -> Load:
        """Return clients that use this service."""
        return Load(self.service, self.scope, self.url, **options)

    def _signing_secret(self) -> str:
        path = f"webhooks/signing-secret?project_id={self.scope}"
        return str(self.service.call("GET", path)[1]["secret"])

    def connect(self) -> psycopg.Connection[Any]:
        """Open a connection to the service's own PostgreSQL, without starting it."""
        sockets = socket_directory(self.service.var, embedded.LONGEST_SOCKET_NAME)
        host = urllib.parse.quote(str(sockets), safe="")
        url = f"postgresql://postgres@:{embedded.PORT}/{embedded.DATABASE}?host={host}"
        return psycopg.connect(url, autocommit=True)

    def query(self, sql: str, values: Any = ()) -> list[Any]:
        """Read rows."""
        with self.connect() as connection:
            return connection.execute(sql, values or None).fetchall()  # type: ignore[arg-type]

    def redis(self) -> redis.Redis:
        """Return a client of the service's own Redis."""
        path = redis_socket(self.service.var)
        return redis.Redis(unix_socket_path=path, socket_timeout=5)

    def is_quiet(self) -> bool:
        """Say whether nothing is due, running or open."""
        with contextlib.suppress(psycopg.Error):
            return bool(self.query(DUE, {"scope": self.scope})[0][0] == 0)
        return False

    def settle(self, seconds: float) -> None:
        """Wait until every accepted task has ended and been delivered; the ledger tells if not."""
        with contextlib.suppress(AssertionError):
            wait_until(self.is_quiet, timeout=seconds)

    def history(self, accepted: list[str], **known: Any) -> History:
        """Return the history for the ledger."""
        path = f"/{self.scope}?"
        posts = [Post.of(r) for r in list(self.receiver.requests) if path in r.path]
        log = self.service.whole_log()
        history = History(
            accepted=accepted,
            posts=posts,
            secret=self.secret,
            sinks={"service.log": log},
            canaries=[self.canary, self.secret.removeprefix("whsec_")],
            **known,
        )
        return history.read(self.query, self.scope, 2.0)

    def resources(self) -> dict[str, int]:
        """Count database connections, and the most descriptors and threads of any process."""
        running = self.service.everything()
        own = matching(running, lambda process: process.name().startswith(("python", "granian")))
        return {
            "database connections": self.query("SELECT count(*) FROM pg_stat_activity")[0][0],
            "descriptors": max(answers(own, psutil.Process.num_fds)),
            "threads": max(answers(own, psutil.Process.num_threads)),
        }

    # -- what can be broken ---------------------------------------------------------------

    def processes(self) -> dict[str, list[psutil.Process]]:
        """Return the running processes by kind; the supervisor's kind is ``run``."""
        assert self.service.process
        supervisor, running = self.service.process.pid, self.service.everything()
        kinds: dict[str, list[psutil.Process]] = {}
        for kind, process in answers(running, lambda each: (_kind(each, supervisor), each)):
            kinds.setdefault(kind, []).append(process)
        return kinds

    def kill_one(self, rng: random.Random) -> str:
        """kill -9 one process of a kind, or all; start again what an operator would start."""
        kinds = self.processes()
        kind = rng.choice([*sorted(kinds), "everything"])
        if kind == "everything":
            self.service.kill_everything()
            self.service.start()
            return kind
        kill([rng.choice(kinds[kind])])
        if kind == "run":
            assert self.service.process
            self.service.process.wait(10)
            self.service.start()
        return kind

    def postmaster(self) -> psutil.Process:
        """Return the main process of PostgreSQL."""
        pid = int((self.service.var / "pg/postmaster.pid").read_text().split("\n")[0])
        return psutil.Process(pid)

    def workers(self) -> list[int]:
        """Return the pids of the worker processes."""
        return list(self.service.details.get("worker", []))


def _kind(process: psutil.Process, supervisor: int) -> str:
    if process.pid == supervisor:
        return "run"
    if process.name() in ("postgres", "redis-server"):
        return process.name()
    line = " ".join(process.cmdline())
    if "granian" in line:
        return "web"
    return "worker" if "dramatiq" in line else "other"


@contextmanager
def running(var: Path, name: str, *, seconds: float = 0.1, **environment: str) -> Iterator[Scene]:
    """Run the service with a receiver, and end everything in any case."""
    place.clear(var)
    var.mkdir(parents=True, exist_ok=True)
    given = {"provider": "tests.support.providers.StillProvider", "options": {"seconds": seconds}}
    providers = json.dumps({TASK_TYPE: given})
    options = {**_ENVIRONMENT, "GENERATION_PROVIDERS": providers, **environment}
    service = Service(var / "service", **options)
    with Receiver([200]) as receiver:
        try:
            service.start()
            yield Scene(service, receiver, name)
        finally:
            # Killed at once: the regular stop has a run of its own (F10).
            if service.process:
                service.kill_everything()


def redis_socket(var: Path) -> str:
    """Return the socket of the embedded Redis of a state directory."""
    var.mkdir(parents=True, exist_ok=True)
    return str(socket_directory(var.resolve(), embedded.LONGEST_SOCKET_NAME) / "redis.sock")


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
