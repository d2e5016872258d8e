"""What does a receiver see when messages, replays, secrets and engines change under way?

R13, R17 and R20 to R24 of the receiver behaviours, over real sockets and through the engine. What
one answer leads to is in `test_receiver_behaviours_zoo`.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from standardwebhooks import Webhook

from tests.support import answers, factories
from tests.support.answers import Answer
from tests.support.receiver import Receiver, is_signed_by
from tests.support.running import (
    SCOPE,
    attempts_of,
    publish,
    publish_bulk,
    running_engine,
    status_of,
)
from tests.support.waiting import wait_until
from tests.webhooks.egress.test_egress import StubResolver
from webhooks_app.delivery.thread import EngineThread
from webhooks_app.models import SigningSecret, WebhookDestination, WebhookMessage
from webhooks_app.operators.replay import InFlight, replay_one
from webhooks_app.signing.store import rotate

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _short_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the drain, for receivers that hang."""
    monkeypatch.setattr("webhooks_app.delivery.engine.DRAIN_SECONDS", 1.0)


@pytest.fixture
def hanging() -> Iterator[Receiver]:
    """A receiver that takes every request and answers none."""
    with Receiver([answers.hang()]) as receiver:
        yield receiver


def test_gone_ends_the_message_and_its_endpoint_alone(
    engine: EngineThread, receiver: Receiver
) -> None:
    """R13: 410 is dead after one attempt; the origin stays enabled (operators disable those)."""
    endpoint = factories.make_endpoint(receiver.url, scope=SCOPE)
    receiver.answer(410, 200)
    gone = publish(receiver.url)
    wait_until(lambda: status_of(gone) == "dead")
    wait_until(lambda: not type(endpoint).objects.get(pk=endpoint.pk).is_enabled)
    neighbour = publish(receiver.url + "/other", subject="task-2")
    wait_until(lambda: status_of(neighbour) == "delivered")
    assert len(attempts_of(gone)) == 1
    assert WebhookDestination.objects.get().disabled_at is None


def test_rebound_name_is_blocked_at_the_next_attempt() -> None:
    """R17: a name whose address turns private between attempts is not dialled there."""

    class Rebinding(StubResolver):
        async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> Any:
            self.answers = {host: ["10.0.0.5"] if self.calls else ["127.0.0.1"]}
            return await super().resolve(host, port, family)

    closing = Answer(500, headers=(("Connection", "close"),))
    with Receiver([closing]) as receiver, running_engine(resolver=Rebinding({})):
        event = publish(f"http://rebind.example.net:{receiver.port}/")
        wait_until(lambda: status_of(event) == "dead")
        assert len(receiver.requests) == 1
    first, second = attempts_of(event)
    assert (first.error_code, first.remote_address) == ("http_status", "127.0.0.1")
    assert (second.error_code, second.remote_address) == ("blocked_address", "")


def test_dead_host_with_thousands_due_does_not_slow_the_others(
    engine: EngineThread, hanging: Receiver
) -> None:
    """R20: 3,000 due for a host that hangs hold four connections; a healthy one is served as ever.

    How much it is slowed is the benchmark's business (P6); without the cap nothing would arrive
    here before the hanging requests time out.
    """
    with Receiver([200]) as healthy:
        publish_bulk(hanging.url, 3_000)
        engine.wake()
        hanging.wait_for(4)
        for number in range(40):
            publish(healthy.url, subject=f"healthy-{number}")
        healthy.wait_for(40)
    assert hanging.connections == len(hanging.requests) == 4


def test_stopping_finishes_what_answers_in_time_and_hands_the_rest_back(
    receiver: Receiver, hanging: Receiver
) -> None:
    """R21: a slow answer within the grace counts; a hanging one is the next engine's at once."""
    receiver.answer(Answer(200, delay=0.4))
    slow, stuck = publish(receiver.url), publish(hanging.url, subject="task-2")
    with running_engine():
        receiver.wait_for(1)
        hanging.wait_for(1)
    assert (status_of(slow), status_of(stuck)) == ("delivered", "pending")
    message = stuck.messages.get()
    assert (message.lease_token, message.retry_step, message.interrupted_count) == (None, 0, 0)
    hanging.answer(200)
    with running_engine():
        wait_until(lambda: status_of(stuck) == "delivered", timeout=5)
    assert [a.outcome for a in attempts_of(stuck)] == ["interrupted", "succeeded"]


def test_replays_beside_a_scheduled_retry_double_nothing(
    engine: EngineThread, receiver: Receiver
) -> None:
    """R22: two replays at once while a retry waits are one attempt, same id and bytes, new time."""
    receiver.answer(500, Answer(500, delay=0.4), 200)
    event = publish(receiver.url, policy=[1.5, 30])
    (first,) = receiver.wait_for(1)
    wait_until(lambda: event.messages.get().retry_step == 1)
    wait_until(lambda: int(time.time()) > int(first.headers["webhook-timestamp"]))
    threads = [threading.Thread(target=_replay, args=[event.messages.get()]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    second = receiver.wait_for(2)[1]
    # The replay restarted the policy: one retry after 1.5 s, not two, and no other is due.
    receiver.wait_for(3)
    wait_until(lambda: status_of(event) == "delivered")
    assert len(receiver.requests) == len(attempts_of(event)) == 3
    assert second.headers["webhook-id"] == first.headers["webhook-id"]
    assert second.body == first.body
    for name in ("webhook-timestamp", "webhook-signature"):
        assert second.headers[name] != first.headers[name]
    assert all(request.is_verified for request in receiver.requests)
    assert [a.trigger for a in attempts_of(event)] == ["scheduled", "replay", "replay"]


def _replay(message: WebhookMessage) -> None:
    try:
        replay_one(message, requested_by="operator", reason="a test", source="api")
    except InFlight:
        pass  # the other one was faster, and its attempt is under way
    finally:
        connection.close()


def test_two_posts_of_one_message_are_counted_as_what_they_were(
    engine: EngineThread, receiver: Receiver
) -> None:
    """R23: an engine thought dead answers late: two POSTs, two true rows, delivered once."""
    receiver.answer(Answer(200, delay=4.0), 200)
    event = publish(receiver.url)
    receiver.wait_for(1)
    with connection.cursor() as cursor:  # as if the engine had been frozen beyond its lease
        cursor.execute(
            "UPDATE webhooks_app_webhookmessage SET lease_expires_at = now(),"
            " next_attempt_at = now()"
        )
    first, second = receiver.wait_for(2)
    wait_until(lambda: status_of(event) == "delivered")
    assert attempts_of(event)[0].outcome == "interrupted"
    wait_until(lambda: attempts_of(event)[0].outcome == "succeeded")
    assert first.message_id == second.message_id
    assert [a.attempt_number for a in attempts_of(event)] == [1, 2]
    assert event.messages.get().attempt_count == 2 == len(receiver.requests)


def test_secret_rotated_between_attempts_signs_with_both(
    engine: EngineThread, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R24: after a rotation the retry carries two signatures; when the overlap ends, one."""
    monkeypatch.setattr("webhooks_app.signing.store.FRESH_SECONDS", 0.0)
    receiver.answer(500)
    event = publish(receiver.url, policy=[1.5, 1.5])
    receiver.wait_for(1)
    old = receiver._verifier
    assert old is not None
    new = Webhook(rotate(SCOPE, overlap_seconds=60))
    receiver.wait_for(2)
    overlapping = SigningSecret.objects.filter(scope=SCOPE, expires_at__isnull=False)
    assert overlapping.update(expires_at=timezone.now()) == 1
    before, during, after = receiver.wait_for(3)
    wait_until(lambda: status_of(event) == "dead")
    counts = [len(r.headers["webhook-signature"].split()) for r in (before, during, after)]
    assert counts == [1, 2, 1]
    assert [is_signed_by(old, r) for r in (before, during, after)] == [True, True, False]
    assert [is_signed_by(new, r) for r in (before, during, after)] == [False, True, True]
