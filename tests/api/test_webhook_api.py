"""Messages, attempts and replays over the API: what is shown, what is done, to whom."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from tests.support import factories
from tests.support.factories import PROJECT, make_dead_letter, make_event, make_message, make_task
from webhooks_app.models import OperatorAction, ReplayJob, WebhookMessage
from webhooks_app.operators import replay

pytestmark = pytest.mark.django_db
BASE = "/api/v1/webhooks"
TASK = "7d9f1b0e-6a3c-4a5e-9b70-0f3f6f2f7c11"
NOBODY = "6f1c0b9e-0000-4000-8000-000000000000"


def client(**fields):
    return Client(headers={"x-api-key": factories.make_api_key(**fields)[1]})


def post(api, path, body=None):
    return api.post(f"{BASE}/{path}", body or {}, content_type="application/json")


def ids(answer):
    assert answer.status_code == 200, answer.content
    return [row["id"] for row in answer.json()["results"]]


def advance_all():
    while replay.advance_running_jobs():
        pass


def test_a_message_shows_its_payload_and_every_attempt(api):
    """Proves that one URL shows everything about a dead letter."""
    message = make_dead_letter(attempts=2)
    body = api.get(f"{BASE}/messages/{message.pk}").json()
    assert body["event_id"] == message.event.event_id
    assert (body["status"], body["attempt_count"], body["is_in_flight"]) == ("dead", 2, False)
    assert body["payload"]["task_id"] == message.event.subject
    assert [attempt["attempt_number"] for attempt in body["deliveries"]] == [1, 2]
    attempt = body["deliveries"][0]
    assert (attempt["response_status"], attempt["response_body"]) == (500, "no")
    assert attempt["request_headers"]["webhook-id"] == message.event.event_id
    assert body["created_at"].endswith("Z")


def test_payload_is_shown_with_the_bytes_that_are_sent(api):
    """Proves that the order of keys and the form of numbers survive being shown."""
    raw = b'{"b":1.50,"a":{"z":1e2}}'
    message = make_message(event=make_event(body=raw))
    assert raw in api.get(f"{BASE}/messages/{message.pk}").content


def test_an_attempt_under_way_is_in_flight_and_has_no_next_attempt(api):
    """Proves that a leased message is shown as in flight, not with a due time."""
    end = timezone.now() + timedelta(seconds=30)
    lease = {"lease_token": uuid.uuid4(), "lease_expires_at": end, "next_attempt_at": end}
    message = make_message(**lease)
    body = api.get(f"{BASE}/messages/{message.pk}").json()
    assert (body["is_in_flight"], body["next_attempt_at"]) == (True, None)
    answer = post(api, f"messages/{message.pk}/replay")
    assert (answer.status_code, answer.json()["code"]) == (409, "in_flight")


def test_every_filter_of_the_lists_narrows(api):
    """Proves each filter of messages and deliveries by one row in and one row out."""
    other = make_message("delivered", url="https://other.example.org/")
    factories.make_delivery(other, "succeeded")
    event = make_event("task.failed", scope="wanted", subject=TASK)
    old = timezone.now() - timedelta(hours=2)
    wanted = make_message("dead", event=event, created_at=old, last_error_code="timeout")
    attempt = factories.make_delivery(wanted, "failed", error_code="timeout", started_at=old)
    middle = (timezone.now() - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    for query in (
        "project_id=wanted",
        f"task_id={TASK}",
        "event_type=task.failed",
        "host=Receiver.example.org",
        "error_code=timeout",
        "status_code=500",
        f"until={middle}",
    ):
        assert ids(api.get(f"{BASE}/messages?{query}")) == [wanted.pk], query
        assert ids(api.get(f"{BASE}/deliveries?{query}")) == [attempt.pk], query
    assert ids(api.get(f"{BASE}/messages?status=dead")) == [wanted.pk]
    assert ids(api.get(f"{BASE}/deliveries?outcome=failed")) == [attempt.pk]
    assert ids(api.get(f"{BASE}/deliveries?message_id={wanted.pk}")) == [attempt.pk]
    assert ids(api.get(f"{BASE}/messages?since={middle}")) == [other.pk]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("status=deed", "status"),
        ("stauts=dead", "stauts"),
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=1000000", "limit"),
        ("limit=5.0", "limit"),
        ("cursor=abc", "cursor"),
        ("cursor=%00", "cursor"),
        ("host=%00", "host"),
        ("since=yesterday", "since"),
        ("since=0001-01-01T00:00:00%2B14:00", "since"),
        ("status_code=20", "status_code"),
        ("limit=5&limit=6", "limit"),
        ("project_id=a%20b", "project_id"),
    ],
)
def test_a_wrong_parameter_is_named(api, query, parameter):
    """Proves that a misspelt or impossible filter is a 422, never a list of everything."""
    answer = api.get(f"{BASE}/messages?{query}")
    assert answer.status_code == 422, answer.content
    assert [error["parameter"] for error in answer.json()["errors"]] == [parameter]


def test_pages_are_stable_while_messages_arrive(api, forget_keys, django_assert_num_queries):
    """Proves that paging shows each message once, and that a page is a fixed number of queries."""
    messages = [make_message() for _ in range(5)]
    first = api.get(f"{BASE}/messages?limit=2").json()
    make_message()
    second = api.get(first["next"].removeprefix("http://localhost:8001")).json()
    third = api.get(f"{BASE}/messages?limit=2&cursor={second['next_cursor']}").json()
    seen = [row["id"] for page in (first, second, third) for row in page["results"]]
    assert seen == [message.pk for message in reversed(messages)]
    assert third["next_cursor"] is None
    forget_keys()
    with django_assert_num_queries(2):  # the key, the page
        api.get(f"{BASE}/messages?limit=100")
    forget_keys()
    with django_assert_num_queries(2):
        api.get(f"{BASE}/deliveries?limit=100")


def test_the_webhooks_of_a_task(api):
    """Proves that a task lists its messages with attempts, and an unknown one is a 404."""
    task = make_task("failed")
    event = make_event("task.failed", subject=str(task.pk))
    message = make_dead_letter(event=event, attempts=1)
    make_dead_letter()
    (row,) = api.get(f"/api/v1/tasks/{task.pk}/webhooks").json()["results"]
    assert (row["id"], len(row["deliveries"])) == (message.pk, 1)
    assert api.get(f"/api/v1/tasks/{make_task().pk}/webhooks").json()["results"] == []
    assert api.get(f"/api/v1/tasks/{uuid.uuid4()}/webhooks").status_code == 404


def test_replaying_one_message_makes_it_due_and_says_how_it_goes(api):
    """Proves that one POST replays a delivered message and returns its progress."""
    message = make_message("delivered")
    answer = post(api, f"messages/{message.pk}/replay", {"reason": "they lost it"})
    assert answer.status_code == 202, answer.content
    message.refresh_from_db()
    assert message.status == "pending"
    job = api.get(answer["Location"]).json()
    assert job["progress"]["started"] == 1
    assert job["reason"] == "they lost it"
    assert job["requested_by"].startswith("key ")
    assert OperatorAction.objects.get().reason == "they lost it"


def test_replaying_to_another_url_is_judged_and_keeps_the_original(api):
    """Proves that the override is a new message, and that the egress policy applies to it."""
    message = make_message("dead")
    path = f"messages/{message.pk}/replay"
    for url in ("https://10.0.0.7/", "nonsense", "https://user@a.example.org/"):
        answer = post(api, path, {"callback_url": url, "reason": "they moved"})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == "/callback_url"
    there = {"callback_url": "https://backup.example.org/"}
    refused = post(api, path, there)
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/reason")
    assert post(api, path, {**there, "reason": "they moved"}).status_code == 202
    copy = WebhookMessage.objects.filter(status="pending").get()
    assert copy.url.startswith("https://backup")
    shown = api.get(f"{BASE}/messages/{message.pk}").json()
    assert (shown["status"], shown["replayed_as"], shown["replay_of"]) == ("replayed", copy.pk, [])
    assert api.get(f"{BASE}/messages/{copy.pk}").json()["replay_of"] == [message.pk]
    listed = api.get(f"{BASE}/messages").json()["results"]
    assert [(row["replayed_as"], row["replay_of"]) for row in listed] == [
        (None, [message.pk]),
        (copy.pk, []),
    ]


def test_a_key_with_a_host_list_may_not_replay_elsewhere():
    """Proves that neither replays nor endpoints bypass a key's list of hosts."""
    api = client(callback_hosts=["a.example.org"])
    message = make_message("dead")
    body = {"callback_url": "https://b.example.org/", "reason": "they moved"}
    assert post(api, f"messages/{message.pk}/replay", body).status_code == 422
    assert post(api, "replays", body).status_code == 422
    subscription = {"url": body["callback_url"], "project_id": "p"}
    assert post(api, "endpoints", subscription).status_code == 422
    own = post(api, "endpoints", {**subscription, "url": "https://a.example.org/"})
    assert own.status_code == 201
    for change in (api.patch, api.put):
        answer = change(
            f"{BASE}/endpoints/{own.json()['id']}",
            {"url": body["callback_url"]},
            content_type="application/json",
        )
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/url")


def test_a_bulk_replay_counts_then_runs_then_tells(api):
    """Proves dry run, start, progress and the record of a replay by filter."""
    dead = [make_message("dead") for _ in range(3)]
    make_message("delivered")
    make_message("dead", url="https://other.example.org/")
    body = {"filter": {"host": "receiver.example.org"}, "reason": "outage"}
    seen = post(api, "replays", {**body, "dry_run": True}).json()
    assert (seen["count"], seen["is_exact"]) == (3, True)
    assert [row["id"] for row in seen["sample"]] == [message.pk for message in dead]
    assert not ReplayJob.objects.exists()
    answer = post(api, "replays", body)
    assert answer.status_code == 202, answer.content
    advance_all()
    job = api.get(answer["Location"]).json()
    assert job["state"] == "finished"
    assert job["progress"] | {"pending": 3, "delivered": 0} == job["progress"]
    assert job["filter"] == {"host": "receiver.example.org", "status": "dead"}
    assert WebhookMessage.objects.filter(status="pending").count() == 3


def test_a_bulk_replay_can_be_cancelled_once(api):
    """Proves both ways to cancel, and 409 with the state afterwards."""
    make_message("dead")
    for cancel in (
        lambda job: api.delete(f"{BASE}/replays/{job}"),
        lambda job: post(api, f"replays/{job}/cancel"),
    ):
        job = post(api, "replays", {"rate": 1}).json()["id"]
        answer = cancel(job)
        assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
        answer = cancel(job)
        assert (answer.status_code, answer.json()["state"]) == (409, "cancelled")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"rate": 0}, "/rate"),
        ({"rate": "5"}, "/rate"),
        ({"rat": 5}, "/rat"),
        ({"filter": {"status": "deed"}}, "/filter/status"),
        ({"filter": {"sattus": "dead"}}, "/filter/sattus"),
        ({"filter": {"ids": ["1"]}}, "/filter/ids/0"),
        ({"filter": {"ids": [2**70]}}, "/filter/ids/0"),
        ({"filter": {"since": "yesterday"}}, "/filter/since"),
        ({"filter": []}, "/filter"),
        ({"dry_run": "yes"}, "/dry_run"),
        ({"reason": 5}, "/reason"),
    ],
)
def test_a_wrong_bulk_replay_is_refused_with_a_pointer(api, body, pointer):
    """Proves that every member of the request is checked, and a fault starts nothing."""
    answer = post(api, "replays", body)
    assert answer.status_code in (400, 422), answer.content
    if answer.status_code == 422:
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert not ReplayJob.objects.exists()


def test_another_projects_objects_are_absent():
    """Proves that another project's id is answered exactly like an absent one, on every route."""
    mine, message = client(project_id="mine"), make_dead_letter()
    job = factories.make_replay(scope=PROJECT)
    endpoint = factories.make_endpoint()
    task = make_task()
    for method, path, absent in (
        ("get", f"{BASE}/messages/{message.pk}", f"{BASE}/messages/999999999"),
        ("post", f"{BASE}/messages/{message.pk}/replay", f"{BASE}/messages/999999999/replay"),
        ("get", f"{BASE}/replays/{job.pk}", f"{BASE}/replays/{uuid.uuid4()}"),
        ("delete", f"{BASE}/replays/{job.pk}", f"{BASE}/replays/{uuid.uuid4()}"),
        ("post", f"{BASE}/replays/{job.pk}/cancel", f"{BASE}/replays/x/cancel"),
        ("get", f"{BASE}/endpoints/{endpoint.pk}", f"{BASE}/endpoints/{uuid.uuid4()}"),
        ("patch", f"{BASE}/endpoints/{endpoint.pk}", f"{BASE}/endpoints/nonsense"),
        ("put", f"{BASE}/endpoints/{endpoint.pk}", f"{BASE}/endpoints/nonsense"),
        ("delete", f"{BASE}/endpoints/{endpoint.pk}", f"{BASE}/endpoints/nonsense"),
        ("post", f"{BASE}/endpoints/{endpoint.pk}/ping", f"{BASE}/endpoints/nonsense/ping"),
        ("get", f"/api/v1/tasks/{task.pk}/webhooks", f"/api/v1/tasks/{uuid.uuid4()}/webhooks"),
    ):
        answers = []
        for address in (path, absent):
            answer = getattr(mine, method)(address, content_type="application/json")
            body = answer.json()
            answers.append((answer.status_code, {**body, "instance": "", "request_id": ""}))
        assert answers[0] == answers[1], path
        assert answers[0][0] == 404, path
    for path in ("messages", "deliveries", "endpoints", "events"):
        assert ids(mine.get(f"{BASE}/{path}")) == []
    assert ids(mine.get(f"{BASE}/messages?project_id={PROJECT}")) == []
    assert post(mine, "replays", {"dry_run": True}).json()["count"] == 0
    assert mine.get(f"{BASE}/signing-secret?project_id={PROJECT}").status_code == 404
    assert post(mine, "signing-secret/rotate", {"project_id": PROJECT}).status_code == 404
    assert post(mine, "events/ack", {"ids": [message.event.event_id]}).json() == {
        "acknowledged": 0,
        "cancelled_messages": 0,
    }


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("post", "messages/1/replay"),
        ("post", "replays"),
        ("delete", f"replays/{NOBODY}"),
        ("post", f"replays/{NOBODY}/cancel"),
        ("post", "endpoints"),
        ("patch", f"endpoints/{NOBODY}"),
        ("put", f"endpoints/{NOBODY}"),
        ("delete", f"endpoints/{NOBODY}"),
        ("post", f"endpoints/{NOBODY}/ping"),
        ("get", "signing-secret"),
        ("post", "signing-secret/rotate"),
    ],
)
def test_operators_work_needs_the_admin_scope(method, path):
    """Proves that a key that may read and submit can neither replay nor see a secret."""
    api = client(scopes=["read", "submit"])
    answer = getattr(api, method)(f"{BASE}/{path}", content_type="application/json")
    assert (answer.status_code, answer.json()["code"]) == (403, "missing_scope")
    nobody = getattr(Client(), method)(f"{BASE}/{path}", content_type="application/json")
    assert nobody.status_code == 401


def test_reading_needs_read_and_acknowledging_submit():
    """Proves the scopes of the routes that are not an operator's."""
    reader, submitter = client(scopes=["read"]), client(scopes=["submit"])
    for path in ("messages", "deliveries", "endpoints", "events"):
        assert reader.get(f"{BASE}/{path}").status_code == 200
        assert submitter.get(f"{BASE}/{path}").status_code == 403
    assert post(reader, "events/ack", {"ids": ["msg_1"]}).status_code == 403
    assert post(submitter, "events/ack", {"ids": ["msg_1"]}).status_code == 200
