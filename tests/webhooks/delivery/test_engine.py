"""Does the engine deliver, retry on the policy's clock, give up, and recover?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction

from tests.support import factories
from tests.support.receiver import Receiver
from tests.support.running import SCOPE, attempts_of, publish, status_of
from tests.support.waiting import wait_until
from webhooks_app import outbox
from webhooks_app.delivery.thread import EngineThread
from webhooks_app.models import WebhookDelivery, WebhookDestination, WebhookEvent, WebhookMessage
from webhooks_app.outbox.stop import supersede

pytestmark = pytest.mark.django_db(transaction=True)


def test_due_message_is_delivered_once_and_recorded(
    engine: EngineThread, receiver: Receiver
) -> None:
    """A published event arrives signed, once, and its row says so."""
    event = publish(receiver.url)
    wait_until(lambda: status_of(event) == "delivered")
    assert [r.is_verified for r in receiver.requests] == [True]
    request = receiver.requests[0]
    assert request.body == b'{"n":1}'
    assert request.headers["webhook-id"] == event.event_id
    assert request.headers["webhook-attempt"] == "1"
    assert request.headers["webhook-event"] == "task.completed"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"] == "AI-Movie-Task-Service/1.0"  # known to receivers
    (attempt,) = attempts_of(event)
    assert (attempt.outcome, attempt.response_status) == ("succeeded", 200)
    assert attempt.remote_address.startswith("127.0.0.1")
    assert attempt.request_headers["webhook-id"] == event.event_id


def test_rows_say_whether_the_connection_was_reused_and_what_each_phase_took(
    engine: EngineThread, receiver: Receiver
) -> None:
    """Of two failed attempts over one connection only the first opened the connection."""
    receiver.answer(500)
    event = publish(receiver.url, policy=[0.05])
    wait_until(lambda: status_of(event) == "dead")
    first, second = attempts_of(event)
    assert first.phases.keys() == {"connect_ms", "first_byte_ms"}
    assert second.phases.keys() == {"first_byte_ms"}
    assert [first.is_connection_reused, second.is_connection_reused] == [False, True]
    assert first.remote_address == second.remote_address == "127.0.0.1"


def test_failing_receiver_gets_policy_then_success(
    engine: EngineThread, receiver: Receiver
) -> None:
    """500, 503, 202 are three attempts with identical bytes and the policy's waits."""
    receiver.answer(500, 503, 202)
    event = publish(receiver.url, policy=[0.2, 0.4, 0.8])
    wait_until(lambda: status_of(event) == "delivered")
    times = [r.received_at for r in receiver.requests]
    assert times[1] - times[0] >= 0.195
    assert times[2] - times[1] >= 0.395
    assert len({(r.headers["webhook-id"], r.body) for r in receiver.requests}) == 1
    assert [r.headers["webhook-attempt"] for r in receiver.requests] == ["1", "2", "3"]
    assert [a.outcome for a in attempts_of(event)] == ["failed", "failed", "succeeded"]


def test_exhausted_policy_is_a_dead_letter(
    engine: EngineThread, receiver: Receiver, count_logged: Callable[[str], int]
) -> None:
    """A receiver that always fails gets four attempts; every line names the request behind it."""
    receiver.answer(500)
    event = publish(receiver.url, request_id="req-1")
    wait_until(lambda: status_of(event) == "dead")
    assert len(receiver.requests) == len(attempts_of(event)) == 4
    wait_until(lambda: count_logged("Webhook request failed") == 4)
    wait_until(lambda: count_logged("Failed to send webhook after all retries") == 1)
    wait_until(lambda: count_logged("request_id=req-1") == 5)


def test_gone_is_dead_at_once(engine: EngineThread, receiver: Receiver) -> None:
    """410 ends the message after one attempt and disables the endpoint with that URL."""
    receiver.answer(410)
    endpoint = factories.make_endpoint(receiver.url, scope=SCOPE)
    event = publish(receiver.url)
    wait_until(lambda: status_of(event) == "dead")
    assert len(attempts_of(event)) == 1
    wait_until(lambda: not type(endpoint).objects.get(pk=endpoint.pk).is_enabled)


def test_blocked_address_is_dead_without_a_connection(
    engine: EngineThread, receiver: Receiver, settings: Any
) -> None:
    """An address that the policy denies is never dialled, and the row says why."""
    settings.WEBHOOKS = {**settings.WEBHOOKS, "ALLOW_NETWORKS": []}
    event = publish(receiver.url)
    wait_until(lambda: status_of(event) == "dead")
    assert receiver.requests == []
    assert attempts_of(event)[0].error_code == "blocked_address"


def test_expired_lease_is_interrupted_and_sent_again(
    engine: EngineThread, receiver: Receiver
) -> None:
    """An attempt whose process died becomes interrupted; the next uses up no retry."""
    event = _left_by_a_dead_engine(receiver.url)
    wait_until(lambda: status_of(event) == "delivered")
    assert [a.outcome for a in attempts_of(event)] == ["interrupted", "succeeded"]
    assert [a.attempt_number for a in attempts_of(event)] == [1, 2]
    assert event.messages.get().retry_step == 0


def test_open_attempt_of_an_ended_message_is_closed(
    engine: EngineThread, receiver: Receiver
) -> None:
    """An attempt whose engine died after its message was superseded does not stay open."""
    event = _left_by_a_dead_engine(receiver.url)
    supersede(event.subject, event.event_type)
    wait_until(lambda: [a.outcome for a in attempts_of(event)] == ["interrupted"])
    assert status_of(event) == "superseded"
    assert not receiver.requests


def _left_by_a_dead_engine(url: str) -> WebhookEvent:
    with transaction.atomic(), connection.cursor() as cursor:
        event = publish(url)
        cursor.execute(
            "UPDATE webhooks_app_webhookmessage SET attempt_count = 1,"
            " lease_token = gen_random_uuid(), lease_expires_at = now() + interval '0.5 s',"
            " next_attempt_at = now() + interval '0.5 s' WHERE event_id = %s RETURNING id",
            [event.pk],
        )
        message = WebhookMessage.objects.get(pk=cursor.fetchone()[0])
        factories.make_delivery(message, attempt_number=1, outcome="pending")
    return event


def test_hold_and_disable_stop_claims(engine: EngineThread, receiver: Receiver) -> None:
    """Messages of a held destination wait without attempt rows; lifting the hold sends them."""
    destination_id, _ = outbox.destination_of(SCOPE, receiver.url)
    hold = WebhookDestination.objects.filter(pk=destination_id)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE webhooks_app_webhookdestination SET held_until = now() + interval '1 hour'"
        )
    held = publish(receiver.url)
    with Receiver([200]) as other:
        free = publish(other.url, subject="task-2")
        wait_until(lambda: status_of(free) == "delivered")
    assert (status_of(held), attempts_of(held)) == ("pending", [])
    hold.update(held_until=None)
    engine.wake()
    wait_until(lambda: status_of(held) == "delivered")


def test_newer_terminal_event_supersedes_older(engine: EngineThread, receiver: Receiver) -> None:
    """Once the terminal event was delivered, an older one that still waits is not sent."""
    receiver.answer(500, 200)
    older = publish(
        receiver.url, event_type="task.started", is_terminal=False, policy=[30], body=b'{"n":0}'
    )
    wait_until(lambda: len(receiver.requests) == 1)
    newer = publish(receiver.url, sequence=2)
    wait_until(lambda: status_of(newer) == "delivered")
    wait_until(lambda: status_of(older) == "superseded")


def test_stopping_hands_back_what_is_in_flight(receiver: Receiver, monkeypatch: Any) -> None:
    """A stopping engine gives a hanging request back at once, without using a retry."""
    from tests.support.answers import hang

    monkeypatch.setattr("webhooks_app.delivery.engine.DRAIN_SECONDS", 0.1)
    receiver.answer(hang())
    thread = EngineThread()
    thread.start()
    event = publish(receiver.url)
    wait_until(lambda: len(receiver.requests) == 1)
    thread.stop()
    message = event.messages.get()
    assert (message.status, message.lease_token, message.retry_step) == ("pending", None, 0)
    assert [a.outcome for a in attempts_of(event)] == ["interrupted"]


def test_many_messages_race_free_over_two_engines(engine: EngineThread) -> None:
    """Two engines deliver 300 messages, each exactly once."""
    second = EngineThread()
    second.start()
    with Receiver([200]) as receiver:
        for number in range(300):
            publish(receiver.url, subject=f"task-{number}")
        wait_until(
            lambda: not WebhookMessage.objects.exclude(status="delivered").exists(), timeout=20
        )
        second.stop()
        ids = [r.headers["webhook-id"] for r in receiver.requests]
    assert len(ids) == len(set(ids)) == 300
    assert WebhookDelivery.objects.count() == 300
