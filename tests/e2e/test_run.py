"""Does `manage.py run` start everything, survive everything and leave nothing behind?

One service for the whole file, in a state directory of its own with servers of its own.
"""

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from moviesvc import embedded
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.e2e
START_SECONDS = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Service:
    """`manage.py run` as somebody would start it who has set nothing but PORT."""

    def __init__(self, var: Path) -> None:
        self.var = var
        unset = ("DATABASE_URL", "REDIS_URL", "EMBEDDED", "ENVIRONMENT", "SECRET_KEY")
        kept = {key: value for key, value in os.environ.items() if key not in unset}
        self.environment = kept | {"VAR_DIR": str(var), "PORT": str(free_port())}
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> subprocess.Popen[bytes]:
        with (self.var.parent / "output").open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "manage.py", "run"],
                cwd=ROOT,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def start(self) -> dict[str, Any]:
        self.process = self.command()
        return wait_until(self.running, timeout=START_SECONDS, message="run.json is there")

    def running(self) -> dict[str, Any]:
        assert self.process.poll() is None, self.output()
        try:
            running = json.loads((self.var / "run.json").read_text())
        except FileNotFoundError:
            return {}
        return running if running["supervisor"] == self.process.pid else {}

    def output(self) -> str:
        return (self.var.parent / "output").read_text()

    def processes(self) -> list[psutil.Process]:
        """All that belongs to it: what leads back to the supervisor, and the two servers."""
        pids = [int((self.var / "redis.pid").read_text())]
        pids.append(int((self.var / "pg/postmaster.pid").read_text().split("\n")[0]))
        roots = [psutil.Process(pid) for pid in [self.process.pid, *pids]]
        return [each for root in roots for each in [root, *root.children(recursive=True)]]


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with tempfile.TemporaryDirectory(prefix="ms", ignore_cleanup_errors=True) as directory:
        service = Service(Path(directory) / "var")
        service.start()
        yield service
        if service.process.poll() is None:
            service.process.terminate()
            service.process.wait(60)
        embedded.stop(service.var)


def is_running(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def get(running: dict[str, Any], path: str) -> int:
    headers = {"X-API-Key": running["api_key"]}
    request = urllib.request.Request(running["url"] + path, headers=headers)
    with urllib.request.urlopen(request, timeout=10) as response:
        return response.status


def test_service_from_start_to_kill_to_clean_end(service: Service) -> None:
    """Proves that it describes itself, refuses a double, survives kill -9 and ends cleanly."""
    running = service.running()
    _describes_itself(service, running)
    _refuses_a_second(service, running)
    _repairs_its_servers(service, running)
    _replaces_a_killed_worker(service, running)
    _starts_again_after_everything_was_killed(service, running)
    _ends_cleanly(service)


def _describes_itself(service: Service, running: dict[str, Any]) -> None:
    assert stat.S_IMODE((service.var / "run.json").stat().st_mode) == 0o600
    assert get(running, "/api/v1/health") == 200
    assert running["delivery"] == running["worker"] != []
    assert all(psutil.pid_exists(pid) for role in ("web", "worker") for pid in running[role])
    lines = service.output().split("\n")
    assert any(line.strip().startswith(f"curl -sS {running['url']}/api/v1/") for line in lines)
    assert running["api_key"] in service.output()


def _refuses_a_second(service: Service, running: dict[str, Any]) -> None:
    second = service.command()
    assert second.wait(60) == 1
    pid, url = service.process.pid, running["url"]
    assert f"already running, pid {pid} at {url}" in service.output()


def _repairs_its_servers(service: Service, running: dict[str, Any]) -> None:
    servers = [each for each in service.processes() if each.name() in ("postgres", "redis-server")]
    for each in servers[:1] + [each for each in servers if each.name() == "postgres"][:1]:
        each.kill()
    ready = "/api/v1/health/ready"
    wait_until(lambda: _answers(running, ready), timeout=40, message="ready again")


def _answers(running: dict[str, Any], path: str) -> bool:
    try:
        return get(running, path) == 200
    except urllib.error.HTTPError as error:
        error.close()
    except OSError:
        pass
    return False


def _replaces_a_killed_worker(service: Service, running: dict[str, Any]) -> None:
    os.kill(running["worker"][0], signal.SIGKILL)

    def is_replaced() -> bool:
        now = service.running()["worker"]
        return bool(now) and now != running["worker"]

    wait_until(is_replaced, timeout=60, message="another worker")


def _starts_again_after_everything_was_killed(service: Service, old: dict[str, Any]) -> None:
    victims = service.processes()
    for process in victims:  # the supervisor first; some are faster than we are, then
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    service.process.wait()
    running = service.start()
    assert not [process for process in victims if is_running(process)]
    assert get(running, "/api/v1/health") == 200
    assert running["api_key"] == old["api_key"]
    assert running["admin_password"] == old["admin_password"]


def _ends_cleanly(service: Service) -> None:
    processes = service.processes()
    began = time.monotonic()
    service.process.send_signal(signal.SIGINT)
    assert service.process.wait(60) == 0
    assert time.monotonic() - began < 25  # about 3 on an idle machine
    assert not [process for process in processes if is_running(process)]
    assert not (service.var / "run.json").exists()
