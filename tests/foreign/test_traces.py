"""Does a whole task arrive at a real collector as one trace, and does none of it need one?"""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Service
from tests.support.fake_provider import FakeProvider
from tests.support.receiver import Receiver
from tests.support.remote_work import KEY, MODEL, good_run
from tests.support.servers.rotel import Received, Rotel
from tests.support.waiting import wait_until
from webhooks_app import traces

pytestmark = pytest.mark.long

ATTEMPT = "webhook attempt"


def submit(service: Service, url: str, **headers: str) -> str:
    """Submit a picture with these headers; return the task's id."""
    body = {
        "project_id": "p",
        "task_type": "image_generation",
        "task_data": {"prompt": "a lamp"},
        "callback_url": url,
        "retry_policy": [0.1],
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{service.port}/api/v1/tasks/submit",
        data=json.dumps(body).encode(),
        headers={
            "X-API-Key": service.details["api_key"],
            "Content-Type": "application/json",
            **headers,
        },
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return str(json.load(answer)["task_id"])


def arrived(
    rotel: Rotel, trace_id: str, attempts: int, run: str = "provider run"
) -> list[Received]:
    """Return a trace once so many attempts and the run, by this name, have come."""

    def found() -> list[Received] | None:
        spans = rotel.spans(trace_id)
        names = [span.name for span in spans]
        is_whole = names.count(ATTEMPT) == attempts == names.count("first byte")
        return spans if is_whole and run in names else None

    return wait_until(found, 30, lambda: str(rotel.spans(trace_id)))


def test_a_task_is_one_trace(tmp_path: Path) -> None:
    """Submit, wait, run, probe, attempts and a replay are linked; the collector may go away."""
    with Rotel(tmp_path) as rotel, Receiver([500, 200]) as receiver:
        place = {"OTEL_EXPORTER_OTLP_ENDPOINT": rotel.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        service = Service(tmp_path / "var", **place, OTEL_SERVICE_NAME="films")
        service.start()
        try:
            url = f"{receiver.url}?token=canary"
            _of_a_client(service, rotel, receiver, url)
            _of_its_own(service, rotel, receiver, url)
            for secret in ("canary", service.details["api_key"]):
                assert secret not in rotel.log()
            assert "service.name: Str(films)" in rotel.log()
            rotel.kill()
            sent = len(receiver.requests)
            task_id = submit(service, url)
            service.wait_for_status(task_id, "completed")
            receiver.wait_for(sent + 1, 60)
        finally:
            service.stop()


def test_work_at_a_provider_is_in_its_tasks_trace(tmp_path: Path) -> None:
    """Its submit, the work there, the fetch of the result and the probe hang on the request."""
    with Rotel(tmp_path) as rotel, FakeProvider() as provider, Receiver() as receiver:
        provider.script = good_run(provider.url)
        options = {"model": MODEL, "poll_seconds": 0.1}
        entry = {"provider": "replicate", "options": options}
        service = Service(
            tmp_path / "var",
            OTEL_EXPORTER_OTLP_ENDPOINT=rotel.url,
            OTEL_BSP_SCHEDULE_DELAY="100",
            GENERATION_PROVIDERS=json.dumps({"image_generation": entry}),
            REPLICATE_BASE_URL=provider.url,
            REPLICATE_API_TOKEN=KEY,
            PROVIDER_ALLOW_NETWORKS="127.0.0.0/8",
        )
        service.start()
        try:
            given = traces.new()
            submit(service, receiver.url, traceparent=given)
            receiver.wait_for(1, 60)
            spans = arrived(rotel, traces.trace_id(given), 1, run="remote fetch")
            by_name = {span.name: span for span in spans}
            for name in ("queue wait", "remote submit", "remote job", "remote fetch", ATTEMPT):
                assert by_name[name].parent_id == traces.span_id(given), name
            assert by_name["probe"].parent_id == by_name["remote fetch"].id
            assert by_name["remote submit"].attributes["provider"] == "replicate"
            assert KEY not in rotel.log()
        finally:
            service.stop()


def _of_a_client(service: Service, rotel: Rotel, receiver: Receiver, url: str) -> None:
    given = traces.new()
    task_id = submit(service, url, traceparent=given)
    receiver.wait_for(2, 60)
    arrived(rotel, traces.trace_id(given), 2)
    messages = service.call("GET", f"tasks/{task_id}/webhooks")[1]["results"]
    service.call("POST", f"webhooks/messages/{messages[0]['id']}/replay", {"reason": "a test"})
    receiver.wait_for(3, 60)
    spans = arrived(rotel, traces.trace_id(given), 3)
    by_name = {span.name: span for span in spans}
    attempts = [span for span in spans if span.name == ATTEMPT]
    of = {name: {s.parent_id for s in spans if s.name == name} for name in by_name}
    for name in ("POST /api/v1/tasks/submit", "queue wait", "provider run", ATTEMPT):
        assert of[name] == {traces.span_id(given)}, name
    assert of["probe"] == {by_name["provider run"].id}
    assert of["first byte"] == {span.id for span in attempts}
    assert of["connect"] <= of["first byte"]
    sent = [traces.span_id(request.headers["traceparent"]) for request in receiver.requests]
    assert [span.id for span in attempts] == sent
    codes = [span.attributes["http.response.status_code"] for span in attempts]
    replays = [span.attributes["webhook.is_replay"] for span in attempts]
    assert (codes, replays) == (["500", "200", "200"], ["false", "false", "true"])
    assert attempts[0].status == "STATUS_CODE_ERROR"
    assert {span.attributes["task.id"] for span in attempts} == {task_id}


def _of_its_own(service: Service, rotel: Rotel, receiver: Receiver, url: str) -> None:
    """Without a client's trace the request that submitted the task is the root of its own."""
    before = len(receiver.requests)
    task_id = submit(service, url)
    receiver.wait_for(before + 1, 60)
    traceparent: Any = service.call("GET", f"tasks/{task_id}")[1]["traceparent"]
    spans = arrived(rotel, traces.trace_id(traceparent), 1)
    (root,) = (span for span in spans if not span.parent_id)
    assert (root.name, root.id) == ("POST /api/v1/tasks/submit", traces.span_id(traceparent))
    assert {span.parent_id for span in spans if span.name in (ATTEMPT, "queue wait")} == {root.id}
