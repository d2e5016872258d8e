"""How does the engine handle rare cases: events that overtake each other, and its own faults?"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
import uuid
from typing import Any

import psycopg
import pytest
from django.db import DatabaseError, connection, connections, transaction
from django.utils import timezone

from tests.support import factories
from tests.support.answers import Answer
from tests.support.receiver import Receiver
from tests.support.running import (
    SCOPE,
    attempts_of,
    publish,
    publish_bulk,
    running_engine,
    status_of,
)
from tests.support.waiting import wait_until
from webhooks_app import database, outbox
from webhooks_app.delivery.engine import Engine
from webhooks_app.delivery.recorder import Recorder
from webhooks_app.delivery.thread import EngineThread
from webhooks_app.models import SigningSecret, WebhookDelivery, WebhookEvent, WebhookMessage
from webhooks_app.operators.replay import replay_one
from webhooks_app.outbox import Claimed, Outcome, outcome_of
from webhooks_app.retry import AttemptResult, Dead
from webhooks_app.signing.store import get_or_create

pytestmark = pytest.mark.django_db(transaction=True)


def publish_start(url: str, **fields: Any) -> WebhookEvent:
    """Publish the older of two events about one task."""
    return publish(url, event_type="task.started", is_terminal=False, **fields)


def test_older_event_under_way_is_not_tried_again_after_the_newer_was_delivered(
    engine: EngineThread, receiver: Receiver
) -> None:
    """A slow failure of `task.started` comes back after the end arrived: superseded, not sent."""
    receiver.answer(Answer(500, delay=0.8), 200)
    older = publish_start(receiver.url, policy=[0.1, 0.1])
    receiver.wait_for(1)
    newer = publish(receiver.url, sequence=2)
    wait_until(lambda: status_of(newer) == "delivered")
    assert status_of(older) == "pending", "its request is still under way"
    wait_until(lambda: status_of(older) == "superseded")
    assert [a.outcome for a in attempts_of(older)] == ["failed"]
    assert len(receiver.requests) == 2


def test_older_event_of_a_dead_engine_is_not_sent_after_the_newer_was_delivered(
    receiver: Receiver,
) -> None:
    """Recovery of a lost attempt also checks for a newer event before it sends again."""
    older = publish_start(receiver.url)
    newer = publish(receiver.url, sequence=2)
    newer.messages.update(
        status="delivered",
        next_attempt_at=None,
        delivered_at=timezone.now(),
        finished_at=timezone.now(),
    )
    now = timezone.now()
    older.messages.update(
        lease_token=uuid.uuid4(), lease_expires_at=now, next_attempt_at=now, attempt_count=1
    )
    factories.make_delivery(older.messages.get(), attempt_number=1, outcome="pending")
    with running_engine():
        wait_until(lambda: status_of(older) == "superseded")
    assert [a.outcome for a in attempts_of(older)] == ["interrupted"]
    assert receiver.requests == []


def test_replay_of_an_older_event_is_what_somebody_wished(
    engine: EngineThread, receiver: Receiver
) -> None:
    """An operator who replays an old event gets its whole policy, whatever arrived since."""
    receiver.answer(200, 500, 500, 200)
    newer = publish(receiver.url, sequence=2)
    wait_until(lambda: status_of(newer) == "delivered")
    with transaction.atomic():
        older = publish_start(receiver.url)
        ended = {"next_attempt_at": None, "finished_at": timezone.now()}
        older.messages.update(status="superseded", **ended)
    replay_one(older.messages.get(), requested_by="operator", reason="a test", source="admin")
    wait_until(lambda: status_of(older) == "delivered")
    assert len(receiver.requests) == 4


def test_replays_of_both_events_of_a_task_both_arrive(
    engine: EngineThread, receiver: Receiver
) -> None:
    """Replayed after an outage, the newer event does not supersede the older, which fails once."""
    receiver.answer(500, 200)
    with transaction.atomic():
        older = publish_start(receiver.url, policy=[1.0])
        newer = publish(receiver.url, sequence=2)
        for event in (older, newer):
            ended = {"next_attempt_at": None, "finished_at": timezone.now()}
            event.messages.update(status="dead", **ended)
    for event in (older, newer):
        message = event.messages.get()
        replay_one(message, requested_by="operator", reason="a test", source="admin")
        wait_until(lambda message=message: message.deliveries.exclude(outcome="pending").exists())
    assert status_of(newer) == "delivered"
    wait_until(lambda: status_of(older) != "pending")
    assert status_of(older) == "delivered"


def test_interruption_keeps_what_is_known_of_the_last_failure(receiver: Receiver) -> None:
    """Giving a message back at shutdown keeps the last status and error for operators."""
    from tests.support.answers import hang

    receiver.answer(503, hang())
    event = publish(receiver.url, policy=[0.05, 30])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("webhooks_app.delivery.engine.DRAIN_SECONDS", 0.1)
        with running_engine():
            receiver.wait_for(2)
    message = event.messages.get()
    assert [a.outcome for a in attempts_of(event)] == ["failed", "interrupted"]
    assert (message.last_status_code, message.last_error_code) == (503, "http_status")


def test_unreadable_secret_blocks_its_own_project_only_and_only_as_long(
    engine: EngineThread, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret that cannot be read costs one lease per try, no flood of attempts, and no seat."""
    monkeypatch.setattr("webhooks_app.signing.store.FRESH_SECONDS", 0.0)
    get_or_create("broken")
    good = bytes(SigningSecret.objects.get(scope="broken").ciphertext)
    SigningSecret.objects.filter(scope="broken").update(ciphertext=b"not a secret")
    publish_bulk(receiver.url, 30, scope="broken")
    engine.wake()
    # The seats of the destination come free at once, so all 30 are tried, each once per lease.
    wait_until(lambda: WebhookDelivery.objects.count() == 30)
    fine = publish(receiver.url)
    wait_until(lambda: status_of(fine) == "delivered")
    assert WebhookDelivery.objects.count() == 31
    SigningSecret.objects.filter(scope="broken").update(ciphertext=good)
    with connection.cursor() as cursor:  # when the leases are over
        cursor.execute(
            "UPDATE webhooks_app_webhookmessage SET lease_expires_at = now(),"
            " next_attempt_at = now() WHERE status = 'pending'"
        )
    wait_until(lambda: not WebhookMessage.objects.filter(status="pending").exists(), timeout=15)
    assert len(receiver.requests) == 31


def test_gone_disables_the_endpoint_although_the_message_had_ended_meanwhile(
    engine: EngineThread, receiver: Receiver
) -> None:
    """410 is about the URL: an acknowledgement in between does not hide it."""
    endpoint = factories.make_endpoint(receiver.url, scope=SCOPE)
    receiver.answer(Answer(410, delay=0.3))
    event = publish(receiver.url)
    receiver.wait_for(1)
    event.messages.update(status="cancelled", next_attempt_at=None)
    wait_until(lambda: not type(endpoint).objects.get(pk=endpoint.pk).is_enabled)
    assert status_of(event) == "cancelled"


def test_engine_that_lost_a_part_ends_and_a_new_one_delivers(receiver: Receiver) -> None:
    """A bug in one of its loops ends the whole engine; its host starts a new one."""
    from webhooks_app.delivery.housekeeping import Housekeeping

    calls = []

    async def broken(self: Housekeeping, connection: Any) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("a bug, once")
        await asyncio.sleep(3600)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Housekeeping, "run", broken)
        with running_engine():
            wait_until(lambda: len(calls) == 2)
            event = publish(receiver.url)
            wait_until(lambda: status_of(event) == "delivered")


def test_engine_that_is_stopped_while_it_is_made_ends_all_the_same() -> None:
    """A host that stops right after its start does not wait for an engine that does not run yet."""
    is_made_now, may_go_on = threading.Event(), threading.Event()

    def make() -> Engine:
        is_made_now.set()
        may_go_on.wait(10)
        return Engine()

    thread = EngineThread(make)
    thread.start()
    is_made_now.wait(10)
    stopping = threading.Thread(target=thread.stop)
    stopping.start()
    wait_until(thread._is_stopping.is_set)
    may_go_on.set()
    wait_until(lambda: not thread.is_alive)
    stopping.join(5)


def test_outcome_that_the_database_refuses_holds_up_no_other(receiver: Receiver) -> None:
    """Of seven outcomes the database refuses one: six are stored in full, one without details."""
    token = uuid.uuid4()
    rows = []
    for number in range(7):
        message = factories.make_message(lease_token=token, lease_expires_at=timezone.now())
        delivery = factories.make_delivery(message, "pending")
        rows.append(outcome(message, delivery, token, "\x00" if number == 4 else "status 500"))

    async def write() -> None:
        recorder = Recorder(on_retry=lambda: None)
        for row in rows:
            recorder.put(row)
        await recorder.flush_all()

    asyncio.run(write())
    stored = WebhookDelivery.objects.order_by("id").values_list("outcome", "error")
    assert [o for o, _ in stored] == ["failed"] * 7
    assert [e for _, e in stored] == ["status 500"] * 4 + [""] + ["status 500"] * 2
    assert not WebhookMessage.objects.exclude(status="dead", lease_token=None).exists()


def outcome(
    message: WebhookMessage, delivery: WebhookDelivery, token: uuid.UUID, error: str
) -> Outcome:
    """Return the record of a failed last attempt."""
    values: dict[str, Any] = dict.fromkeys(Claimed._fields)
    values |= {"message_id": message.pk, "delivery_id": delivery.pk}
    values |= {"attempt_number": 2, "retry_step": 3}
    result = AttemptResult(status=500, error_code="http_status", error=error)
    return outcome_of(Claimed(**values), token, {}, result, Dead("retries_exhausted"))


def test_server_that_accepts_and_says_nothing_is_left_within_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A database host that hangs during connect counts as a lost connection; the engine goes on."""
    monkeypatch.setitem(database.ALIVE, "connect_timeout", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        place = {"host": "127.0.0.1", "port": port, "dbname": "x", "user": "x"}
        own = type(connections["default"])
        monkeypatch.setattr(own, "get_connection_params", lambda self: place)
        started_at = time.monotonic()
        with pytest.raises(psycopg.OperationalError):
            asyncio.run(database.connect("test"))
    assert time.monotonic() - started_at < 30, "the kernel's own limit is minutes"


def test_two_events_that_make_the_same_destinations_at_once_never_deadlock() -> None:
    """Publishing to the same new origins from both ends succeeds for everybody."""
    urls = [f"http://host-{number}.example.org/" for number in range(40)]
    failures: list[Exception] = []
    barrier = threading.Barrier(2)

    def owe(subject: str, order: list[str]) -> None:
        try:
            barrier.wait(5)
            with transaction.atomic():
                outbox.publish(
                    scope=SCOPE,
                    subject=subject,
                    sequence=1,
                    event_type="task.completed",
                    body=b"{}",
                    targets=[outbox.Target(url) for url in order],
                )
        except DatabaseError as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [
        threading.Thread(target=owe, args=["one", urls]),
        threading.Thread(target=owe, args=["other", urls[::-1]]),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []
    assert WebhookMessage.objects.count() == 80


def test_callback_goes_before_an_endpoint_with_its_url() -> None:
    """If an endpoint has the callback's URL, there is one message, the callback's."""
    factories.make_endpoint("http://a.example.org/", scope=SCOPE, retry_policy=[9])
    event = publish("http://a.example.org/", policy=[7])
    message = event.messages.get()
    assert (message.policy, message.endpoint) == ([7.0], None)
