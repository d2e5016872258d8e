"""What does an operator see of the real processes: figures, log lines, readiness, no secrets?

Two web processes, a worker, an engine in a process of its own; started once, so in one test.
"""

from __future__ import annotations

import json
import re
import signal
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families

from moviesvc.run import embedded
from tests.e2e.conftest import Service
from tests.support.receiver import Receiver
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.long]

Value = Callable[..., float]
PICTURES = 12


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """Every role in a process of its own, logging as in production."""
    still = {"provider": "tests.support.providers.StillProvider"}
    crash = {"provider": "tests.support.providers.CanaryProvider"}
    service = Service(
        tmp_path / "var",
        WEBHOOK_ENGINE="dedicated",
        LOG_FORMAT="json",
        TASK_RETRY_WAITS="0.1",
        PROVIDER_API_KEY="canary-of-the-environment",
        GENERATION_PROVIDERS=json.dumps(
            {"image_generation": still, "audio_generation": crash, "video_generation": still}
        ),
    )
    service.start()
    yield service
    service.stop()


class Operator:
    """Asks the service with a key of its own, which no banner shows."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.key = service.command("create_api_key", "operations test").stdout.strip()

    def call(self, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        """Send a request and return status and bytes."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.service.port}/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-API-Key": self.key, "Content-Type": "application/json", **headers},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def submit(self, task_type: str, callback_url: str, prompt: str = "x", **headers: str) -> str:
        """Submit a task and return its id."""
        body = {"project_id": "operations", "task_type": task_type, "callback_url": callback_url}
        body |= {
            "task_data": {"prompt": prompt} if task_type != "audio_generation" else _voice(prompt)
        }
        status, answer = self.call("api/v1/tasks/submit", body, **headers)
        assert status == 201, answer
        return str(json.loads(answer)["task_id"])

    def scrape(self) -> Value:
        """Return the figures of a scrape, as a function from name and labels."""
        status, text = self.call("metrics")
        assert status == 200, text
        found = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text.decode())
            for sample in family.samples
        }
        return lambda name, **labels: found[name, frozenset(labels.items())]

    def readiness(self) -> dict[str, Any]:
        """Return what readiness says."""
        return dict(json.loads(self.call("api/v1/health/ready")[1]))


def _voice(text: str) -> dict[str, Any]:
    return {"audio_data": {"kind": "voice", "text": text}}


def test_an_operator_sees_figures_ids_and_what_is_wrong_but_no_secret(service: Service) -> None:
    """All on one service, one after the other, as every sum must be known."""
    operator = Operator(service)
    _figures_are_the_known_traffic_and_survive_killed_processes(operator)
    _one_request_id_is_in_the_lines_of_web_worker_and_engine(operator)
    _no_secret_reaches_a_sink(operator)
    _readiness_names_a_frozen_worker_and_a_frozen_redis(operator)


def lines_of(service: Service) -> list[tuple[str, dict[str, Any]]]:
    """Return every structured line with the name of its program."""
    text = (service.var.parent / "service.log").read_text(errors="replace")
    lines = [json.loads(line) for line in text.splitlines() if line.startswith('{"')]
    return [(line.pop("process"), line) for line in lines]


def _figures_are_the_known_traffic_and_survive_killed_processes(operator: Operator) -> None:
    """Twelve tasks, two answers of 500: every sum is exact, also after kill -9 of three roles."""
    service = operator.service
    with Receiver([500, 500, 200]) as receiver:
        for _ in range(PICTURES):
            operator.submit("image_generation", receiver.url)
        receiver.wait_for(PICTURES + 2, timeout=60)
        delivered = {"status": "delivered"}

        def is_counted(value: Value) -> bool:
            return value("webhooks_messages_finished_total", **delivered) == PICTURES

        wait_until(lambda: is_counted(operator.scrape()), timeout=20)
        _has_exact_sums(operator.scrape())
        before = service.details["pids"]
        assert len(before["web"]) == 2
        assert operator.scrape()("webhooks_engines") == 1
        for pid in (before["web"][0], before["worker"][0], before["delivery"][0]):
            psutil.Process(pid).send_signal(signal.SIGKILL)
        wait_until(lambda: _is_replaced(service, before), timeout=60, message=service.log)
        _has_exact_sums(operator.scrape())
        wait_until(lambda: operator.scrape()("webhooks_engines") == 1, timeout=20)
        operator.submit("image_generation", receiver.url)
        receiver.wait_for(PICTURES + 3, timeout=60)
        wait_until(
            lambda: (
                operator.scrape()("webhooks_messages_finished_total", **delivered) == PICTURES + 1
            ),
            timeout=20,
        )


def _is_replaced(service: Service, before: dict[str, list[int]]) -> bool:
    now = service.details.get("pids") or {}
    return all(
        len(now.get(role, [])) == len(before[role]) and before[role][0] not in now[role]
        for role in before
    )


def _has_exact_sums(value: Value) -> None:
    kind = {"task_type": "image_generation"}
    assert value("movies_tasks_submitted_total", **kind) == PICTURES
    assert value("movies_tasks_ended_total", **kind, status="completed") == PICTURES
    assert value("movies_task_duration_seconds_count", **kind, status="completed") == PICTURES
    assert value("movies_task_wait_seconds_count", **kind) == PICTURES
    sent = {"outcome": "succeeded", "error_code": ""}
    assert value("webhooks_attempts_total", **sent) == PICTURES
    failed = {"outcome": "failed", "error_code": "http_status"}
    assert value("webhooks_attempts_total", **failed) == 2
    assert value("webhooks_attempt_duration_seconds_count", outcome="succeeded") == PICTURES
    name = "webhooks_completion_to_first_byte_seconds_count"
    assert value(name, connection="new") + value(name, connection="reused") == PICTURES
    assert value("webhooks_messages", status="delivered") == PICTURES
    assert value("movies_workers_alive") >= 1


def _one_request_id_is_in_the_lines_of_web_worker_and_engine(operator: Operator) -> None:
    """Log lines lead from a client's X-Request-ID to the webhook that was sent, and back."""
    with Receiver([200]) as receiver:
        named = {"X-Request-ID": "asked-by-a-client-1"}
        task_id = operator.submit("image_generation", receiver.url, **named)
        receiver.wait_for(1, timeout=30)
        message_id = receiver.requests[0].message_id

    def found() -> dict[str, list[dict[str, Any]]]:
        lines = [(n, x) for n, x in lines_of(operator.service) if x.get("task_id") == task_id]
        return {name: [line for n, line in lines if n == name] for name, _ in lines}

    def whole() -> dict[str, list[Any]] | None:
        # The worker says that it ended after the webhook may have gone out.
        lines = found()
        is_whole = {"web", "delivery"} <= set(lines) and len(lines.get("worker", ())) > 1
        return lines if is_whole else None

    lines = wait_until(whole)
    assert all(
        line["request_id"] == "asked-by-a-client-1" for name in lines for line in lines[name]
    )
    assert [line["event"] for line in lines["web"]] == ["Task submitted"]
    assert [line["event"] for line in lines["worker"]] == ["Task started", "Task ended"]
    (sent,) = lines["delivery"]
    assert (sent["event"], sent["message_id"]) == ("Webhook sent successfully", message_id)
    keys = ["timestamp", "level", "event", "callback_url", "status_code", "task_id", "attempt"]
    assert list(sent)[:7] == keys


def _no_secret_reaches_a_sink(operator: Operator) -> None:
    """Canaries in keys, URLs, environment and exceptions are in no log, answer or Redis."""
    service = operator.service
    canaries = {
        "API key": operator.key.partition(".")[2],
        "query value": "canary-of-the-query",
        "environment": service.environment["PROVIDER_API_KEY"],
        "exception": "canary-of-the-exception",
        "user information": "canary-of-the-userinfo",
    }
    operator.call("media/0123456789abcdef/canary-of-the-query/x.png")
    answers = [
        operator.call("api/v1/tasks?cursor=canary-of-the-query")[1],
        operator.call("api/v1/tasks/submit", _with_userinfo("canary-of-the-userinfo"))[1],
    ]
    secret = json.loads(operator.call("api/v1/webhooks/signing-secret?project_id=operations")[1])
    canaries["signing secret"] = secret["secret"].removeprefix("whsec_")
    with Receiver([500, 200]) as receiver:
        url = f"{receiver.url}?token=canary-of-the-query"
        task_id = operator.submit("audio_generation", url, "canary-of-the-exception")
        receiver.wait_for(2, timeout=30)
        webhook = receiver.requests[0].body
    assert json.loads(webhook)["error_code"] == "internal_error"
    assert "CanaryProvider" not in webhook.decode()
    task = json.loads(operator.call(f"api/v1/tasks/{task_id}")[1])
    sinks = {
        "log": (service.var.parent / "service.log").read_text(errors="replace"),
        "answers": b"".join(answers).decode(),
        "task": json.dumps([task["error"], task.get("traceback")]),
        "webhook": webhook.decode(),
        "redis": _everything_in_redis(service),
        "metrics": operator.call("metrics")[1].decode(),
    }
    assert "Task crashed the runner" in sinks["log"]
    assert len(sinks["redis"]) > 100
    found = [
        (sink, name) for sink, text in sinks.items() for name in canaries if canaries[name] in text
    ]
    assert found == []


def _with_userinfo(word: str) -> dict[str, Any]:
    return {
        "project_id": "operations",
        "task_type": "image_generation",
        "callback_url": f"https://somebody:{word}@receiver.example.com/",
        "task_data": {"prompt": "x"},
    }


def _everything_in_redis(service: Service) -> str:
    client = redis.Redis.from_url(embedded.redis(service.var))
    parts = []
    for key in client.scan_iter():
        kind = client.type(key)
        reads = {b"string": client.get, b"hash": client.hgetall, b"set": client.smembers}
        reads |= {
            b"zset": lambda k: client.zrange(k, 0, -1),
            b"list": lambda k: client.lrange(k, 0, -1),
        }
        parts.append(f"{key!r} {reads[kind](key)!r}")
    client.close()
    embedded.leave(service.var)  # else the servers would outlive the service
    return "\n".join(parts)


def _readiness_names_a_frozen_worker_and_a_frozen_redis(operator: Operator) -> None:
    """A worker and Redis that really stop are named within seconds; so is their return."""
    service = operator.service
    workers = [psutil.Process(pid) for pid in service.details["worker"]]
    server = psutil.Process(int((service.var / "redis.pid").read_text()))
    wait_until(lambda: operator.readiness()["status"] == "ok", timeout=20)
    for process in workers:
        process.suspend()
    problem = "No worker gives a sign of life; accepted tasks wait."
    wait_until(lambda: operator.readiness()["problems"] == [problem], timeout=20)
    for process in workers:
        process.resume()
    wait_until(lambda: operator.readiness()["status"] == "ok", timeout=20)
    server.suspend()
    try:
        wait_until(lambda: operator.readiness()["redis"] == "timed_out", timeout=20)
    finally:
        server.resume()
    wait_until(lambda: operator.readiness()["status"] == "ok", timeout=30)
    assert not re.search("canary", json.dumps(operator.readiness()))
