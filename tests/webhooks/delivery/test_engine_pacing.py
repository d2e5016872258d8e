"""Does the engine itself respect windows, breakers, holds and operators' settings?

`test_pace` tests the state machine; here a real engine meets real receivers, and what counts is
what arrives there and what the rows say.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import pytest
from django.utils import timezone

from tests.support import answers
from tests.support.answers import Answer
from tests.support.receiver import Receiver, Request
from tests.support.running import (
    attempts_of,
    is_all_ended,
    publish,
    publish_bulk,
    running_engine,
    status_of,
)
from tests.support.waiting import wait_until
from webhooks_app.delivery.paces import DestinationPaces
from webhooks_app.delivery.thread import EngineThread
from webhooks_app.models import WebhookDelivery, WebhookDestination, WebhookMessage
from webhooks_app.operators import destinations
from webhooks_app.outbox.claim import Claimed
from webhooks_app.retry import AttemptResult

pytestmark = pytest.mark.django_db(transaction=True)


def configure(settings: Any, **values: Any) -> None:
    """Change some of the webhook settings for this test."""
    settings.WEBHOOKS = {**settings.WEBHOOKS, **values}


def overlaps(requests: Sequence[Request], seconds: float) -> list[int]:
    """Return, for each request, how many were under way when it came; each took ``seconds``."""
    times = [request.received_at for request in requests]
    return [sum(1 for other in times if at - seconds * 0.7 < other <= at) for at in times]


def only_destination() -> WebhookDestination:
    """Return the only destination of this test from the database."""
    return WebhookDestination.objects.get()


# -- the window -----------------------------------------------------------------------------------


def test_window_starts_at_four_and_grows_up_to_its_limit(
    engine: EngineThread, receiver: Receiver
) -> None:
    """Fast answers give a destination more seats, from 4 to at most 20."""
    receiver.answer(Answer(200, delay=0.02))
    publish_bulk(receiver.url, 400)
    wait_until(is_all_ended, timeout=20)
    under_way = overlaps(receiver.requests, 0.02)
    assert max(under_way[:4]) <= 4
    assert 8 < max(under_way) <= 20
    wait_until(lambda: only_destination().window == 20)  # as operators see it


@pytest.mark.parametrize("trouble", ["429", "503", "timeout"])
def test_trouble_halves_the_window(
    engine: EngineThread, receiver: Receiver, settings: Any, trouble: str
) -> None:
    """429, 503 and time-outs leave two seats of four, then one: a troubled receiver is spared."""
    configure(settings, BREAKER_THRESHOLD=1_000, TIMEOUT_SECONDS=0.5)
    delay = 0.5 if trouble == "timeout" else 0.3
    receiver.answer(answers.hang() if trouble == "timeout" else Answer(int(trouble), delay=delay))
    publish_bulk(receiver.url, 9)
    wait_until(is_all_ended)
    under_way = overlaps(receiver.requests, delay)
    assert max(under_way[:4]) == 4
    assert max(under_way[4:6]) == 2
    assert max(under_way[7:]) == 1
    wait_until(lambda: only_destination().window == 1)


def test_operators_limit_binds_before_and_while_the_engine_knows_the_destination(
    engine: EngineThread, receiver: Receiver
) -> None:
    """An operator's limit of one applies to a new destination, and to a known one in seconds."""
    receiver.answer(Answer(200, delay=0.03))
    publish(receiver.url)
    receiver.wait_for(1)
    destinations.limit_in_flight(only_destination(), 1, actor="operator", reason="a test")
    wait_until(lambda: status_of_all() == {"delivered"})
    # One round of the engine's chores later at most it knows.
    before = only_destination().last_success_at
    publish(receiver.url, subject="task-2")
    wait_until(lambda: only_destination().last_success_at not in (before, None))
    seen = len(receiver.requests)
    publish_bulk(receiver.url, 10)
    engine.wake()
    wait_until(is_all_ended)
    assert max(overlaps(receiver.requests[seen:], 0.03)) == 1


def status_of_all() -> set[str]:
    """Return the messages' states."""
    return set(WebhookMessage.objects.values_list("status", flat=True))


# -- the breaker ----------------------------------------------------------------------------------


def test_breaker_opens_probes_with_one_and_lets_all_through_again(
    engine: EngineThread, receiver: Receiver, settings: Any
) -> None:
    """Three distinct failures hold the rest without rows; one probe at a time; then all go."""
    configure(
        settings,
        BREAKER_THRESHOLD=3,
        DESTINATION_START_WINDOW=1,  # one after the other: no fourth is under way meanwhile
        DESTINATION_MAX_WINDOW=1,
        BREAKER_COOLDOWN_SECONDS=2,
        BREAKER_COOLDOWN_MAX_SECONDS=2,
    )
    receiver.answer(500)
    publish_bulk(receiver.url, 12, policy=[0.1, 0.1, 0.1, 0.1])
    held = wait_until(lambda: WebhookDestination.objects.filter(hold_reason="breaker").first())
    assert (held.breaker_state, held.failing_messages) == ("open", 3)
    assert held.held_until > timezone.now()
    assert WebhookDelivery.objects.count() == len(receiver.requests) == 3
    probe = receiver.wait_for(4)[3]
    wait_until(lambda: WebhookDelivery.objects.filter(outcome="failed").count() == 4)
    # A message that has waited probes, not one that failed before; and it alone.
    assert probe.headers["webhook-attempt"] == "1"
    receiver.answer(200)
    wait_until(is_all_ended, timeout=15)
    assert status_of_all() == {"delivered"}
    waited = WebhookMessage.objects.filter(attempt_count=1)
    assert waited.count() == 8, "waiting behind the breaker must cost no attempt"
    assert set(waited.values_list("retry_step", flat=True)) == {0}
    wait_until(lambda: only_destination().breaker_state == "closed")


def test_one_message_to_a_failing_receiver_keeps_its_exact_schedule(
    engine: EngineThread, receiver: Receiver, settings: Any
) -> None:
    """The breaker counts messages, not attempts: seven failures of one never hold it back."""
    configure(settings, BREAKER_THRESHOLD=2, BREAKER_COOLDOWN_SECONDS=60)
    receiver.answer(500)
    waits = [0.1, 0.2, 0.1, 0.3, 0.1, 0.1]
    event = publish(receiver.url, policy=waits)
    wait_until(lambda: status_of(event) == "dead")
    times = [attempt.started_at.timestamp() for attempt in attempts_of(event)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    # By the one clock that decides, the database's: never early; late by what a busy machine takes.
    assert all(wait <= gap < wait + 2 for gap, wait in zip(gaps, waits, strict=True))


def test_operator_resumes_an_open_breaker_at_once(
    engine: EngineThread, receiver: Receiver, settings: Any
) -> None:
    """`resume` closes the engine's breaker hours before its cooldown ends."""
    configure(settings, BREAKER_THRESHOLD=2, BREAKER_COOLDOWN_SECONDS=300)
    receiver.answer(500)
    publish_bulk(receiver.url, 6, policy=[0.1])
    wait_until(lambda: only_destination().hold_reason == "breaker")
    receiver.answer(200)
    destinations.resume(only_destination(), actor="operator", reason="a test")
    wait_until(is_all_ended)
    assert status_of_all() == {"delivered"}


# -- holds and disabling --------------------------------------------------------------------------


def test_retry_after_holds_the_neighbours_for_a_moment(
    engine: EngineThread, receiver: Receiver
) -> None:
    """After 429 with Retry-After: 2 another message of the origin waits, and is then sent."""
    receiver.answer(answers.retry_after("2"), 200)
    first = publish(receiver.url, policy=[0.1])
    wait_until(lambda: len(attempts_of(first)) == 1 and attempts_of(first)[0].outcome == "failed")
    second = publish(receiver.url + "/other", subject="task-2")
    wait_until(lambda: status_of(first) == status_of(second) == "delivered")
    begun = receiver.requests[0].received_at
    assert all(1.9 <= r.received_at - begun <= 8 for r in receiver.requests[1:])
    assert len(attempts_of(second)) == 1


def test_disabling_under_way_ends_the_messages_and_keeps_the_attempts_truth(
    engine: EngineThread, receiver: Receiver
) -> None:
    """Disabled with one request under way and one waiting: both dead, the request's row true."""
    receiver.answer(Answer(200, delay=0.5))
    under_way = publish(receiver.url)
    receiver.wait_for(1)
    destinations.pause(only_destination(), 60, actor="operator", reason="a test")
    waiting = publish(receiver.url, subject="task-2")
    destinations.disable(only_destination(), actor="operator", reason="gone for good")
    later = publish(receiver.url, subject="task-3")
    for event in (under_way, waiting, later):
        wait_until(lambda event=event: status_of(event) == "dead")
        assert event.messages.get().last_error_code == "destination_disabled"
    wait_until(lambda: attempts_of(under_way)[0].outcome == "succeeded")
    assert status_of(under_way) == "dead"
    assert attempts_of(waiting) == attempts_of(later) == []


# -- projects among each other --------------------------------------------------------------------


def test_project_with_many_hanging_origins_leaves_seats_for_the_others(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F23: 40 requests to ten origins that hang never take an engine's last seats."""
    monkeypatch.setattr("webhooks_app.delivery.engine.DRAIN_SECONDS", 0.1)
    configure(settings, MAX_IN_FLIGHT=16, TIMEOUT_SECONDS=20)
    with ExitStack() as stack:
        hanging = [stack.enter_context(Receiver([answers.hang()])) for _ in range(10)]
        healthy = stack.enter_context(Receiver([200]))
        for receiver in hanging:
            publish_bulk(receiver.url, 4, scope="noisy_neighbour")
        stack.enter_context(running_engine())
        wait_until(lambda: sum(len(receiver.requests) for receiver in hanging) >= 12)
        event = publish(healthy.url)
        wait_until(lambda: status_of(event) == "delivered", timeout=8)
        assert sum(len(receiver.requests) for receiver in hanging) == 12


def test_hold_is_told_once_so_that_a_late_result_undoes_no_resume(settings: Any) -> None:
    """A late failure of an open request does not report the breaker's hold again."""
    configure(settings, BREAKER_THRESHOLD=2)
    paces, failed = DestinationPaces(), AttemptResult(status=500, error_code="http_status")
    messages = [
        Claimed._make([number, *[None] * (len(Claimed._fields) - 1)])._replace(destination_id=1)
        for number in range(3)
    ]
    for message in messages:
        paces.started(message)
    for message in messages[:2]:
        paces.finished(message, failed, None)
    assert paces.take_observations()[0]["hold"] > 0
    paces.finished(messages[2], failed, None)
    assert paces.take_observations()[0]["hold"] is None
