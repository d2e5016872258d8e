"""Can a client name what it means in every form, and is it told what no form can mean?"""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.test import Client

from tasks_app.models import Task
from tasks_app.state import lifecycle
from tests.support import factories
from tests.support.factories import make_delivery, make_event, make_message
from tests.support.routes import client_of
from webhooks_app.models import ReplayJob
from webhooks_app.operators import record

pytestmark = pytest.mark.django_db
BASE = "/api/v1/webhooks"
TASK = "7d9f1b0e-6a3c-4a5e-9b70-0f3f6f2f7c11"
EVENT = "msg_2f1c0d3b4a59687786a5b4c3d2e1f001"


def ids(api: Client, path: str) -> list[Any]:
    answer = api.get(f"/api/v1/{path}")
    assert answer.status_code == 200, (path, answer.content)
    return [row.get("id") or row["task_id"] for row in answer.json()["results"]]


def problem(api: Client, path: str) -> dict[str, Any]:
    answer = api.get(f"/api/v1/{path}")
    assert answer.status_code == 422, (path, answer.content)
    return answer.json()["errors"][0]


@pytest.fixture
def wanted() -> Any:
    """One message with everything to be found by, among another."""
    make_delivery(make_message("delivered", url="https://other.example.org/"))
    found_by = {"request_id": "order-4711", "metadata": {"userId": "42", "run": "a=b"}}
    event = make_event("task.failed", subject=TASK, event_id=EVENT, **found_by)
    return make_message("dead", event=event, url="https://hooks.example.org:8443/in")


@pytest.mark.parametrize(
    "query",
    [
        *(f"task_id={TASK}", f"task_id={TASK[:6]}", f"task_id={TASK.replace('-', '')}"),
        *("host=hooks.example.org", "host=HOOKS.example.org:8443"),
        *("host=https://hooks.example.org:8443", "host=https://hooks.example.org:8443/in?a=b"),
        *("request_id=order-4711", "metadata=userId=42", "metadata=run=a=b"),
    ],
)
def test_lists_take_every_form_of_what_is_meant(api: Client, wanted: Any, query: str) -> None:
    """Proves each form on messages and attempts, with the other row left out."""
    attempt = make_delivery(wanted, "failed")
    assert ids(api, f"webhooks/messages?{query}") == [wanted.pk]
    assert ids(api, f"webhooks/deliveries?{query}") == [attempt.pk]
    name, _, value = query.partition("=")
    bulk = {"filter": {name: value}, "dry_run": True}
    seen = api.post(f"{BASE}/replays", bulk, "application/json").json()
    assert [row["id"] for row in seen["sample"]] == [wanted.pk]


@pytest.mark.parametrize(
    ("path", "parameter", "said"),
    [
        ("webhooks/messages?event_type=task.done", "event_type", "task.completed"),
        ("webhooks/messages?error_code=nonsense", "error_code", "http_status"),
        ("webhooks/messages?status=deed", "status", '"dead"'),
        ("webhooks/messages?task_id=nonsense", "task_id", "first 4 digits"),
        ("webhooks/messages?host=exa%20mple", "host", "host:port"),
        ("webhooks/messages?host=a..b", "host", "host:port"),
        ("webhooks/messages?metadata=userId", "metadata", "userId=42"),
        ("webhooks/messages?request_id=a%20b", "request_id", "X-Request-ID"),
        ("webhooks/deliveries?event_type=task.done", "event_type", "task.completed"),
        ("webhooks/deliveries?message_id=msg_!", "message_id", "webhook-id"),
        ("webhooks/events?event_type=task.done", "event_type", "task.completed"),
        ("webhooks/operator-actions?action=replay.begin", "action", "replay.start"),
        ("tasks?host=a..b", "host", "host:port"),
        ("tasks?metadata=userId", "metadata", "userId=42"),
        ("tasks?status=done", "status", "completed"),
    ],
)
def test_what_cannot_match_is_422_with_what_can(
    api: Client, path: str, parameter: str, said: str
) -> None:
    """Proves that no filter answers an impossible value with an empty list."""
    error = problem(api, path)
    assert error["parameter"] == parameter
    assert said in error["message"]


def test_a_webhook_id_names_a_message_wherever_a_number_does(api: Client, wanted: Any) -> None:
    """Proves msg_... and its beginning in the address, in filters and in a bulk replay."""
    attempt = make_delivery(wanted, "failed")
    for name in (EVENT, EVENT[:12], str(wanted.pk)):
        assert api.get(f"{BASE}/messages/{name}").json()["id"] == wanted.pk
        assert ids(api, f"webhooks/deliveries?message_id={name}") == [attempt.pk]
    bulk = {"filter": {"ids": [EVENT]}, "dry_run": True}
    assert api.post(f"{BASE}/replays", bulk, "application/json").json()["count"] == 1
    answer = api.post(f"{BASE}/messages/{EVENT}/replay", {}, "application/json")
    assert answer.status_code == 202
    assert ReplayJob.objects.get().filters["ids"] == [wanted.pk]
    assert api.get(f"{BASE}/messages/msg_absent").status_code == 404
    assert api.get(f"{BASE}/messages/msg_").status_code == 404
    assert client_of(project_id="another").get(f"{BASE}/messages/{EVENT}").status_code == 404


def test_one_webhook_id_of_several_messages_lists_them(api: Client, wanted: Any) -> None:
    """Proves the 409 of GET and replay with ids and safe URLs, and that nothing is sent."""
    url = "https://hooks.example.org/more?token=CANARY"
    more = make_message("delivered", event=wanted.event, url=url)
    for answer in (
        api.get(f"{BASE}/messages/{EVENT}"),
        api.post(f"{BASE}/messages/{EVENT}/replay", {}, "application/json"),
    ):
        body = answer.json()
        assert (answer.status_code, body["code"]) == (409, "several_messages")
        assert [row["id"] for row in body["messages"]] == [wanted.pk, more.pk]
        assert body["messages"][0]["url"] == "https://hooks.example.org:8443/in"
        assert b"CANARY" not in answer.content
    assert not ReplayJob.objects.exists()
    assert ids(api, f"webhooks/messages?task_id={TASK}") == [more.pk, wanted.pk]


def submit(api: Client, **fields: Any) -> str:
    body = {**factories.SEED_REQUEST, **fields}
    answer = api.post("/api/v1/tasks/submit", body, "application/json")
    assert answer.status_code == 201, answer.content
    return str(answer.json()["task_id"])


def test_tasks_are_found_by_metadata_callback_and_request(api: Client) -> None:
    """Proves the filters of tasks' lists on submitted tasks, and that their messages have them."""
    url = "https://Hooks.example.org/in"
    metadata = {"userId": 42, "is_new": True, "deep": {"userId": 43}, "none": None}
    one = submit(api, callback_url=url, metadata=metadata)
    two = submit(api, callback_url="https://hooks.example.org:8443/", metadata={"userId": "43"})
    submit(api, callback_url="https://other.example.org/", metadata={"user": "42"})
    request_id = Task.objects.get(pk=one).request_id
    for query, found in {
        "metadata=userId=42": [one],
        "metadata=is_new=true": [one],
        "metadata=userId=43": [two],
        "metadata=deep=x": [],
        "host=hooks.example.org": [two, one],
        "host=hooks.example.org:443": [one],
        "host=https://hooks.example.org:8443/x": [two],
        "host=http://hooks.example.org": [],
        f"request_id={request_id}": [one],
    }.items():
        for path in ("tasks", f"projects/{factories.PROJECT}/tasks"):
            assert sorted(ids(api, f"{path}?{query}")) == sorted(found), query
    lifecycle.cancel(uuid.UUID(one))
    for query in ("metadata=userId=42", f"request_id={request_id}", f"task_id={one[:8]}"):
        rows = api.get(f"{BASE}/messages?{query}").json()["results"]
        assert [row["task_id"] for row in rows] == [one], query


def test_the_record_is_read_by_actor_action_target_and_time(api: Client, wanted: Any) -> None:
    """Proves each filter of the operators' record, and that a project sees only its own."""
    scope = wanted.event.scope
    first = record.note("mara", "destination.pause", "https://hooks.example.org:8443 (x)", "why")
    second = record.note("key AbCd", "replay.start", f"message {wanted.pk}", scope=scope)
    third = record.note("command root", "prune", "3 messages", "full", scope="another")
    for query, found in {
        "": [third, second, first],
        "actor=key": [second],
        "action=prune": [third],
        "target=https://hooks": [first],
        "target=hooks.example.org": [first],
        f"target={EVENT}": [second],
        f"target={TASK[:8]}": [second],
        f"target={wanted.pk}": [second],
        "target=metadata=userId=42": [second],
        f"project_id={scope}": [second],
        "since=2999-01-01T00:00:00Z": [],
        "until=2000-01-01T00:00:00Z": [],
    }.items():
        assert ids(api, f"webhooks/operator-actions?{query}") == [r.pk for r in found], query
    row = api.get(f"{BASE}/operator-actions?action=destination.pause").json()["results"][0]
    assert (row["actor"], row["reason"], row["project_id"]) == ("mara", "why", None)
    bound = client_of(project_id=scope)
    assert ids(bound, "webhooks/operator-actions") == [second.pk]
    assert ids(bound, "webhooks/operator-actions?project_id=another") == []
    answer = client_of(scopes=["read", "submit"]).get(f"{BASE}/operator-actions")
    assert (answer.status_code, answer.json()["code"]) == (403, "missing_scope")
