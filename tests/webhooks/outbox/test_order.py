"""Does the next event of a subject wait for the one before, where an endpoint asks for it?"""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from tests.support import factories
from tests.support.order import PROGRESS, STEP, tell, waits_for
from tests.support.running import SCOPE
from tests.support.waiting import wait_until
from webhooks_app import outbox
from webhooks_app.database import connect
from webhooks_app.models import (
    WAITS_FOR_PREDECESSOR,
    MessageStatus,
    WebhookDestination,
    WebhookEndpoint,
    WebhookEvent,
    WebhookMessage,
)
from webhooks_app.operators import destinations, endpoints
from webhooks_app.operators.replay import replay_one
from webhooks_app.outbox.claim import Connection

pytestmark = pytest.mark.django_db(transaction=True)
URL = "https://ordered.example.org/hook"


@pytest.fixture
def endpoint() -> WebhookEndpoint:
    return factories.make_endpoint(URL, scope=SCOPE, ordered=True)


def ask(work: Callable[[Connection], Any]) -> Any:
    """Let an engine's statement run on a connection of its own."""

    async def run() -> Any:
        async with await connect("test-order") as own:
            return await work(own)

    return asyncio.run(run())


def end(message: WebhookMessage, status: str, **facts: Any) -> None:
    """Give a message its end, as an attempt would, and release what waits for it."""
    now = timezone.now()
    facts |= {"delivered_at": now} if status == "delivered" else {}
    ended = {"status": status, "next_attempt_at": None, "finished_at": now, "lease_token": None}
    WebhookMessage.objects.filter(pk=message.pk).update(**ended, **facts)
    ask(lambda own: outbox.release(own, [message.pk], is_over=True))


def replay(message: WebhookMessage) -> None:
    replay_one(message, requested_by="me", source="api", reason="now")


def lease(message: WebhookMessage, seconds: float = 60.0) -> None:
    """Let an attempt at a message be under way."""
    ends = timezone.now() + timedelta(seconds=seconds)
    WebhookMessage.objects.filter(pk=message.pk).update(
        lease_token=uuid.uuid4(), lease_expires_at=ends
    )


# -- who waits ------------------------------------------------------------------------------------


def test_each_event_waits_for_the_one_before_of_its_subject(endpoint: WebhookEndpoint) -> None:
    """Three events of one task form a line; those of another, and other endpoints, do not wait."""
    first, second, third = tell(1), tell(2), tell(3)
    other = tell(1, subject="task-2")
    assert [waits_for(m) for m in (first, second, third, other)] == [
        None,
        first.pk,
        second.pk,
        None,
    ]
    end(first, "delivered")
    assert [waits_for(m) for m in (second, third)] == [None, second.pk]
    assert WebhookMessage.objects.exclude(skipped="").count() == 0


def test_nothing_waits_where_order_was_not_asked_for() -> None:
    """At an endpoint that is not ordered, and for a callback alone, all is due at once."""
    factories.make_endpoint(URL, scope=SCOPE)
    assert [waits_for(tell(n)) for n in (1, 2)] == [None, None]
    WebhookEndpoint.objects.update(ordered=True)
    factories.make_endpoint(URL + "/2", scope="another", ordered=True)
    target = outbox.Target("https://callback.example.org/")
    event = outbox.publish(
        scope="third", subject="t", sequence=1, event_type=STEP, body=b"{}", targets=[target]
    )
    assert waits_for(event.messages.get()) is None


def test_a_callback_to_the_url_of_an_ordered_endpoint_keeps_its_order(
    endpoint: WebhookEndpoint,
) -> None:
    """The callback wins, with the project's secret, and goes in the order of its URL."""
    callback = [outbox.Target(URL, [1.0])]
    first, second, third = tell(1), tell(2, targets=callback), tell(3)
    assert second.endpoint_id is None
    assert [waits_for(m) for m in (first, second, third)] == [None, first.pk, second.pk]
    WebhookEndpoint.objects.update(url=URL + "/moved")  # those of the endpoint still count
    fourth = tell(4)
    assert (fourth.url, waits_for(fourth)) == (URL + "/moved", third.pk)


def test_a_ping_does_not_wait(endpoint: WebhookEndpoint) -> None:
    """A test event goes at once, and nothing waits for it."""
    tell(1)
    assert waits_for(endpoints.ping(endpoint, actor="me")) is None


# -- what lets go ---------------------------------------------------------------------------------


def _call_off(first: WebhookMessage) -> None:
    outbox.acknowledge(WebhookEvent.objects.filter(pk=first.event_id))


def _disable(first: WebhookMessage) -> None:
    """Only the first one's destination: the endpoint has moved since."""
    destinations.disable(first.destination, actor="me", reason="gone")


def _expire(first: WebhookMessage) -> None:
    """The destination was paused for longer than a message may wait."""
    now = timezone.now()
    WebhookDestination.objects.update(held_until=now + timedelta(hours=1))
    WebhookMessage.objects.filter(pk=first.pk).update(next_attempt_at=now - timedelta(hours=25))

    async def chores(own: Connection) -> None:
        from webhooks_app.delivery.housekeeping import Housekeeping
        from webhooks_app.delivery.paces import DestinationPaces

        await Housekeeping(DestinationPaces())._expire(own)

    ask(chores)


def _supersede(first: WebhookMessage) -> None:
    event = outbox.publish(
        scope=SCOPE,
        subject="task-1",
        sequence=3,
        event_type="task.completed",
        body=b"{}",
        supersedes=first.event.event_type,
    )
    assert waits_for(event.messages.get()) == WebhookMessage.objects.get(event__sequence=2).pk


@pytest.mark.parametrize(
    ("work", "status", "is_gap"),
    [
        (_call_off, "cancelled", False),
        (_disable, "dead", True),
        (_expire, "dead", True),
        (_supersede, "superseded", False),
    ],
)
def test_every_end_lets_the_next_one_go(
    endpoint: WebhookEndpoint, work: Callable[[WebhookMessage], None], status: str, is_gap: bool
) -> None:
    """However a message ends, the next is due at once; only a dead letter is told as a gap."""
    first = tell(1, PROGRESS)
    WebhookEndpoint.objects.update(url="https://moved.example.org/")
    second = tell(2)
    assert waits_for(second) == first.pk
    work(first)
    first.refresh_from_db()
    assert first.status == status
    assert waits_for(second) is None
    assert second.skipped == (first.event.event_id if is_gap else "")


def test_the_middle_one_ends_and_the_last_waits_for_the_first(endpoint: WebhookEndpoint) -> None:
    """Who waits for a message that ends while it waits itself, waits for that one's predecessor."""
    first, second, third = tell(1), tell(2), tell(3)
    _call_off(second)
    assert waits_for(third) == first.pk
    end(first, "dead")
    assert waits_for(third) is None
    assert third.skipped == first.event.event_id


def test_a_gap_is_told_by_the_next_that_arrives(endpoint: WebhookEndpoint) -> None:
    """Also if the dead letter came long before, or what came between was superseded."""
    first = tell(1)
    end(first, "dead")
    second = tell(2, PROGRESS)
    assert second.skipped == first.event.event_id
    third = tell(3, PROGRESS, supersedes=PROGRESS)
    assert third.skipped == first.event.event_id
    end(third, "dead")
    fourth = tell(4)
    assert fourth.skipped == third.event.event_id
    end(fourth, "delivered")
    assert tell(5).skipped == ""


@pytest.mark.parametrize("status", [MessageStatus.REPLAYED, MessageStatus.SET_ASIDE])
def test_a_dead_letter_that_was_dealt_with_is_a_gap_all_the_same(
    endpoint: WebhookEndpoint, status: str
) -> None:
    """What was sent elsewhere or set aside never came to this receiver."""
    first = tell(1)
    end(first, status)
    assert tell(2).skipped == first.event.event_id


def test_replays_wait_for_nothing_and_hold_nothing_up(endpoint: WebhookEndpoint) -> None:
    """A replayed message is due at once; the next new one passes it, and still waits for others."""
    first, second = tell(1), tell(2)
    replay(second)
    assert waits_for(second) is None
    assert waits_for(tell(3)) == first.pk
    end(first, "delivered")
    end(second, "delivered")
    replay(first)
    third = WebhookMessage.objects.get(event__sequence=3)
    assert waits_for(third) is None
    end(third, "delivered")
    fourth = tell(4)
    assert (waits_for(fourth), fourth.skipped) == (None, "")


def test_what_is_ended_under_way_is_waited_for_until_its_request_is_over(
    endpoint: WebhookEndpoint,
) -> None:
    """A progress event that is superseded in flight still comes first; then the next one goes."""
    first = tell(1, PROGRESS)
    lease(first)
    second = tell(2, PROGRESS, supersedes=PROGRESS)
    first.refresh_from_db()
    assert first.status == "superseded"
    assert waits_for(second) == first.pk
    _call_off(first)
    ask(lambda own: outbox.release(own, [first.pk]))
    assert waits_for(second) == first.pk
    ask(lambda own: outbox.release(own, [first.pk], is_over=True))
    assert waits_for(second) is None


def test_orphans_are_found_however_many_wait(
    endpoint: WebhookEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a crash left waiting for an ended, leased or pruned message is found, step by step."""
    monkeypatch.setattr("webhooks_app.outbox.order.WALK", 2)
    lines = [[tell(n, subject=f"task-{line}") for n in (1, 2, 3)] for line in range(4)]
    ended, pruned, dead_engine, alive = (line[0] for line in lines)
    gone = {"status": "delivered", "next_attempt_at": None, "delivered_at": timezone.now()}
    WebhookMessage.objects.filter(pk__in=[ended.pk, pruned.pk]).update(**gone)
    pruned.delete()
    lease(dead_engine, -1.0)
    WebhookMessage.objects.filter(pk=dead_engine.pk).update(
        status="cancelled", next_attempt_at=None
    )
    lease(alive)

    async def look(own: Connection) -> list[int]:
        beyond, found = 0, []
        for _ in range(5):
            beyond, orphaned = await outbox.orphans(own, beyond)
            found += orphaned
            await outbox.release(own, orphaned)
        assert beyond == 0, "the walk begins anew"
        return found

    found = ask(look)
    assert sorted(found) == sorted([ended.pk, lines[1][1].after_id, dead_engine.pk])
    waiting = [waits_for(line[1]) is None for line in lines]
    assert waiting == [True, True, True, False]


def test_switching_order_off_lets_all_go(endpoint: WebhookEndpoint) -> None:
    """What waits at an endpoint that is ordered no more is due at once, callbacks included."""
    first, second = tell(1), tell(2)
    third = tell(3, targets=[outbox.Target(URL)])
    elsewhere = factories.make_endpoint(URL, scope="another", ordered=True)
    kept = [
        outbox.publish(
            scope="another", subject="t", sequence=n, event_type=STEP, body=b"{}"
        ).messages.get()
        for n in (1, 2)
    ]
    endpoints.update(endpoint, {"ordered": False}, actor="me")
    assert [waits_for(m) for m in (first, second, third)] == [None] * 3
    assert waits_for(tell(4)) is None
    assert (elsewhere.ordered, waits_for(kept[1])) == (True, kept[0].pk)


# -- races ----------------------------------------------------------------------------------------


def test_an_end_and_the_next_event_cannot_miss_each_other(endpoint: WebhookEndpoint) -> None:
    """An end that comes while the next event is being published waits for it, and releases it."""
    first = tell(1)

    def record() -> None:
        end(first, "delivered")
        connection.close()

    recording = threading.Thread(target=record)
    with transaction.atomic():
        second = tell(2)
        recording.start()
        with pytest.raises(AssertionError):
            wait_until(lambda: not recording.is_alive(), timeout=0.3)
    recording.join(10)
    assert waits_for(second) is None


def test_publishing_without_order_or_filters_asks_no_more(
    django_assert_num_queries: Any,
) -> None:
    """An endpoint with neither costs the queries that it cost before there were any."""
    endpoint = factories.make_endpoint(URL, scope=SCOPE)
    tell(1)
    with django_assert_num_queries(6):  # endpoints, event, destination, message, notify; ours
        tell(2)
    WebhookEndpoint.objects.filter(pk=endpoint.pk).update(
        filter={"path": "/sequence", "op": "exists"}
    )
    with django_assert_num_queries(6):
        tell(3)


def test_a_waiting_message_is_far_in_the_future_for_python_too(endpoint: WebhookEndpoint) -> None:
    """The database's constant and ours are one moment."""
    tell(1)
    assert tell(2).next_attempt_at == WAITS_FOR_PREDECESSOR
