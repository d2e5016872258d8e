"""What happens to messages whose engine died repeatedly, or that waited too long?"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from tests.support import factories
from tests.support.receiver import Receiver
from tests.support.running import (
    CLAIM_AND_DIE,
    SCOPE,
    attempts_of,
    publish,
    running_engine,
    status_of,
)
from tests.support.waiting import wait_until
from webhooks_app import outbox
from webhooks_app.delivery.thread import EngineThread
from webhooks_app.models import OperatorAction, WebhookEvent, WebhookMessage
from webhooks_app.operators.replay import replay_one

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _quick_chores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for expired leases ten times a second instead of once."""
    monkeypatch.setattr("webhooks_app.delivery.housekeeping.INTERVAL_SECONDS", 0.1)


def hold(url: str, interval: str | None = "1 hour") -> None:
    """Hold the URL's destination for so long, or release it; recovery continues meanwhile."""
    destination_id, _ = outbox.destination_of(SCOPE, url)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE webhooks_app_webhookdestination SET held_until = now() + %s::interval"
            " WHERE id = %s",
            [interval, destination_id],
        )
    outbox.wake()


def die_once(event: WebhookEvent) -> None:
    """Let an engine die during the event's attempt, and another recover the message."""
    with connection.cursor() as cursor:
        cursor.execute(CLAIM_AND_DIE)
    wait_until(lambda: event.messages.get().lease_token is None)


def age(event: WebhookEvent, interval: str) -> None:
    """Set the event's message to have been due for this long."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE webhooks_app_webhookmessage SET next_attempt_at = now() - %s::interval"
            " WHERE event_id = %s",
            [interval, event.pk],
        )


def test_five_interruptions_in_a_row_use_up_one_retry(
    engine: EngineThread, receiver: Receiver
) -> None:
    """Four deaths cost nothing, the fifth a retry; each attempt keeps its number and its row."""
    hold(receiver.url)
    event = publish(receiver.url, policy=[30, 60])
    steps = []
    for _ in range(5):
        die_once(event)
        steps.append(event.messages.get().retry_step)
    assert steps == [0, 0, 0, 0, 1]
    message = event.messages.get()
    assert (message.status, message.attempt_count) == ("pending", 5)
    assert [a.outcome for a in attempts_of(event)] == ["interrupted"] * 5
    assert [a.attempt_number for a in attempts_of(event)] == [1, 2, 3, 4, 5]
    assert receiver.requests == []


def test_message_that_kills_every_engine_becomes_a_dead_letter(
    engine: EngineThread, receiver: Receiver, count_logged: Callable[[str], int]
) -> None:
    """A fifth death without a retry left is the end, and is logged like every dead letter."""
    hold(receiver.url)
    event = publish(receiver.url, policy=[], request_id="req-1")
    for _ in range(5):
        die_once(event)
    assert status_of(event) == "dead"
    assert event.messages.get().finished_at is not None
    wait_until(lambda: count_logged("Failed to send webhook after all retries") == 1)
    assert count_logged("request_id=req-1") == 1


def test_an_answer_between_deaths_begins_the_count_anew(
    receiver: Receiver, engine: EngineThread
) -> None:
    """Four deaths, an ordinary failure, four deaths: only the failure used up a retry."""
    receiver.answer(500)
    hold(receiver.url)
    event = publish(receiver.url, policy=[600, 600])
    for _ in range(4):
        die_once(event)
    hold(receiver.url, None)
    wait_until(lambda: event.messages.get().retry_step == 1)
    hold(receiver.url)
    for _ in range(4):
        die_once(event)
    assert (event.messages.get().retry_step, event.messages.get().interrupted_count) == (1, 4)


def test_message_held_back_for_a_day_expires_and_can_be_replayed(
    engine: EngineThread, receiver: Receiver, count_logged: Callable[[str], int]
) -> None:
    """24 h behind a pause: dead as `expired`, logged, no attempt; an hour less: still pending."""
    hold(receiver.url)
    old, younger = publish(receiver.url), publish(receiver.url, subject="task-2")
    age(old, "24 hours 1 second")
    age(younger, "23 hours")
    wait_until(lambda: status_of(old) == "dead")
    assert (old.messages.get().last_error_code, attempts_of(old)) == ("expired", [])
    assert status_of(younger) == "pending"
    wait_until(lambda: count_logged("Failed to send webhook after all retries") == 1)
    hold(receiver.url, None)
    replay_one(old.messages.get(), requested_by="operator", reason="a test", source="admin")
    wait_until(lambda: status_of(old) == status_of(younger) == "delivered")


def test_message_that_was_never_held_does_not_expire(receiver: Receiver) -> None:
    """A day without any engine kills no message: the first engine that starts delivers it."""
    event = publish(receiver.url)
    age(event, "30 hours")
    with running_engine():
        wait_until(lambda: status_of(event) == "delivered")


def test_an_engine_prunes_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any other program what is older than RETENTION_DAYS goes, on record, and no more."""
    monkeypatch.setattr("webhooks_app.delivery.housekeeping.PRUNE_AFTER_SECONDS", (0.0, 0.0))
    for days in (29, 31):
        then = timezone.now() - timedelta(days=days)
        event = factories.make_event(created_at=then)
        factories.make_message("delivered", event=event, created_at=then, finished_at=then)
    with running_engine():
        wait_until(lambda: OperatorAction.objects.exists(), timeout=30)
    assert OperatorAction.objects.get().target == "removed 1 message"
    assert WebhookMessage.objects.get().event.created_at > timezone.now() - timedelta(days=30)
