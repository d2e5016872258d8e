"""Do requests carry their credential, to its origins alone, and what if it cannot be used?"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from tests.support import factories
from tests.support.answers import Answer
from tests.support.receiver import Receiver
from tests.support.running import SCOPE, attempts_of, publish, status_of
from tests.support.waiting import wait_until
from webhooks_app import outbox
from webhooks_app.delivery.thread import EngineThread
from webhooks_app.models import Credential, WebhookDelivery, WebhookDestination, WebhookMessage
from webhooks_app.operators import credentials, replay
from webhooks_app.outbox import MessageFilters

pytestmark = pytest.mark.django_db(transaction=True)
SECRET = "s3cr3t-" + "x" * 20


def token_answer(text: str, lifetime: int = 3600) -> Answer:
    told = {"access_token": text, "token_type": "Bearer", "expires_in": lifetime}
    return Answer(body=json.dumps(told).encode())


def origin(receiver: Receiver) -> str:
    return receiver.url.removesuffix("/hook")


def make(kind: str, receiver: Receiver, name: str = "door", **given: Any) -> Credential:
    return credentials.create(SCOPE, name, kind, [origin(receiver)], given, actor="test")


def owe(receiver: Receiver, auth: str = "door", **fields: Any) -> Any:
    return publish(receiver.url, callback_auth=auth, **fields)


def is_delivered(event: Any) -> bool:
    return status_of(event) == "delivered"


@pytest.fixture
def token_server() -> Iterator[Receiver]:
    """A token server with a script."""
    with Receiver([token_answer("first-token")]) as server:
        yield server


def make_oauth2(receiver: Receiver, server: Receiver, **more: str) -> Credential:
    given = {"token_url": f"{origin(server)}/token", "client_id": "us", "client_secret": SECRET}
    return make("oauth2", receiver, **given, **more)


BASIC = "Basic " + base64.b64encode(b"us:" + SECRET.encode()).decode()
KINDS = {
    "headers": ({"headers": {"X-Api-Key": SECRET, "X-Tenant": "a b"}}, {"x-api-key": SECRET}),
    "bearer": ({"token": SECRET}, {"authorization": f"Bearer {SECRET}"}),
    "basic": ({"username": "us", "password": SECRET}, {"authorization": BASIC}),
}


def test_each_kind_reaches_the_receiver_and_no_row_or_log(
    engine: EngineThread, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    """Headers, bearer and basic arrive beside the signature; the secret is in no row and no log."""
    receiver.answer(Answer(500, headers=(("X-Echo", SECRET),), body=f"no {SECRET}".encode()), 200)
    for kind, (given, headers) in KINDS.items():
        make(kind, receiver, kind, **given)
        event = owe(receiver, kind, subject=kind)
        wait_until(lambda event=event: is_delivered(event))
        request = receiver.requests[-1]
        assert request.is_verified
        assert headers.items() <= request.headers.items()
        masked = attempts_of(event)[-1].request_headers
        assert {masked[name] for name in masked if name.lower() in headers} == {"***"}
        assert masked["webhook-signature"].startswith("v1,")
    with (
        connection.cursor() as cursor,
        cursor.copy(
            "COPY (SELECT request_headers, response_headers, convert_from(response_body, 'UTF8'),"
            " error FROM webhooks_app_webhookdelivery) TO STDOUT"
        ) as copy,
    ):
        rows = b"".join(bytes(chunk) for chunk in copy).decode()
    shown = rows + "".join(capsys.readouterr())
    assert "no ***" in rows
    assert SECRET not in shown
    assert BASIC.removeprefix("Basic ") not in shown


def test_a_connection_carries_requests_of_one_credential_only(
    engine: EngineThread, receiver: Receiver
) -> None:
    """Each credential, each version of one, and requests without any have connections apart."""
    row = make("bearer", receiver, token=SECRET)
    make("bearer", receiver, "other", token=SECRET)
    for subject, auth in enumerate(["door", "door", "other", "", "door", ""]):
        event = owe(receiver, auth, subject=f"{subject}")
        wait_until(lambda event=event: is_delivered(event))
    connections = [request.connection for request in receiver.requests]
    first, second, other, bare, again, bare_again = connections
    assert first == second == again
    assert bare == bare_again
    assert len({first, other, bare}) == 3
    credentials.change(row, given={"token": "another-token"}, actor="test")
    wait_until(lambda: _sent_with(receiver, "Bearer another-token"), timeout=15)
    assert receiver.requests[-1].connection not in connections


def put_off(events: list[Any]) -> None:
    """Let the events' messages be due in an hour, so that only a change sends them before."""
    later = timezone.now() + timedelta(hours=1)
    owed = WebhookMessage.objects.filter(event__in=events).exclude(next_attempt_at=later)

    def is_none_left() -> bool:
        owed.filter(lease_token=None).update(next_attempt_at=later)
        return not owed.exists()

    wait_until(is_none_left)


def _sent_with(receiver: Receiver, value: str) -> bool:
    count = len(receiver.requests)
    event = owe(receiver, subject=f"more-{count}")
    wait_until(lambda: is_delivered(event))
    return receiver.requests[-1].headers["authorization"] == value


def test_a_missing_credential_sends_nothing_and_uses_no_retry(
    engine: EngineThread, receiver: Receiver, count_logged: Callable[[str], int]
) -> None:
    """Nothing goes out without it; the destination is not blamed; once made, it goes at once."""
    event = owe(receiver, policy=[])  # without any retry
    wait_until(lambda: len(attempts_of(event)) == 1 and attempts_of(event)[0].outcome == "failed")
    (attempt,) = attempts_of(event)
    assert (attempt.error_code, attempt.error) == (
        "credential",
        "not sent: there is no credential 'door'",
    )
    message = event.messages.get()
    assert (message.status, message.retry_step, receiver.requests) == ("pending", 0, [])
    assert WebhookDestination.objects.get().failing_messages == 0
    put_off([event])
    make("bearer", receiver, token=SECRET)
    wait_until(lambda: is_delivered(event))
    assert len(receiver.requests) == 1
    assert count_logged("Webhook request failed") == 1


def test_a_credential_bound_elsewhere_or_unreadable_sends_nothing(
    engine: EngineThread, receiver: Receiver
) -> None:
    """A row that was changed in the database, or is bound to another origin, opens no door."""
    elsewhere = ["https://other.example.org"]
    credentials.create(SCOPE, "elsewhere", "bearer", elsewhere, {"token": SECRET}, actor="test")
    make("bearer", receiver, "stolen", token=SECRET)
    Credential.objects.filter(name="elsewhere").update(origins=[origin(receiver)])
    ciphertext = Credential.objects.get(name="stolen").ciphertext
    Credential.objects.filter(name="stolen").update(scope="thief")
    Credential.objects.create(
        scope=SCOPE, name="copy", kind="bearer", origins=[origin(receiver)], ciphertext=ciphertext
    )
    bound = credentials.create(SCOPE, "b", "bearer", elsewhere, {"token": SECRET}, actor="test")
    errors = set()
    for name in ("elsewhere", "copy", bound.name):
        event = owe(receiver, name, subject=name)
        wait_until(lambda event=event: [a.outcome for a in attempts_of(event)] == ["failed"])
        errors.add(attempts_of(event)[0].error)
    assert receiver.requests == []
    assert errors == {
        "not sent: the stored credential 'elsewhere' cannot be decrypted with the configured keys",
        "not sent: the stored credential 'copy' cannot be decrypted with the configured keys",
        "not sent: the credential 'b' is not bound to this origin",
    }


def test_waits_grow_and_end_after_the_longest_wait_of_held_messages(
    engine: EngineThread, receiver: Receiver, settings: Any
) -> None:
    """The wait for a credential is as long as it has lasted; after a day the message is dead."""
    event = owe(receiver)
    wait_until(lambda: [a.outcome for a in attempts_of(event)] == ["failed"])
    message = event.messages.get()

    def age(seconds: int) -> WebhookMessage:
        """Let the first attempt have begun so long ago, and make the message due."""
        first = attempts_of(event)[0]
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE webhooks_app_webhookdelivery SET started_at = now() - %s * interval '1 s'"
                " WHERE id = %s",
                [seconds, first.pk],
            )
        count = len(attempts_of(event))
        WebhookMessage.objects.filter(pk=message.pk).update(next_attempt_at=first.started_at)
        outbox.wake()
        wait_until(lambda: [a.outcome for a in attempts_of(event)][count:] == ["failed"])
        wait_until(lambda: event.messages.get().lease_token is None)
        return event.messages.get()

    def wait_of(row: WebhookMessage) -> float:
        last = WebhookDelivery.objects.filter(message=row).order_by("-id")[0]
        return (row.next_attempt_at - last.started_at).total_seconds()

    assert 4 < wait_of(message) < 7
    assert 100 < wait_of(age(100)) < 103
    assert 899 < wait_of(age(5_000)) < 903
    assert age(90_000).status == "dead"
    assert event.messages.get().last_error_code == "credential"
    # A replay begins anew: it is not dead at once.
    job = replay.start(MessageFilters.of({"ids": [message.pk]}), requested_by="t", source="command")
    count = len(attempts_of(event))
    wait_until(lambda: [a.outcome for a in attempts_of(event)][count:] == ["failed"])
    wait_until(lambda: event.messages.get().lease_token is None)
    assert (event.messages.get().status, event.messages.get().replay_id) == ("pending", job.pk)


def test_one_token_serves_many_and_is_renewed_before_its_end(
    engine: EngineThread, receiver: Receiver, token_server: Receiver
) -> None:
    """Twenty messages at once take one token; a short-lived one is renewed, also while it lives."""
    server = token_server
    server.answer(token_answer("first-token", 2), token_answer("second-token"))
    make_oauth2(receiver, server, oauth_scope="hooks write", audience="https://a.example.org")
    events = [owe(receiver, subject=f"{number}") for number in range(20)]
    wait_until(lambda: all(map(is_delivered, events)))
    assert len(server.requests) == 1
    asked = server.requests[0]
    assert asked.body.decode() == (
        "grant_type=client_credentials&scope=hooks+write&audience=https%3A%2F%2Fa.example.org"
    )
    assert asked.headers["authorization"] == BASIC
    assert {r.headers["authorization"] for r in receiver.requests} == {"Bearer first-token"}
    wait_until(lambda: _sent_with(receiver, "Bearer second-token"), timeout=5)
    assert len(server.requests) == 2
    assert all(request.is_verified for request in receiver.requests)


def test_a_401_gets_a_new_token_once_and_then_counts(
    engine: EngineThread, receiver: Receiver, token_server: Receiver
) -> None:
    """A refused token is renewed at once, for free; a receiver that refuses all is failing."""
    server = token_server
    server.answer(token_answer("first-token"), token_answer("second-token"))
    make_oauth2(receiver, server, client_auth="body")
    receiver.answer(401, 200)
    event = owe(receiver, policy=[])
    wait_until(lambda: is_delivered(event))
    first, second = attempts_of(event)
    assert [first.response_status, second.response_status] == [401, 200]
    sent = [request.headers["authorization"] for request in receiver.requests]
    assert sent == ["Bearer first-token", "Bearer second-token"]
    assert event.messages.get().retry_step == 0
    assert SECRET in server.requests[0].body.decode()
    receiver.answer(401)
    event = owe(receiver, subject="refused", policy=[0.05, 0.05])
    wait_until(lambda: status_of(event) == "dead")
    # The second token had worked: renewed once. The third never does: two retries, and the end.
    assert len(attempts_of(event)) == 4
    assert len(server.requests) == 3


def test_a_token_server_that_fails_is_not_the_receivers_fault(
    engine: EngineThread, receiver: Receiver, token_server: Receiver
) -> None:
    """Its fault is a code of its own, quotes no secret, uses no retry and opens no breaker."""
    server = token_server
    said = json.dumps({"error": "invalid_client", "error_description": SECRET}).encode()
    server.answer(Answer(401, body=said))
    row = make_oauth2(receiver, server)
    events = [owe(receiver, subject=f"{number}", policy=[]) for number in range(12)]
    wait_until(lambda: WebhookDelivery.objects.filter(outcome="failed").count() == 12)
    errors = {(a.error_code, a.error) for a in WebhookDelivery.objects.all()}
    text = "not sent: the token server answered 401 (invalid_client)"
    assert errors == {("credential", text)}
    assert len(server.requests) <= 2, "one request serves all"
    assert receiver.requests == []
    destination = WebhookDestination.objects.get()
    assert (destination.breaker_state, destination.failing_messages) == ("closed", 0)
    server.answer(token_answer("first-token"))
    put_off(events)
    failed = WebhookDelivery.objects.filter(outcome="failed").count()
    credentials.change(row, given={"client_secret": SECRET}, actor="test")
    wait_until(lambda: all(map(is_delivered, events)))
    # Not with the old one, although the engine has read that less than five seconds ago.
    assert WebhookDelivery.objects.filter(outcome="failed").count() == failed


def test_a_replay_elsewhere_goes_without_and_says_so(
    engine: EngineThread, receiver: Receiver
) -> None:
    """Sent to another origin, an event leaves its credential at home; the attempt tells which."""
    make("bearer", receiver, token=SECRET)
    event = owe(receiver)
    wait_until(lambda: is_delivered(event))
    assert receiver.requests[0].headers["authorization"] == f"Bearer {SECRET}"
    filters = MessageFilters.of({"ids": [event.messages.get().pk]})
    by: Any = {"requested_by": "t", "source": "command", "reason": "a test"}
    with Receiver([200]) as other:
        replay.start(filters, to_url=other.url, **by)
        wait_until(lambda: event.messages.filter(url=other.url, status="delivered").exists())
        assert "authorization" not in other.requests[0].headers
        copy = event.messages.get(url=other.url)
        assert copy.deliveries.get().error == (
            "note: without the credential 'door', which is not bound to this origin"
        )
    # To another path of its own origin it goes along.
    replay.start(filters, to_url=f"{receiver.url}/2", **by)
    wait_until(lambda: len(receiver.requests) == 2)
    assert receiver.requests[1].headers["authorization"] == f"Bearer {SECRET}"


def test_the_nearest_credential_wins(receiver: Receiver) -> None:
    """A target's own comes first, then that of its URL's endpoint, then the first bound default."""
    for name in ("own", "endpoint", "key", "project"):
        make("bearer", receiver, name, token=SECRET)
    elsewhere = ["https://other.example.org"]
    credentials.create(SCOPE, "away", "bearer", elsewhere, {"token": SECRET}, actor="test")
    factories.make_endpoint(receiver.url, scope=SCOPE, callback_auth="endpoint")
    factories.make_endpoint(f"{receiver.url}/bare", scope=SCOPE)

    def auths(subject: str, own: str, *defaults: str) -> dict[str, str]:
        event = outbox.publish(
            scope=SCOPE,
            subject=subject,
            sequence=1,
            event_type="task.completed",
            body=b"{}",
            targets=[outbox.Target(receiver.url, callback_auth=own)],
            default_auth=lambda: defaults,
        )
        rows = event.messages.order_by("url").values_list("callback_auth", flat=True)
        return dict(zip(("callback", "bare"), rows, strict=True))

    assert auths("1", "own", "key") == {"callback": "own", "bare": "key"}
    assert auths("2", "", "key") == {"callback": "endpoint", "bare": "key"}
    assert auths("3", "", "away", "", "project") == {"callback": "endpoint", "bare": "project"}
    assert auths("4", "", "away", "gone") == {"callback": "endpoint", "bare": ""}
