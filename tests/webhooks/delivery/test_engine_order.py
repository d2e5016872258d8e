"""Do engines keep the order of a subject's events, through retries, pauses and deaths?"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from tests.support import factories
from tests.support.answers import Answer
from tests.support.order import tell, waits_for
from tests.support.receiver import Receiver, Request
from tests.support.running import CLAIM_AND_DIE, SCOPE, is_all_ended, running_engine
from tests.support.waiting import wait_until
from webhooks_app.models import WebhookMessage
from webhooks_app.operators import destinations

pytestmark = pytest.mark.django_db(transaction=True)


class Line:
    """What a receiver saw of each subject: which sequence began and ended when."""

    def __init__(self) -> None:
        self.seen: dict[str, list[tuple[int, str]]] = {}

    def note(self, request: Request) -> None:
        told = json.loads(request.body)
        skipped = request.headers.get("webhook-skipped", "")
        self.seen.setdefault(told["subject"], []).append((told["sequence"], skipped))


def test_engines_keep_the_order_through_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two engines, a slow receiver with failures: each subject's events come one after another.

    The next one goes as soon as the one before was recorded, not when somebody looks for orphans.
    """
    monkeypatch.setattr("webhooks_app.delivery.housekeeping.INTERVAL_SECONDS", 60.0)
    line = Line()
    script = [Answer(status, delay=0.02) for status in (500, 200, 200, 503, 200)] * 20
    with Receiver(script, on_request=line.note) as receiver:
        factories.make_endpoint(receiver.url, scope=SCOPE, ordered=True, retry_policy=[0.05] * 9)
        with running_engine(), running_engine():
            for sequence in range(1, 6):
                for subject in ("a", "b", "c"):
                    tell(sequence, subject=subject)
            wait_until(is_all_ended, timeout=30)
    assert set(WebhookMessage.objects.values_list("status", flat=True)) == {"delivered"}
    for subject, seen in line.seen.items():
        numbers = [number for number, _ in seen]
        assert numbers == sorted(numbers), (subject, numbers)
        assert set(numbers) == {1, 2, 3, 4, 5}
        assert {skipped for _, skipped in seen} == {""}


def test_a_dead_letter_lets_the_next_go_and_the_header_says_so() -> None:
    """The receiver reads in `webhook-skipped` which event it missed, once."""
    with Receiver([500, 500, 200]) as receiver:
        factories.make_endpoint(receiver.url, scope=SCOPE, ordered=True, retry_policy=[0.02])
        first, second, third = tell(1), tell(2), tell(3)
        with running_engine():
            wait_until(is_all_ended)
        told = [(r.message_id, r.headers.get("webhook-skipped")) for r in receiver.requests]
    ids = [message.event.event_id for message in (first, second, third)]
    assert told == [(ids[0], None), (ids[0], None), (ids[1], ids[0]), (ids[2], None)]


def test_a_paused_destination_holds_the_whole_line_and_nothing_expires(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """Waiting behind a predecessor is no waiting of one's own: only the first one expires."""
    monkeypatch.setattr("webhooks_app.delivery.housekeeping.INTERVAL_SECONDS", 0.1)
    settings.WEBHOOKS = {**settings.WEBHOOKS, "MESSAGE_MAX_WAIT": 3600}
    with Receiver([200]) as receiver:
        factories.make_endpoint(receiver.url, scope=SCOPE, ordered=True)
        first, second, third = tell(1), tell(2), tell(3)
        destinations.pause(first.destination, 600, actor="me", reason="repairs")
        two_hours_ago = timezone.now() - timedelta(hours=2)
        WebhookMessage.objects.update(created_at=two_hours_ago)
        WebhookMessage.objects.filter(pk=first.pk).update(next_attempt_at=two_hours_ago)
        with running_engine():
            wait_until(lambda: waits_for(second) is None)
            first.refresh_from_db()
            assert (first.status, first.last_error_code) == ("dead", "expired")
            assert waits_for(third) == second.pk
            destinations.resume(first.destination, actor="me", reason="repaired")
            wait_until(is_all_ended)
        assert [json.loads(r.body)["sequence"] for r in receiver.requests] == [2, 3]
    assert receiver.requests[0].headers["webhook-skipped"] == first.event.event_id


def test_the_next_one_goes_after_the_engine_of_the_first_died(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An attempt that its engine left behind is repeated before the next event goes."""
    monkeypatch.setattr("webhooks_app.delivery.housekeeping.INTERVAL_SECONDS", 0.1)
    with Receiver([200]) as receiver:
        factories.make_endpoint(receiver.url, scope=SCOPE, ordered=True)
        tell(1)
        with connection.cursor() as cursor:
            cursor.execute(CLAIM_AND_DIE)
        tell(2)
        with running_engine():
            wait_until(is_all_ended)
        assert [json.loads(r.body)["sequence"] for r in receiver.requests] == [1, 2]
