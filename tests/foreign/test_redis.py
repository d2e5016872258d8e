"""Does the service only use Redis to wake workers, whatever happens to it?

A web and a worker process on Debian's Redis, over TLS, as a user of an access list. In each case
a task is taken within a second, done and told of within ten, and readiness names the cause.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from tasks_app.task_types import TASK_TYPES
from tests.support import factories, processes
from tests.support.receiver import Receiver
from tests.support.server import WebServer
from tests.support.servers import redis as foreign
from tests.support.waiting import wait_until

#: For the database to be there: what the tests see of it comes through the API.
pytestmark = pytest.mark.django_db

SUBMIT = "/api/v1/tasks/submit"
THREADS = 3
#: A fast task, and one that shows how many are worked on at once.
STILL, SLOW = "image_generation", "audio_generation"
PROVIDER = "tests.support.providers.StillProvider"


def environment(url: str) -> dict[str, str]:
    """Return the settings of both processes besides the database."""
    providers: dict[str, Any] = dict.fromkeys(TASK_TYPES, PROVIDER)
    providers[SLOW] = {"provider": PROVIDER, "options": {"seconds": 0.4}}
    return {
        "REDIS_URL": url,
        "GENERATION_PROVIDERS": json.dumps(providers),
        "SWEEP_INTERVAL_SECONDS": "0.5",
        "RENDER_SLOTS": str(THREADS),
        "dramatiq_worker_timeout": "200",
    }


class Service:
    """The processes, as a client, a receiver and an operator see them."""

    def __init__(self, redis: foreign.Server, web: WebServer, receiver: Receiver, key: str) -> None:
        self.redis = redis
        self.web = web
        self.receiver = receiver
        self._key = key

    def submit(self, task_type: str = STILL) -> str:
        """Submit a task, which takes less than a second, and return its id."""
        body = {
            "project_id": "p",
            "task_type": task_type,
            "task_data": {"prompt": "x"},
            "callback_url": self.receiver.url,
        }
        began = time.monotonic()
        answer = self.web.call("POST", SUBMIT, body, key=self._key)
        assert answer.status == 201, answer.content
        assert answer.headers["RateLimit-Limit"], "throttling goes on in the process"
        assert time.monotonic() - began < 1.0
        return str(answer.json()["task_id"])

    def told(self) -> set[str]:
        """Return the tasks whose completion has arrived."""
        bodies = [json.loads(request.body) for request in self.receiver.requests]
        return {body["task_id"] for body in bodies if body["status"] == "completed"}

    def works(self) -> float:
        """Submit a task and return the seconds until its webhook has arrived, ten at most."""
        began = time.monotonic()
        task_id = self.submit()
        wait_until(lambda: task_id in self.told(), timeout=10, message=self.web.log)
        return time.monotonic() - began

    def readiness(self) -> dict[str, Any]:
        """Return readiness as a caller with a key sees it."""
        answer = self.web.call("GET", "/api/v1/health/ready", key=self._key)
        assert answer.status == 200, answer.content
        return dict(answer.json())

    def working(self) -> int:
        """Return how many tasks are running."""
        path = f"/api/v1/tasks?status=processing&task_type={SLOW}"
        return len(self.web.call("GET", path, key=self._key).json()["results"])

    def is_well(self) -> bool:
        """Say whether web and worker both use Redis again."""
        found = self.readiness()
        return found["status"] == "ok" and found["workers_alive"] == 1

    def repair(self) -> None:
        """Restart Redis in its normal state, and wait until every process uses it."""
        self.redis.kill()
        shutil.rmtree(self.redis.data, ignore_errors=True)
        self.redis.start()
        wait_until(self.is_well, timeout=10, message=lambda: str(self.readiness()))


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, django_db_setup: None, django_db_blocker: Any
) -> Iterator[Service]:
    """A service that was started while there was no Redis, and did a task before there was."""
    log = tmp_path_factory.mktemp("redis") / "worker.log"
    worker = ("manage.py", "rundramatiq", "--skip-logging", "-p", "1", "-t", str(THREADS))
    with ExitStack() as stack:
        stack.enter_context(django_db_blocker.unblock())
        stack.callback(call_command, "flush", interactive=False, verbosity=0)
        key = factories.make_api_key()[1]
        redis = stack.enter_context(foreign.prepared())
        media = {"MEDIA_ROOT": str(log.parent / "media"), "WORK_ROOT": str(log.parent / "work")}
        told = {**environment(redis.url()), **media}
        receiver = stack.enter_context(Receiver())
        process = stack.enter_context(processes.running(log, *worker, **told))
        web = stack.enter_context(WebServer(processes=1, **told))
        found = Service(redis, web, receiver, key)
        wait_until(lambda: "Redis cannot be used" in log.read_text(), 30, log.read_text)
        found.works()
        yield found
        stop_while_redis_is_frozen(redis, process, log)


def stop_while_redis_is_frozen(
    redis: foreign.Server, worker: subprocess.Popen[bytes], log: Path
) -> None:
    """Stop the worker: it ends in time and in order, although Redis does not answer."""
    redis.send(signal.SIGSTOP)
    worker.terminate()
    assert worker.wait(12) == 0, log.read_text()[-3000:]
    assert "Traceback" not in log.read_text(), log.read_text()


@pytest.fixture
def healthy(service: Service) -> Service:
    """The service with a working Redis."""
    service.repair()
    return service


def kill(redis: foreign.Server) -> None:
    redis.kill()


def freeze(redis: foreign.Server) -> None:
    redis.send(signal.SIGSTOP)


def change_password(redis: foreign.Server) -> None:
    redis.let_in("another")


def change_certificate(redis: foreign.Server) -> None:
    redis.kill()
    redis.start(kind="self_signed")


def fill(redis: foreign.Server) -> None:
    redis.admin().config_set("maxmemory", "1")


def demote(redis: foreign.Server) -> None:
    redis.admin().replicaof("127.0.0.1", "1")


def deny(redis: foreign.Server) -> None:
    redis.let_in(allowed=(*foreign.ALLOWED, "-evalsha"))


def lose_the_disk(redis: foreign.Server) -> None:
    redis.admin().config_set("save", "3600 1")
    redis.admin().set("changed", "1")
    redis.data.rmdir()
    redis.admin().bgsave()
    wait_until(lambda: redis.admin().info("persistence")["rdb_last_bgsave_status"] == "err")


def load(redis: foreign.Server) -> None:
    redis.admin().eval("for i = 1, 20000 do redis.call('SET', 'key' .. i, 'x') end", 0)
    redis.admin().save()
    redis.kill()
    slowly = ("--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024")
    redis.start(*slowly)


CASES = {
    "unreachable": (kill, "Redis is unreachable"),
    "timed_out": (freeze, "Redis does not answer in time"),
    "password_refused": (change_password, "refuses the user or the password"),
    "certificate_not_trusted": (change_certificate, "not trusted (self-signed certificate)"),
    "out_of_memory": (fill, "Redis is out of memory"),
    "read_only": (demote, "Redis is read-only"),
    "permission_denied": (deny, "denies the user the command EVALSHA"),
    "disk_failed": (lose_the_disk, "cannot write to its disk"),
    "loading": (load, "still loading"),
}


@pytest.mark.parametrize("code", CASES)
def test_work_goes_on_and_the_cause_is_named(healthy: Service, code: str) -> None:
    """Redis fails in the middle of it all: submits, work and webhooks go on, before and after."""
    break_it, text = CASES[code]
    break_it(healthy.redis)
    healthy.works()
    # One call may run into its time-out before it is told the cause.
    wait_until(lambda: healthy.readiness()["redis"] == code, message="the cause is named")
    found = healthy.readiness()
    assert (found["status"], found["workers_alive"]) == ("degraded", None)
    assert text in found["problems"][0]
    assert found["problems"][0].endswith("; tasks start up to some seconds late.")


def test_a_redis_that_forgot_everything_is_no_fault(healthy: Service) -> None:
    """After FLUSHALL tasks go on, and readiness has nothing to say."""
    healthy.redis.admin().flushall()
    healthy.works()
    wait_until(healthy.is_well)


def test_all_threads_work_while_redis_is_away(healthy: Service) -> None:
    """Nine tasks on three threads keep all three busy, and the next begins as one ends."""
    kill(healthy.redis)
    tasks = {healthy.submit(SLOW) for _ in range(3 * THREADS)}
    wait_until(lambda: healthy.working() == THREADS, message="all threads are busy")
    began = time.monotonic()
    wait_until(lambda: tasks <= healthy.told(), timeout=20)
    assert time.monotonic() - began < 4, "three rounds of 0.4 s, none of which waits for a look"
