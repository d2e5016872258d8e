"""What can a client do with credentials, and does anything ever give a secret away?"""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    load_pem_private_key,
)
from cryptography.hazmat.primitives.serialization import PrivateFormat as Private
from django.db import connection
from django.test import Client

from tasks_app.models import ApiKey, Project
from tasks_app.state import lifecycle, projects
from tests.support import certificates, factories
from tests.support.answers import Answer
from tests.support.factories import PROJECT
from tests.support.receiver import Receiver
from tests.support.routes import client_of
from webhooks_app.models import Credential, OperatorAction, WebhookMessage
from webhooks_app.operators import replay
from webhooks_app.signing.store import get_or_create

pytestmark = pytest.mark.django_db
BASE = "/api/v1/webhooks/credentials"
ORIGIN = "https://receiver.example.org"
SECRET = "s3cr3t-" + "y" * 20
KEY, CERTIFICATE, _ = (part.decode() for part in certificates.files_for("client.example.net"))
PARTS: dict[str, dict[str, Any]] = {
    "headers": {"headers": {"X-Api-Key": SECRET}},
    "bearer": {"token": SECRET},
    "basic": {"username": "us", "password": SECRET},
    "oauth2": {
        "token_url": "https://login.example.org/token",
        "client_id": "us",
        "client_secret": SECRET,
    },
    "client_certificate": {"certificate": CERTIFICATE, "private_key": KEY},
}


@pytest.fixture
def mine(db: None) -> Client:
    """A client whose key is bound to the project."""
    return client_of(project_id=PROJECT)


def post(client: Client, path: str, body: Any) -> Any:
    return client.post(path, body, "application/json")


def patch(client: Client, path: str, body: Any) -> Any:
    return client.patch(path, body, "application/json")


def make(client: Client, kind: str = "bearer", name: str = "door", **more: Any) -> Any:
    body = {"name": name, "kind": kind, "origins": [ORIGIN], **PARTS[kind], **more}
    return post(client, BASE, body)


def faults(answer: Any) -> dict[str, str]:
    assert answer.status_code == 422, answer.content
    return {error["pointer"]: error["code"] for error in answer.json()["errors"]}


def said(answer: Any) -> str:
    assert answer.status_code == 422, answer.content
    (error,) = answer.json()["errors"]
    return str(error["message"])


@pytest.mark.parametrize("kind", PARTS)
def test_a_credential_is_stored_and_its_secret_never_shown(mine: Client, kind: str) -> None:
    """Made, listed, read by id and name: the answers and the table hold no secret."""
    made = make(mine, kind)
    assert made.status_code == 201, made.content
    body = made.json()
    assert (body["kind"], body["origins"], body["project_id"]) == (kind, [ORIGIN], PROJECT)
    assert made["Location"] == f"{BASE}/{body['id']}"
    assert mine.get(f"{BASE}/door").json() == mine.get(f"{BASE}/{body['id']}").json() == body
    assert mine.get(BASE).json()["results"] == [body]
    shown = json.dumps(body)
    with (
        connection.cursor() as cursor,
        cursor.copy("COPY webhooks_app_credential TO STDOUT") as copy,
    ):
        shown += b"".join(bytes(chunk) for chunk in copy).decode()
    assert SECRET not in shown
    assert "PRIVATE KEY" not in shown
    if kind == "client_certificate":
        assert body["expires_at"].endswith("Z")
        assert body["details"]["subject"] == "CN=client.example.net"
    note = OperatorAction.objects.get(action="credential.create")
    assert note.target == f"credential door of {PROJECT}"


def test_what_a_credential_may_not_be(mine: Client) -> None:
    """Each fault is blamed on its field; reserved headers and line breaks never get in."""
    assert faults(make(mine, "basic", username="a:b", password=None)) == {"/password": "bad_type"}
    assert faults(post(mine, BASE, {"name": "x", "kind": "basic", "origins": [ORIGIN]})) == {
        "/username": "required",
        "/password": "required",
    }
    assert faults(make(mine, "bearer", password="x")) == {"/password": "bad_format"}
    assert faults(make(mine, origins=[f"{ORIGIN}/path"])) == {"/origins": "bad_format"}
    assert faults(make(mine, origins=[])) == {"/origins": "bad_format"}
    assert faults(make(mine, name="-door")) == {"/name": "bad_format"}
    reserved = ("Host", "Content-Type", "WEBHOOK-ID", "Connection", "Transfer-Encoding", "TE")
    for name in (*reserved, "Proxy-Authorization", "User-Agent", "traceparent", "a b", "", "ü"):
        assert faults(make(mine, "headers", headers={name: "x"})) == {"/headers": "bad_format"}
    for value in ("a\r\nb", "a\nb", "a\x7fb", " a", "ä", "", 5):
        answer = make(mine, "headers", headers={"x-a": value})
        assert faults(answer) == {"/headers": "bad_format"}, value
    assert faults(make(mine, "headers", headers={"a": "1", "A": "2"})) == {"/headers": "bad_format"}
    assert faults(make(mine, token="two words")) == {"/token": "bad_format"}
    assert SECRET not in make(mine, "bearer", token=f"{SECRET}\n").content.decode()
    assert Credential.objects.count() == 0


def test_a_certificate_must_fit_its_key_and_the_key_be_open(mine: Client) -> None:
    """An encrypted key, another's key, an ended certificate and no PEM are told apart."""
    kind = "client_certificate"
    key = load_pem_private_key(KEY.encode(), None)
    locked = key.private_bytes(Encoding.PEM, Private.PKCS8, BestAvailableEncryption(b"x")).decode()
    other = certificates.files_for("other.example.net")[0].decode()
    old = certificates.server_pem("expired", "client.example.net").decode()
    old_key, _, old_certificate = old.partition("-----BEGIN CERTIFICATE")
    old_certificate = "-----BEGIN CERTIFICATE" + old_certificate
    assert "encrypted with a passphrase" in said(make(mine, kind, private_key=locked))
    assert "not that of the first certificate" in said(make(mine, kind, private_key=other))
    ended = make(mine, kind, certificate=old_certificate, private_key=old_key)
    assert "The certificate ended on" in said(ended)
    assert "no PEM certificate" in said(make(mine, kind, certificate="x"))
    assert "no PEM private key" in said(make(mine, kind, private_key="x"))
    assert x509.load_pem_x509_certificate(CERTIFICATE.encode())


def test_a_secret_is_not_sent_elsewhere_by_who_does_not_know_it(mine: Client) -> None:
    """A new origin or token server is taken only together with the secret."""
    make(mine, "oauth2")
    thief = "https://thief.example.org"
    path = f"{BASE}/door"
    assert faults(patch(mine, path, {"origins": [ORIGIN, thief]})) == {"/origins": "bad_format"}
    assert faults(patch(mine, path, {"token_url": f"{thief}/t"})) == {"/token_url": "bad_format"}
    changed = patch(mine, path, {"origins": [ORIGIN, thief], "client_secret": "known"})
    assert changed.json()["origins"] == [ORIGIN, thief]
    assert patch(mine, path, {"origins": [ORIGIN]}).json()["origins"] == [ORIGIN]
    assert patch(mine, path, {"oauth_scope": "a b"}).json()["details"]["oauth_scope"] == "a b"
    assert patch(mine, path, {}).json()["version"] == 5


def test_what_is_in_use_stays(mine: Client) -> None:
    """Endpoints, keys, the project, tasks under way and pending messages hold a credential."""
    make(mine)
    path, other = f"{BASE}/door", ["https://other.example.org"]
    url = f"{ORIGIN}/hook"
    endpoint = post(
        mine, "/api/v1/webhooks/endpoints", {"url": url, "callback_auth": "door"}
    ).json()
    assert endpoint["callback_auth"] == "door"
    away = patch(mine, path, {"origins": other, "token": SECRET})
    assert (away.status_code, away.json()["code"]) == (409, "in_use")
    factories.make_api_key(project_id=PROJECT, callback_auth="door")
    factories.make_api_key(callback_auth="door")
    factories.make_api_key(project_id="another", callback_auth="door")
    Project.objects.create(pk=PROJECT, callback_auth="door")
    task = factories.make_task("queued", callback_auth="door", callback_url=url)
    factories.make_message("pending", callback_auth="door")
    refused = mine.delete(path)
    assert (refused.status_code, refused.json()["code"]) == (409, "in_use")
    assert refused.json()["detail"] == (
        "It is used by 1 endpoint, 1 pending message, 2 API keys, 1 task under way, the project's"
        " default."
    )
    change = {"callback_auth": ""}
    assert patch(mine, f"/api/v1/webhooks/endpoints/{endpoint['id']}", change).status_code == 200
    ApiKey.objects.exclude(project_id="another").update(callback_auth="")
    Project.objects.update(callback_auth="")
    lifecycle.cancel(task.pk)
    assert mine.delete(path).status_code == 409
    WebhookMessage.objects.update(callback_auth="")
    assert mine.delete(path).status_code == 204
    assert mine.get(path).status_code == 404


def test_projects_and_scopes_are_kept_apart(mine: Client, api: Client) -> None:
    """A key without the scope `admin` sees none; names of several projects must be told apart."""
    made = make(mine).json()
    stranger = client_of(project_id="another", scopes=["admin"])
    assert stranger.get(f"{BASE}/door").status_code == 404
    assert stranger.get(BASE).json()["results"] == []
    reader = client_of(project_id=PROJECT, scopes=["read", "submit"])
    assert {reader.get(BASE).status_code, reader.get(f"{BASE}/door").status_code} == {403}
    assert make(mine).json()["code"] == "credential_exists"
    assert make(stranger).status_code == 201
    assert faults(make(api)) == {"/project_id": "required"}
    assert api.get(f"{BASE}/door").status_code == 422
    assert api.get(f"{BASE}/door?project_id={PROJECT}").json()["id"] == made["id"]


def test_a_submit_names_a_credential_of_its_project_for_its_callback(mine: Client) -> None:
    """An unknown name, another origin and a missing callback are 422 at submit, with a reason."""
    make(mine)
    request = {**factories.SEED_REQUEST, "callback_url": f"{ORIGIN}/hook", "callback_auth": "door"}
    done = post(mine, "/api/v1/tasks/submit", request)
    assert done.status_code == 201, done.content
    assert mine.get(f"/api/v1/tasks/{done.json()['task_id']}").json()["callback_auth"] == "door"

    def refused(**change: Any) -> Any:
        kept = {k: v for k, v in {**request, **change}.items() if v is not None}
        return post(mine, "/api/v1/tasks/submit", kept)

    assert faults(refused(callback_auth="gate")) == {"/callback_auth": "unknown_credential"}
    assert "it has: door." in said(refused(callback_auth="gate"))
    elsewhere = refused(callback_url="https://other.example.org/")
    assert faults(elsewhere) == {"/callback_auth": "not_bound"}
    assert f"is bound to {ORIGIN} " in said(elsewhere)
    assert faults(refused(callback_url=None)) == {"/callback_auth": "not_allowed"}
    endpoints = "/api/v1/webhooks/endpoints"
    body = {"url": "https://other.example.org/", "callback_auth": "door"}
    assert faults(post(mine, endpoints, body)) == {"/callback_auth": "not_bound"}


def test_events_of_a_task_take_the_default_of_its_key_and_project() -> None:
    """The task's own wins, then the key's, then the project's; one bound elsewhere is not used."""
    for name in ("own", "key", "project"):
        factories.make_credential(name)
    factories.make_credential("away", origins=["https://other.example.org"])
    key, _ = factories.make_api_key(callback_auth="key")
    Project.objects.create(pk=PROJECT, callback_auth="project")

    def used(**fields: Any) -> str:
        projects.forget_auth()
        task = factories.make_task("queued", callback_url=factories.URL, **fields)
        lifecycle.cancel(task.pk)
        message = WebhookMessage.objects.get(event__subject=str(task.pk))
        assert message.policy is not None
        return message.callback_auth

    assert used(api_key=key, callback_auth="own") == "own"
    assert used(api_key=key) == "key"
    assert used() == "project"
    ApiKey.objects.update(callback_auth="away")
    assert used(api_key=key) == "project"
    Project.objects.update(callback_auth="away")
    assert used(api_key=key) == ""


def test_a_replay_takes_the_credential_that_holds_now(mine: Client) -> None:
    """What died before its gateway's credential was set carries it when it is replayed."""
    task = factories.make_task("failed", callback_url=factories.URL)
    event = factories.make_event("task.failed", subject=str(task.pk))
    message = factories.make_message("dead", event=event)
    bare = factories.make_message("dead")  # of a task that is gone
    factories.make_credential()
    Project.objects.create(pk=PROJECT, callback_auth="door")
    endpoint = factories.make_endpoint(callback_auth="door")
    subscribed = factories.make_message("dead", endpoint=endpoint)
    for row in (message, bare, subscribed):
        path = f"/api/v1/webhooks/messages/{row.pk}/replay"
        assert post(mine, path, {"reason": "the gateway"}).status_code == 202
    replay.advance_running_jobs()
    auths = WebhookMessage.objects.order_by("id").values_list("status", "callback_auth")
    assert list(auths) == [("pending", "door"), ("pending", ""), ("pending", "door")]


def test_a_replay_elsewhere_says_what_it_leaves_off(mine: Client) -> None:
    """The preview names the credentials that do not go along; to their own origin they do."""
    make(mine)
    factories.make_message("dead", callback_auth="door")

    def left_off(url: str) -> Any:
        asked = {"dry_run": True, "callback_url": url}
        return post(mine, "/api/v1/webhooks/replays", asked).json()["credentials_left_off"]

    assert left_off("https://other.example.org/hook") == ["door"]
    assert left_off(f"{ORIGIN}/elsewhere") == []


def test_without_credentials_nothing_is_asked(django_assert_num_queries: Any) -> None:
    """A second event of a project asks nothing about credentials."""
    tasks = [factories.make_task("queued", callback_url=factories.URL) for _ in range(2)]
    projects.forget_auth()
    assert projects.auth_defaults(tasks[0]) == ()
    with django_assert_num_queries(0):
        assert projects.auth_defaults(tasks[1]) == ()


def test_a_test_send_says_what_came_back(mine: Client) -> None:
    """One signed ping goes to an origin of the credential; the answer is shown without secrets."""
    answers = [Answer(403, body=f"{SECRET}? no".encode()), 204]
    with Receiver(answers, secret=get_or_create(PROJECT)) as receiver:
        make(mine, origins=[receiver.url.removesuffix("/hook")])
        path = f"{BASE}/door/test"
        first = post(mine, path, {"url": receiver.url}).json()
        assert (first["status"], first["error_code"], first["is_delivered"]) == (
            403,
            "http_status",
            False,
        )
        assert first["response_body"] == "***? no"
        second = post(mine, path, {"url": receiver.url}).json()
        assert (second["status"], second["error"], second["is_delivered"]) == (204, "", True)
        for request in receiver.requests:
            assert request.is_verified
            assert request.headers["authorization"] == f"Bearer {SECRET}"
            assert json.loads(request.body)["type"] == "webhook.ping"
        elsewhere = post(mine, path, {"url": f"{ORIGIN}/hook"})
        assert faults(elsewhere) == {"/url": "not_bound"}
    gone = post(mine, path, {"url": receiver.url}).json()
    assert (gone["status"], gone["error_code"]) == (None, "connect")
    assert WebhookMessage.objects.count() == 0
    notes = OperatorAction.objects.filter(action="credential.test").values_list("target", flat=True)
    assert f"credential door of {PROJECT}: status 403" in set(notes)
