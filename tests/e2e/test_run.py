"""Does `manage.py run` start everything, survive everything and leave nothing behind?

One service for the whole file, in a state directory of its own with servers of its own.
"""

import os
import signal
import stat
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pytest

from moviesvc.run import embedded
from tests.e2e.conftest import Service
from tests.support.family import is_running, kill
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.long]


class Untuned(Service):
    """A first start with nothing but PORT set."""

    is_set_up = False
    tuning: ClassVar[dict[str, str]] = {}


@pytest.fixture(scope="module")
def service() -> Iterator[Untuned]:
    with tempfile.TemporaryDirectory(prefix="ms", ignore_cleanup_errors=True) as directory:
        service = Untuned(Path(directory) / "var")
        service.start()
        yield service
        service.stop()
        embedded.stop(service.var)


def get(running: dict[str, Any], path: str) -> int:
    headers = {"X-API-Key": running["api_key"]}
    request = urllib.request.Request(running["url"] + path, headers=headers)
    with urllib.request.urlopen(request, timeout=10) as response:
        return response.status


def test_service_from_start_to_kill_to_clean_end(service: Untuned) -> None:
    """Proves that it writes run.json, refuses a second start, survives kill -9 and ends cleanly."""
    running = service.details
    _describes_itself(service, running)
    _refuses_a_second(service, running)
    _repairs_its_servers(service, running)
    _replaces_a_killed_worker(service, running)
    _starts_again_after_everything_was_killed(service, running)
    _ends_cleanly(service)


def _describes_itself(service: Untuned, running: dict[str, Any]) -> None:
    assert stat.S_IMODE((service.var / "run.json").stat().st_mode) == 0o600
    assert get(running, "/api/v1/health") == 200
    assert running["delivery"] == running["worker"] != []
    assert all(psutil.pid_exists(pid) for role in ("web", "worker") for pid in running[role])
    said = service.whole_log()
    for detail in ("url", "api_key", "admin_user", "admin_password"):
        assert running[detail] in said
    assert f"\n  curl -sS {running['url']}/api/v1/tasks/submit -H" in said
    assert "DEVELOPMENT MODE: callbacks may use plain http and may reach this machine" in said


def _refuses_a_second(service: Untuned, running: dict[str, Any]) -> None:
    second = service.run()
    assert second.wait(60) == 1
    pid, url = service.process.pid, running["url"]
    assert f"already running, pid {pid} at {url}" in service.whole_log()


def _repairs_its_servers(service: Untuned, running: dict[str, Any]) -> None:
    postmaster = (service.var / "pg/postmaster.pid").read_text().split("\n")[0]
    for pid in (postmaster, (service.var / "redis.pid").read_text()):
        os.kill(int(pid), signal.SIGKILL)
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


def _replaces_a_killed_worker(service: Untuned, running: dict[str, Any]) -> None:
    os.kill(running["worker"][0], signal.SIGKILL)

    def is_replaced() -> bool:
        now = service.details["worker"]
        return bool(now) and now != running["worker"]

    wait_until(is_replaced, timeout=60, message="another worker")


def _starts_again_after_everything_was_killed(service: Untuned, old: dict[str, Any]) -> None:
    victims = service.everything()
    kill(victims)  # the supervisor first
    service.process.wait()
    service.start()
    running = service.details
    assert not [process for process in victims if is_running(process)]
    assert get(running, "/api/v1/health") == 200
    assert running["api_key"] == old["api_key"]
    assert running["admin_password"] == old["admin_password"]


def _ends_cleanly(service: Untuned) -> None:
    processes = service.everything()
    began = time.monotonic()
    service.process.send_signal(signal.SIGINT)
    assert service.process.wait(60) == 0
    assert time.monotonic() - began < 25  # about 3 on an idle machine
    assert not [process for process in processes if is_running(process)]
    assert not (service.var / "run.json").exists()
    assert service.whole_log().endswith("stopped; what was under way goes on at the next start\n")
