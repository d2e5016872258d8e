"""Which processes make up the service, and how does a script find a running one?

The command `run` starts these programs under the supervisor and describes them in `run.json`.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

from django.conf import settings

from moviesvc.environment import Environment
from moviesvc.run import embedded, lifeline
from moviesvc.run.lock_file import write_private
from moviesvc.run.supervisor import Program, Supervisor

MANAGE = str(settings.BASE_DIR / "manage.py")
# Dramatiq's time for tasks to be given back at a stop; the middleware's own limits are shorter.
WORKER_SHUTDOWN_MS = 15_000
# More than a worker's 35 s, so that only a stuck process is ever killed.
GRACE_SECONDS = 45.0


def _number(name: str, default: int) -> str:
    return str(Environment().int(name, default=default))


def host() -> str:
    """Return the address to listen on: HOST, else all addresses in production, else loopback."""
    return os.environ.get("HOST") or ("0.0.0.0" if settings.IS_PRODUCTION else "127.0.0.1")  # noqa: S104


def worker_threads() -> str:
    """Return how many tasks a worker process runs at once, of all types together."""
    # One thread more than cores, so that polling a remote provider never waits for a render.
    return _number("WORKER_THREADS", (os.cpu_count() or 1) + 1)


def child_environment(var: Path, state: Path) -> dict[str, str]:
    """Return the environment of every program, with all URLs set, so that none starts a server.

    Args:
        state: the directory of the locks that end the programs together with their supervisor.
    """
    added = {
        "DATABASE_URL": os.environ.get("DATABASE_URL") or embedded.postgres(var),
        "REDIS_URL": os.environ.get("REDIS_URL") or embedded.redis(var),
        "EMBEDDED": "off",
        "ENVIRONMENT": settings.ENVIRONMENT,
        "PORT": str(settings.PORT),
        "PUBLIC_URL": settings.PUBLIC_URL,
        "VAR_DIR": str(var),
        "PYTHONUNBUFFERED": "1",
        "DJANGO_SETTINGS_MODULE": "moviesvc.settings",
        lifeline.STATE_VARIABLE: str(state),
    }
    # Dramatiq counts running messages as prefetched: with 1, each type would use only one thread.
    tuning = {"dramatiq_queue_prefetch": worker_threads(), "dramatiq_worker_timeout": "200"}
    return tuning | dict(os.environ) | added


def programs(environment: dict[str, str], role: str = "all") -> list[Program]:
    """List the programs of a role; `all` includes a delivery process only if it is dedicated."""
    if role == "all":
        roles = ["web", "worker", *(["delivery"] if is_delivery_dedicated() else [])]
        return [program for each in roles for program in programs(environment, each)]
    if role == "web":
        return [_program("web", _web_command(), environment)]
    if role == "worker":
        # One worker process each: Dramatiq ends all processes of a group when one of them dies.
        command = [sys.executable, MANAGE, "rundramatiq", "--skip-logging", "-p", "1"]
        command += ["-t", worker_threads()]
        command += ["--worker-shutdown-timeout", str(WORKER_SHUTDOWN_MS)]
        count = int(_number("WORKER_PROCESSES", 1))
    else:
        command = [sys.executable, MANAGE, "deliver_webhooks"]
        count = int(_number("DELIVERY_PROCESSES", 1))
    suffixes = [str(number + 1) for number in range(count)] if count > 1 else [""]
    return [_program(role, command, environment, suffix) for suffix in suffixes]


def _program(
    role: str, command: list[str], environment: dict[str, str], suffix: str = ""
) -> Program:
    return Program(
        name=f"{role}{suffix}",
        role=role,
        command=command,
        # By program name, not by role: the processes of each program are listed separately.
        environment=environment | {lifeline.ROLE_VARIABLE: f"{role}{suffix}"},
    )


def _web_command() -> list[str]:
    command = [sys.executable, "-m", "granian", "--interface", "rsgi", "--no-ws"]
    # Set explicitly: while granian detects the version, it has no time-out for heads.
    command += ["--http", "1"]
    command += ["--http1-header-read-timeout", str(int(settings.HEAD_TIMEOUT_SECONDS * 1000))]
    command += ["--host", host(), "--port", str(settings.PORT), "--log-level", "error"]
    command += ["--workers", _number("WEB_PROCESSES", 2)]
    # Counts connections, including idle ones: a few slow clients must not use them all up.
    command += ["--backpressure", "1024"]
    command += ["--respawn-failed-workers", "--respawn-interval", "0.5"]
    # Open event streams would never end by themselves.
    command += ["--workers-kill-timeout", "8"]
    return [*command, "moviesvc.wsgi:front"]


def is_delivery_dedicated() -> bool:
    return bool(settings.WEBHOOKS["ENGINE"] == "dedicated")


def check_port() -> str:
    """Return an error text when something else listens on the port; otherwise ""."""
    family = socket.AF_INET6 if ":" in host() else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host(), settings.PORT))
        except OSError as problem:
            return (
                f"Cannot listen on {host()}:{settings.PORT} ({problem.strerror})."
                f" Choose another port, for example PORT={settings.PORT + 10}."
            )
    return ""


def web_answers() -> bool:
    """Whether the web server answers a request, with any status."""
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host(), host())  # noqa: S104
    connection = http.client.HTTPConnection(address, settings.PORT, timeout=1.0)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/api/v1/health")
            return bool(connection.getresponse().status)
        except (OSError, http.client.HTTPException):
            return False


def pids_by_role(supervisor: Supervisor, state: Path) -> dict[str, list[int]]:
    """List the processes that do the work (not those that only start them), by role.

    `delivery`: those with a delivery engine, which are the workers unless it is dedicated.
    """
    pids: dict[str, list[int]] = {child.program.role: [] for child in supervisor.children}
    for child in supervisor.children:
        if child.process:
            name, role = child.program.name, child.program.role
            pids[role] += lifeline.announced(state, name, child.process.pid)
    if "worker" in pids and not is_delivery_dedicated():
        pids["delivery"] = list(pids["worker"])
    return pids


class RunFile:
    """`run.json`: what a script needs to use the running service. It holds secrets, so 0600."""

    def __init__(self, var: Path) -> None:
        self.path = var / "run.json"
        self._content: dict[str, Any] = {}

    def write(self, content: dict[str, Any]) -> None:
        if content == self._content:
            return
        write_private(self.path, content)
        self._content = content

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def read(self) -> dict[str, Any]:
        """Return the content; {} when no supervisor is alive."""
        try:
            content = dict(json.loads(self.path.read_text()))
            os.kill(content["supervisor"], 0)
        except (OSError, ValueError, KeyError):
            return {}
        return content
