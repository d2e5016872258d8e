"""Subscriptions, secrets, the pull feed and the public keys over the API."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from django.test import Client, override_settings
from django.utils import timezone

from tests.support import factories
from tests.support.factories import PROJECT, make_event, make_message
from webhooks_app import metrics, outbox
from webhooks_app.models import OperatorAction, WebhookMessage
from webhooks_app.signing import scheme, store

pytestmark = pytest.mark.django_db
BASE = "/api/v1/webhooks"
JSON = {"content_type": "application/json"}
URL = "https://hooks.example.org/all"


@pytest.fixture
def mine():
    """A client whose key is bound to the project."""
    return Client(headers={"x-api-key": factories.make_api_key(project_id=PROJECT)[1]})


def create(client, **body):
    return client.post(f"{BASE}/endpoints", {"url": URL, **body}, **JSON)


def test_an_endpoint_is_made_shown_changed_tried_and_deleted(mine):
    """Proves the life of a subscription over the API, with its secret shown when it is made."""
    answer = create(mine, event_types=["task.completed"], retry_policy=[1, 2])
    assert answer.status_code == 201, answer.content
    made = answer.json()
    assert made["secret"] == store.current_secrets(PROJECT, uuid.UUID(made["id"]))[0]
    path = answer["Location"]
    assert "secret" not in mine.get(path).json()
    assert mine.get(f"{BASE}/endpoints").json()["results"] == [mine.get(path).json()]
    changed = mine.patch(path, {"is_enabled": False, "description": "later"}, **JSON).json()
    assert (changed["is_enabled"], changed["event_types"]) == (False, ["task.completed"])
    replaced = mine.put(path, {"url": URL + "2"}, **JSON).json()
    assert (replaced["url"], replaced["event_types"], replaced["is_enabled"]) == (
        URL + "2",
        [],
        True,
    )
    ping = mine.post(f"{path}/ping", **JSON)
    assert (ping.status_code, ping.json()["event_type"]) == (202, "webhook.ping")
    assert mine.get(ping["Location"]).json()["payload"]["endpoint_id"] == made["id"]
    assert mine.delete(path).status_code == 204
    assert mine.get(path).status_code == 404
    assert OperatorAction.objects.count() == 5


def test_what_an_endpoint_may_not_be(mine):
    """Proves that each wrong member is refused with its pointer, all at once."""
    body = {
        "event_types": ["task.complete"],
        "retry_policy": "sometimes",
        "is_enabled": 1,
        "descripton": "x",
        "url": "https://127.0.0.1:99999/",
    }
    answer = create(mine, **body)
    assert answer.status_code == 422
    assert sorted(error["pointer"] for error in answer.json()["errors"]) == [
        "/descripton",
        "/event_types/0",
        "/is_enabled",
        "/retry_policy",
        "/url",
    ]
    assert create(mine).status_code == 201
    again = create(mine)
    assert (again.status_code, again.json()["code"]) == (409, "endpoint_exists")
    assert create(mine, project_id="another").status_code == 404


def test_a_key_bound_to_no_project_must_name_one(api):
    """Proves that a key for all projects must name the project."""
    assert create(api).status_code == 422
    assert create(api, project_id="another").json()["project_id"] == "another"
    answer = api.get(f"{BASE}/signing-secret")
    assert answer.json()["errors"][0]["parameter"] == "project_id"
    assert api.get(f"{BASE}/signing-secret?project_id=another").status_code == 200


def test_the_signing_secret_is_made_shown_and_rotated(mine):
    """Proves the shape of the answer, the overlap, and that nothing caches a secret."""
    answer = mine.get(f"{BASE}/signing-secret")
    first = answer.json()
    assert answer["Cache-Control"] == "no-store"
    assert first == {"project_id": PROJECT, "secret": first["secret"], "previous": []}
    second = mine.post(f"{BASE}/signing-secret/rotate", **JSON).json()
    assert second["secret"] != first["secret"]
    (previous,) = second["previous"]
    assert previous["secret"] == first["secret"]
    left = timezone.datetime.fromisoformat(previous["expires_at"]) - timezone.now()
    assert timedelta(hours=23, minutes=59) < left < timedelta(hours=24, minutes=1)
    assert store.current_secrets(PROJECT) == [second["secret"], first["secret"]]
    body = {"overlap_seconds": 0}
    third = mine.post(f"{BASE}/signing-secret/rotate", body, **JSON).json()
    assert third["previous"] == []
    assert first["secret"] not in str(OperatorAction.objects.values())


def test_an_endpoint_has_a_secret_of_its_own(mine):
    """Proves that endpoint_id shows and rotates only that endpoint's secret."""
    made = create(mine).json()
    project = mine.get(f"{BASE}/signing-secret").json()["secret"]
    query = f"{BASE}/signing-secret?endpoint_id={made['id']}"
    assert mine.get(query).json()["secret"] == made["secret"] != project
    mine.post(f"{BASE}/signing-secret/rotate", {"endpoint_id": made["id"]}, **JSON)
    assert mine.get(query).json()["secret"] != made["secret"]
    assert mine.get(f"{BASE}/signing-secret").json()["secret"] == project
    assert mine.get(f"{BASE}/signing-secret?endpoint_id={uuid.uuid4()}").status_code == 404


def test_the_feed_gives_unacknowledged_events_oldest_first(mine):
    """Proves that the feed needs no callback_url, and that acknowledged events leave it."""
    events = [make_event() for _ in range(3)]
    make_event(scope="another")
    feed = mine.get(f"{BASE}/events?limit=2").json()
    assert [row["id"] for row in feed["results"]] == [event.event_id for event in events[:2]]
    assert feed["results"][0]["payload"]["task_id"] == events[0].subject
    rest = mine.get(f"{BASE}/events?limit=2&cursor={feed['next_cursor']}").json()
    assert [row["id"] for row in rest["results"]] == [events[2].event_id]
    assert rest["next_cursor"] is None
    body = {"ids": [events[0].event_id, events[2].event_id, "msg_unknown"]}
    assert mine.post(f"{BASE}/events/ack", body, **JSON).json()["acknowledged"] == 2
    assert mine.post(f"{BASE}/events/ack", body, **JSON).json()["acknowledged"] == 0
    left = mine.get(f"{BASE}/events").json()["results"]
    assert [row["id"] for row in left] == [events[1].event_id]


def test_acknowledging_ends_what_is_pending_for_the_event(mine):
    """Proves that acknowledged events are not delivered any more, even if in flight."""
    event = make_event()
    end = timezone.now() + timedelta(seconds=30)
    token = uuid.uuid4()
    waiting = make_message(event=event)
    leased = make_message(
        event=event, url=URL, lease_token=token, lease_expires_at=end, next_attempt_at=end
    )
    delivered = make_message("delivered", event=event, url=URL + "2")
    bystander = make_message()
    answer = mine.post(f"{BASE}/events/ack", {"ids": [event.event_id]}, **JSON)
    assert answer.json() == {"acknowledged": 1, "cancelled_messages": 2}
    for message in (waiting, leased, delivered, bystander):
        message.refresh_from_db()
    assert (waiting.status, waiting.next_attempt_at) == ("cancelled", None)
    assert (leased.status, leased.lease_token) == ("cancelled", token)
    assert (delivered.status, bystander.status) == ("delivered", "pending")
    assert WebhookMessage.objects.filter(finished_at=None).get() == bystander


@pytest.mark.parametrize("body", [{}, {"ids": []}, {"ids": "msg_1"}, {"ids": [1]}, {"id": "x"}])
def test_a_wrong_acknowledgement_is_refused(mine, body):
    """Proves that an acknowledgement that names nothing is an error, not a success."""
    assert mine.post(f"{BASE}/events/ack", body, **JSON).status_code == 422


def test_endpoints_are_listed_page_by_page(mine):
    """Proves that a list sorted by time continues after its cursor."""
    made = {str(factories.make_endpoint(f"{URL}/{number}").pk) for number in range(5)}
    first = mine.get(f"{BASE}/endpoints?limit=3").json()
    second = mine.get(first["next"]).json()
    assert {row["id"] for row in first["results"] + second["results"]} == made
    assert (len(first["results"]), second["next"]) == (3, None)


def test_public_keys_are_public():
    """Proves that v1a signatures can be verified with the published key, without an API key."""
    anybody, path = Client(), "/.well-known/webhooks-jwks.json"
    assert anybody.get(path).json() == {"keys": []}
    key = scheme.generate_private_key()
    with override_settings(WEBHOOKS={"ED25519_PRIVATE_KEY": key}):
        (published,) = anybody.get(path).json()["keys"]
    assert (published["kty"], published["crv"]) == ("OKP", "Ed25519")
    assert "d" not in published


ONLY_MINE = {"all": [{"path": "/metadata/userId", "op": "eq", "value": "user-1"}]}


def test_an_endpoint_has_a_filter_and_an_order(mine):
    """Proves that both are stored, shown, changed, and defaults again after a PUT."""
    made = create(mine, filter=ONLY_MINE, ordered=True)
    assert made.status_code == 201, made.content
    assert (made.json()["filter"], made.json()["ordered"]) == (ONLY_MINE, True)
    path = made["Location"]
    changed = mine.patch(path, {"filter": {"not": ONLY_MINE}}, **JSON).json()
    assert (changed["filter"], changed["ordered"]) == ({"not": ONLY_MINE}, True)
    assert mine.patch(path, {"filter": None}, **JSON).json()["filter"] is None
    mine.patch(path, {"filter": ONLY_MINE}, **JSON)
    replaced = mine.put(path, {"url": URL}, **JSON).json()
    assert (replaced["filter"], replaced["ordered"]) == (None, False)


def test_faults_of_a_filter_are_told_at_their_places(mine):
    """Proves that every fault has a pointer into the request, and nothing is stored."""
    conditions = [
        {"path": "metadata/userId", "op": "eq", "value": 1},
        {"path": "/a", "op": "equals", "value": 1},
        {"any": [{"path": "/a", "op": "in", "value": [1, {}]}]},
        {"path": "/a", "op": "eq", "value": 1, "vlaue": 2},
        "user-1",
    ]
    answer = create(mine, filter={"all": conditions}, ordered="yes")
    assert answer.status_code == 422
    assert {error["pointer"]: error["code"] for error in answer.json()["errors"]} == {
        "/filter/all/0/path": "bad_format",
        "/filter/all/1/op": "not_allowed",
        "/filter/all/2/any/0/value/1": "bad_type",
        "/filter/all/3/vlaue": "unknown_field",
        "/filter/all/4": "bad_type",
        "/ordered": "bad_type",
    }
    many = create(mine, filter={"all": [conditions[0]] * 21}).json()["errors"]
    assert [(error["pointer"], error["code"]) for error in many] == [("/filter", "too_long")]


def test_a_dry_run_says_what_would_be_sent_and_why(mine):
    """Proves the verdicts on an event, a task and a body, also by a filter that is not stored."""
    made = create(mine, filter=ONLY_MINE, event_types=["task.failed"]).json()
    address = f"{BASE}/endpoints/{made['id']}/dry-run"

    def ask(**body):
        answer = mine.post(address, body, **JSON)
        assert answer.status_code == 200, answer.content
        return answer.json()["results"]

    told = b'{"metadata": {"userId": "user-%d"}}'
    first = make_event("task.failed", body=told % 1, subject="t")
    second = make_event("task.completed", body=told % 1, subject="t", is_terminal=False)
    (result,) = ask(event_id=first.event_id)
    assert (result["would_send"], result["event_type"]) == (True, "task.failed")
    assert result["conditions"] == [
        {
            "pointer": "/all/0",
            "path": "/metadata/userId",
            "op": "eq",
            "value": "user-1",
            "seen": "user-1",
            "seen_type": "string",
            "holds": True,
            "decided": True,
        }
    ]
    assert [(r["event_id"], r["would_send"]) for r in ask(task_id="t")] == [
        (first.event_id, True),
        (second.event_id, False),
    ]
    (result,) = ask(body={"metadata": {"userId": 1}}, event_type="task.failed")
    assert not result["would_send"]
    assert result["reason"] == 'Not sent: /metadata/userId is 1 (not eq "user-1").'
    assert result["conditions"][0]["seen_type"] == "number"
    not_there = {"path": "/a/0", "op": "exists", "value": False}
    assert ask(body={"a": []}, filter=not_there)[0]["would_send"]
    assert ask(event_id=first.event_id, filter=None)[0]["reason"].startswith("Sent")
    mine.patch(f"{BASE}/endpoints/{made['id']}", {"is_enabled": False}, **JSON)
    assert not ask(event_id=first.event_id)[0]["would_send"]
    assert not WebhookMessage.objects.exists()


def test_what_a_dry_run_refuses(mine):
    """Proves that it asks for exactly one thing, and only for what the project has."""
    made = create(mine).json()
    address = f"{BASE}/endpoints/{made['id']}/dry-run"
    other = make_event(scope="another")

    def pointers(**body):
        answer = mine.post(address, body, **JSON)
        assert answer.status_code == 422, answer.content
        return sorted(error["pointer"] for error in answer.json()["errors"])

    assert pointers() == [""]
    assert pointers(event_id=other.event_id) == ["/event_id"]
    assert pointers(task_id=other.subject) == ["/task_id"]
    assert pointers(task_id="t", body={}) == ["/body"]
    assert pointers(task_id="t", event_type="task.failed") == ["/event_type"]
    assert pointers(body={}, filter={"all": []}) == ["/filter/all"]


def test_a_message_says_what_it_waits_for(mine):
    """Proves that a message behind another one is not shown as due, in lists and alone."""
    factories.make_endpoint(URL, ordered=True)
    task = factories.make_task()
    events = [
        outbox.publish(
            scope=PROJECT, subject=str(task.pk), sequence=n, event_type="task.started", body=b"{}"
        )
        for n in (1, 2)
    ]
    WebhookMessage.objects.filter(event=events[0]).update(skipped="msg_0")
    second, first = mine.get(f"{BASE}/messages").json()["results"]
    assert (first["waits_for"], first["skipped"]) == (None, "msg_0")
    assert first["next_attempt_at"]
    assert (second["waits_for"], second["next_attempt_at"]) == (events[0].event_id, None)
    assert mine.get(f"{BASE}/messages/{second['id']}").json()["waits_for"] == events[0].event_id
    WebhookMessage.objects.filter(event=events[0]).delete()
    summary = mine.get(f"/api/v1/tasks/{task.pk}").json()["webhooks"]
    assert (summary["state"], summary["next_attempt_at"]) == ("pending", None)
    assert metrics.oldest_due() == {False: 0.0, True: 0.0}


def test_meta_events_are_subscribed_to_by_name(mine):
    """Proves that a project may name endpoint.*, and not what is the installation's alone."""
    made = mine.post(f"{BASE}/endpoints", {"url": URL, "event_types": ["endpoint.failing"]}, **JSON)
    assert (made.status_code, made.json()["event_types"]) == (201, ["endpoint.failing"])
    other = {"url": f"{URL}/2", "event_types": ["webhooks.dead_letter_rate"]}
    refused = mine.post(f"{BASE}/endpoints", other, **JSON)
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (422, "not_allowed")
    assert mine.get(f"{BASE}/messages?event_type=endpoint.failing").status_code == 200
