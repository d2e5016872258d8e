"""Can any number of engines share the outbox without taking one message twice?"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from typing import Any

import psycopg
import pytest
from django.db import DatabaseError, connection, transaction
from django.db.models import Count, F
from django.utils import timezone

from tests.support import factories
from tests.support.answers import Answer
from tests.support.receiver import Receiver
from tests.support.running import (
    CLAIM_AND_DIE,
    attempts_of,
    is_all_ended,
    publish,
    publish_bulk,
    running_engine,
    status_of,
)
from tests.support.waiting import wait_until
from webhooks_app import outbox
from webhooks_app.database import connect
from webhooks_app.delivery.thread import EngineThread
from webhooks_app.models import MessageStatus, WebhookDelivery, WebhookMessage
from webhooks_app.outbox.stop import supersede

pytestmark = pytest.mark.django_db(transaction=True)

# The nightly run sets RACE_ROWS=10000.
ROWS = int(os.environ.get("RACE_ROWS", "2000"))
DESTINATIONS = 20


def claim_all(barrier: threading.Barrier, claimed: list[outbox.Claimed]) -> None:
    """Claim as an engine does, as fast as the database answers, until nothing is due."""

    async def run() -> None:
        async with await connect("test-claim") as own:
            barrier.wait(10)
            while batch := await _claim(own):
                claimed.extend(batch)

    asyncio.run(run())


async def _claim(own: outbox.Connection) -> Sequence[outbox.Claimed]:
    return await outbox.claim(
        own,
        token=uuid.uuid4(),
        limit=16,
        default_seats=4,
        known_seats={},
        lease_seconds=60,
    )


@pytest.mark.parametrize("engines", [2, 4, 8])
def test_racing_claims_never_share_a_message(engines: int) -> None:
    """F9, W9: 2, 4 and 8 claimers from one barrier take 2,000 rows, each row exactly once."""
    for number in range(DESTINATIONS):
        publish_bulk(f"http://127.0.0.1:{20_000 + number}/", ROWS // DESTINATIONS)
    barrier, taken = threading.Barrier(engines), [[] for _ in range(engines)]  # type: ignore[var-annotated]
    threads = [threading.Thread(target=claim_all, args=[barrier, own]) for own in taken]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    times = Counter(message.message_id for own in taken for message in own)
    assert len(times) == ROWS
    assert set(times.values()) == {1}, "a message was claimed twice"
    assert sum(1 for own in taken if own) == engines, "somebody took no part in the race"
    assert WebhookDelivery.objects.count() == ROWS
    assert set(WebhookMessage.objects.values_list("attempt_count", flat=True)) == {1}


@pytest.mark.parametrize("engines", [2, 8])
def test_racing_engines_deliver_every_message_once(engines: int) -> None:
    """F9: whole engines over real sockets: each of 2,000 messages arrives, none of them twice."""
    with ExitStack() as stack:
        receivers = [stack.enter_context(Receiver([200])) for _ in range(8)]
        for receiver in receivers:
            publish_bulk(receiver.url, ROWS // len(receivers))
        for _ in range(engines):
            stack.enter_context(running_engine())
        wait_until(is_all_ended, timeout=30)
        ids = [r.headers["webhook-id"] for receiver in receivers for r in receiver.requests]
    assert len(ids) == len(set(ids)) == ROWS
    assert set(WebhookMessage.objects.values_list("status", flat=True)) == {"delivered"}
    assert WebhookDelivery.objects.filter(outcome="succeeded").count() == ROWS


def test_racing_recoveries_take_back_each_lost_message_once() -> None:
    """Eight engines find 2,000 leases of dead ones at once: one interruption each, then sent."""
    with ExitStack() as stack:
        receivers = [stack.enter_context(Receiver([200])) for _ in range(4)]
        for receiver in receivers:
            publish_bulk(receiver.url, ROWS // len(receivers))
        with connection.cursor() as cursor:
            cursor.execute(CLAIM_AND_DIE)
        for _ in range(8):
            stack.enter_context(running_engine())
        wait_until(is_all_ended, timeout=30)
        ids = [r.headers["webhook-id"] for receiver in receivers for r in receiver.requests]
    assert len(ids) == len(set(ids)) == ROWS
    outcomes = WebhookDelivery.objects.values_list("attempt_number", "outcome")
    assert Counter(outcomes) == {(1, "interrupted"): ROWS, (2, "succeeded"): ROWS}
    steps = WebhookMessage.objects.values_list("retry_step", "attempt_count", "status").distinct()
    assert list(steps) == [(0, 2, "delivered")]


def test_attempt_numbers_have_no_gap_when_engines_share_the_retries(settings: Any) -> None:
    """I10: retries by any of three engines are numbered 1, 2, 3, 4."""
    settings.WEBHOOKS = {**settings.WEBHOOKS, "BREAKER_THRESHOLD": 1_000}
    with ExitStack() as stack:
        receiver = stack.enter_context(Receiver([503]))
        publish_bulk(receiver.url, 40, policy=[0.01, 0.01, 0.01])
        for _ in range(3):
            stack.enter_context(running_engine())
        wait_until(is_all_ended, timeout=20)
    numbers = WebhookDelivery.objects.values_list("message", "attempt_number")
    assert Counter(number for _, number in numbers) == dict.fromkeys((1, 2, 3, 4), 40)
    counted = WebhookMessage.objects.annotate(rows=Count("deliveries"))
    assert not counted.exclude(rows=F("attempt_count")).exists()


@pytest.mark.parametrize("end", [MessageStatus.CANCELLED, MessageStatus.SUPERSEDED])
def test_message_that_ended_under_way_keeps_its_end_and_its_attempt_its_truth(
    engine: EngineThread, receiver: Receiver, end: str
) -> None:
    """An answer after an acknowledgement closes its own row and does not move the message."""
    receiver.answer(Answer(500, delay=0.3))
    event = publish(receiver.url)
    receiver.wait_for(1)
    event.messages.update(status=end, next_attempt_at=None)
    wait_until(lambda: attempts_of(event)[0].outcome == "failed")
    assert status_of(event) == end
    assert event.messages.get().retry_step == 0


def test_late_answer_does_not_move_a_message_that_another_engine_has(
    engine: EngineThread, receiver: Receiver
) -> None:
    """An engine whose lease was given to another closes its attempt, and leaves the message."""
    receiver.answer(Answer(200, delay=0.3))
    event = publish(receiver.url)
    receiver.wait_for(1)
    other = uuid.uuid4()
    event.messages.update(
        lease_token=other, lease_expires_at=timezone.now() + timedelta(seconds=60)
    )
    wait_until(lambda: attempts_of(event)[0].outcome == "succeeded")
    message = event.messages.get()
    assert (message.status, message.lease_token) == (MessageStatus.PENDING, other)


def test_pruning_beside_deliveries_holds_nobody_up(
    engine: EngineThread, receiver: Receiver
) -> None:
    """4,000 old messages are deleted while new ones are delivered without delay."""
    url = "http://127.0.0.1:20000/"
    then = timezone.now() - timedelta(days=40)
    with transaction.atomic():  # so that the engine never sees them pending
        publish_bulk(url, 4_000)
        WebhookMessage.objects.update(
            status="delivered", next_attempt_at=None, created_at=then, finished_at=then
        )
    pruning = threading.Thread(target=_prune)
    pruning.start()
    latencies = []
    while pruning.is_alive() or len(latencies) < 20:
        started_at = time.monotonic()
        publish(receiver.url, subject=f"new-{len(latencies)}")
        receiver.wait_for(len(latencies) + 1)
        latencies.append(time.monotonic() - started_at)
    assert max(latencies) < 3.0
    assert not WebhookMessage.objects.filter(url=url).exists()
    assert WebhookMessage.objects.count() == len(latencies)


def _prune() -> None:
    try:
        outbox.prune()
    finally:
        connection.close()


def test_ending_a_task_and_recording_its_progress_never_deadlock() -> None:
    """The end supersedes 30 progress messages while an engine records them, without a deadlock."""
    failures: list[Exception] = []
    for number in range(8):
        subject, rows = _progress_under_way(number)
        barrier = threading.Barrier(2)
        threads = [
            threading.Thread(target=_meet, args=[barrier, failures, work])
            for work in (partial(_end, subject), partial(_record, rows))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert failures == []


def _progress_under_way(number: int) -> tuple[str, list[outbox.Outcome]]:
    """Make one progress event owed to 30 URLs, all under way; return it and their outcomes."""
    subject = f"task-{number}"
    urls = [f"http://host-{n}.example.org/" for n in range(30)]
    event = outbox.publish(
        scope="p",
        subject=subject,
        sequence=1,
        event_type="task.progress",
        body=b"{}",
        targets=[outbox.Target(url) for url in urls],
    )
    token = uuid.uuid4()
    event.messages.update(lease_token=token, lease_expires_at=timezone.now(), attempt_count=1)
    claimed = dict.fromkeys(outbox.Claimed._fields)
    rows = []
    for message in event.messages.order_by("-id"):
        delivery = factories.make_delivery(message, "pending", attempt_number=1)
        facts = {"message_id": message.pk, "delivery_id": delivery.pk, "retry_step": 0}
        one = outbox.Claimed(**{**claimed, **facts, "attempt_number": 1})  # type: ignore[arg-type]
        rows.append(outbox.interrupted_outcome(one, token))
    return subject, rows


def _meet(barrier: threading.Barrier, failures: list[Exception], work: Callable[[], None]) -> None:
    try:
        barrier.wait(5)
        work()
    except (DatabaseError, psycopg.Error) as error:
        failures.append(error)
    finally:
        connection.close()


def _end(subject: str) -> None:
    with transaction.atomic():
        supersede(subject, "task.progress")


def _record(rows: list[outbox.Outcome]) -> None:
    async def run() -> None:
        async with await connect("test-record") as own:
            await outbox.record(own, rows)

    asyncio.run(run())
