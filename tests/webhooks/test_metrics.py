"""Do the engine's figures say what happened on the wire?"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.utils import timezone
from prometheus_client import values

from tests.support.receiver import Receiver
from tests.support.waiting import wait_until
from webhooks_app import metrics, outbox
from webhooks_app.delivery.thread import EngineThread
from webhooks_app.models import WebhookEvent
from webhooks_app.outbox.record import first_byte_latency
from webhooks_app.retry import AttemptResult, ErrorCode

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def engine() -> Iterator[EngineThread]:
    """An engine in a thread of this process, whose figures are then this process's."""
    thread = EngineThread()
    thread.start()
    yield thread
    thread.stop()


def publish(url: str, policy: list[float]) -> WebhookEvent:
    """Owe one event to a URL."""
    target = outbox.Target(url, policy)
    return outbox.publish(
        scope="p",
        subject="t",
        sequence=1,
        event_type="task.completed",
        body=b"{}",
        is_terminal=True,
        targets=[target],
    )


class Figures:
    """The engine's figures since this was made."""

    def __init__(self) -> None:
        self._before = self._now()

    def moved(self) -> dict[str, float]:
        """Return by how much each figure has moved, without those that have not."""
        now = self._now()
        return {
            name: now[name] - self._before[name] for name in now if now[name] != self._before[name]
        }

    @staticmethod
    def _now() -> dict[str, float]:
        found = {}
        collectors = (
            metrics.attempts,
            metrics.finished,
            metrics.first_byte_seconds,
            metrics.attempt_seconds,
        )
        metrics.prepare()
        for family in (family for collector in collectors for family in collector.collect()):
            for sample in family.samples:
                if not sample.name.endswith(("_bucket", "_created")):
                    found[" ".join([sample.name, *sample.labels.values()])] = sample.value
        return found


def test_first_byte_latency_is_what_the_receiver_saw(engine: EngineThread) -> None:
    """From the event's row to the request's arrival, to within what the wire itself takes."""
    figures = Figures()
    with Receiver([200]) as receiver:
        event = publish(receiver.url, [])
        wait_until(lambda: figures.moved().get("webhooks_messages_finished_total delivered") == 1)
    moved = figures.moved()
    assert moved["webhooks_completion_to_first_byte_seconds_count new"] == 1
    seconds = moved["webhooks_completion_to_first_byte_seconds_sum new"]
    seen = receiver.requests[0].received_at - event.created_at.timestamp()
    assert seconds == pytest.approx(seen, abs=0.1)
    assert 0 < seconds <= seen + 0.01


def test_failures_and_dead_letters_are_counted_by_code(engine: EngineThread) -> None:
    """Two answers of 500 are two failed attempts, one dead message, and one first byte."""
    figures = Figures()
    with Receiver([500]) as receiver:
        publish(receiver.url, [0.05])
        wait_until(lambda: figures.moved().get("webhooks_messages_finished_total dead") == 1)
    moved = figures.moved()
    assert moved["webhooks_attempts_total failed http_status"] == 2
    assert moved["webhooks_attempt_duration_seconds_count failed"] == 2
    assert moved["webhooks_completion_to_first_byte_seconds_count new"] == 1
    assert "webhooks_messages_finished_total delivered" not in moved


@pytest.mark.django_db(transaction=False)
def test_an_attempt_that_reached_nobody_has_no_latency() -> None:
    """Without an answer there is no first byte to count."""
    assert first_byte_latency(timezone.now(), AttemptResult(error_code=ErrorCode.CONNECT)) is None


def test_many_observations_at_once_are_as_many_single_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`observe_many` fills the same buckets, count and sum as `observe`, the bounds included."""
    monkeypatch.setattr(values, "ValueClass", values.MutexValue)  # not into the shared files
    amounts = [0.0, 0.1, 0.5, 0.5, 0.7, 1.0, 99.0]
    one = metrics.BatchHistogram("test_one", "x", buckets=(0.1, 0.5, 1), registry=None)
    many = metrics.BatchHistogram("test_many", "x", buckets=(0.1, 0.5, 1), registry=None)
    for amount in amounts:
        one.observe(amount)
    many.observe_many(amounts)
    many.observe_many([])
    assert _samples(one) == _samples(many)


def _samples(histogram: metrics.BatchHistogram) -> list[tuple[str | None, float]]:
    found = [sample for family in histogram.collect() for sample in family.samples]
    return [(s.labels.get("le"), s.value) for s in found if not s.name.endswith("_created")]
