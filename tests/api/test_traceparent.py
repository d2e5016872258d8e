"""Does a task belong to its client's trace, wherever it is shown, logged or sent?"""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client

from tasks_app.models import Task
from tasks_app.work import run
from tests.support.factories import make_api_key
from tests.support.receiver import Receiver
from tests.support.running import running_engine
from tests.support.waiting import wait_until
from webhooks_app.models import WebhookDelivery, WebhookEvent

TRACE = "0af7651916cd43dd8448eb211c80319c"
GIVEN = f"00-{TRACE}-b7ad6b7169203331-01"
FORM = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01")
IMAGE: dict[str, Any] = {
    "project_id": "p",
    "task_type": "image_generation",
    "task_data": {"prompt": "a lamp"},
}


@pytest.fixture
def api() -> Client:
    return Client(headers={"X-API-Key": make_api_key()[1]})


def submit(api: Client, header: str | None, **more: Any) -> str:
    """Submit a task with this header; return its id."""
    headers = {} if header is None else {"traceparent": header}
    answer = api.post(
        "/api/v1/tasks/submit", {**IMAGE, **more}, "application/json", headers=headers
    )
    assert answer.status_code == 201, answer.content
    return str(answer.json()["task_id"])


def shown(api: Client, task_id: str) -> Any:
    return api.get(f"/api/v1/tasks/{task_id}").json()


@pytest.mark.django_db
def test_the_clients_trace_is_taken_and_anything_else_begins_one(api: Client) -> None:
    """A malformed header is never an error; a retry belongs to the trace of its own request."""
    task_id = submit(api, GIVEN)
    assert shown(api, task_id)["traceparent"] == GIVEN
    made = {
        shown(api, submit(api, header))["traceparent"] for header in (None, "", "x", GIVEN + "1")
    }
    assert len(made) == 4
    assert all(FORM.fullmatch(each) and TRACE not in each for each in made)
    api.delete(f"/api/v1/tasks/{task_id}")
    other = GIVEN.replace("0af", "1bf")
    ways: list[dict[str, str]] = [{}, {"traceparent": other}]
    retries = [api.post(f"/api/v1/tasks/{task_id}/retry", headers=way).json() for way in ways]
    new, given = (shown(api, retry["task_id"])["traceparent"] for retry in retries)
    assert FORM.fullmatch(new)
    assert TRACE not in new
    assert given == other


@pytest.mark.django_db(transaction=True)
def test_one_trace_from_the_request_to_the_last_attempt(
    api: Client, settings: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    """Log lines of web, worker and engine, the receipt, and each attempt name the same trace."""
    settings.GENERATION_PROVIDERS = {IMAGE["task_type"]: "tests.support.providers.StillProvider"}
    with Receiver([500, 200]) as receiver:
        task_id = submit(api, GIVEN, callback_url=receiver.url, retry_policy=[0.05])
        run.run_next("image_generation")
        task = Task.objects.get(pk=task_id)
        assert (task.status, task.result["traceparent"]) == ("completed", GIVEN)
        with running_engine():
            receiver.wait_for(2)
            wait_until(lambda: not WebhookDelivery.objects.filter(outcome="pending").exists())
    assert WebhookEvent.objects.get().traceparent == GIVEN
    sent = [request.headers["traceparent"] for request in receiver.requests]
    assert [each[:36] for each in sent] == [GIVEN[:36]] * 2
    assert len({GIVEN, *sent}) == 3, "each attempt is a span of its own"
    stored = WebhookDelivery.objects.order_by("id").values_list("request_headers", flat=True)
    assert [headers["traceparent"] for headers in stored] == sent
    lines = [line for line in capfd.readouterr().err.splitlines() if task_id in line]
    texts = (
        *("Task submitted", "Task started", "Task ended"),
        *("Webhook request failed", "Webhook sent successfully"),
    )
    for text in texts:
        assert any(text in line for line in lines), text
    assert [line for line in lines if f"trace_id={TRACE}" not in line] == []
