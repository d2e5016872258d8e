"""Are subscribers told once when a receiver fails or recovers, and never without end?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection

from tests.support import factories
from tests.support.receiver import Receiver
from tests.support.running import SCOPE, is_all_ended, publish, running_engine
from tests.support.waiting import wait_until
from webhooks_app import news, outbox
from webhooks_app.conf import Rate
from webhooks_app.delivery.paces import DestinationPaces
from webhooks_app.models import (
    DEAD_LETTER_RATE,
    DISABLED,
    FAILING,
    META_EVENTS,
    RECOVERED,
    WebhookDestination,
    WebhookEndpoint,
    WebhookEvent,
    WebhookMessage,
)
from webhooks_app.operators import destinations, endpoints
from webhooks_app.outbox.claim import Claimed
from webhooks_app.retry import AttemptResult, ErrorCode

pytestmark = pytest.mark.django_db(transaction=True)
ENDPOINT_EVENTS = [FAILING, DISABLED, RECOVERED]


@pytest.fixture(autouse=True)
def _quick_chores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at what changed ten times a second instead of once."""
    monkeypatch.setattr("webhooks_app.delivery.housekeeping.INTERVAL_SECONDS", 0.1)


@pytest.fixture
def subscriber() -> Iterator[Receiver]:
    """A receiver of meta events, on an origin of its own."""
    with Receiver([200]) as receiver:
        yield receiver


def told(*event_types: str) -> list[tuple[str, str]]:
    """Return (scope, type) of every meta event, or of some types, oldest first."""
    rows = WebhookEvent.objects.filter(event_type__in=event_types or META_EVENTS).order_by("id")
    return list(rows.values_list("scope", "event_type"))


def subscribe(url: str, event_types: list[str], scope: str = SCOPE) -> WebhookEndpoint:
    return endpoints.create(scope, url, actor="test", event_types=event_types)


def test_a_receiver_fails_and_recovers(receiver: Receiver, subscriber: Receiver) -> None:
    """With two engines each change is told once, to endpoints that name it, of every project."""
    subscribe(subscriber.url, ENDPOINT_EVENTS)
    subscribe(subscriber.url, ENDPOINT_EVENTS, news.INSTALLATION)
    with Receiver([200]) as other, running_engine(), running_engine():
        subscribe(other.url, [])  # every event of the project, and no meta event
        receiver.answer(500)
        for number in range(3):
            publish(receiver.url, subject=f"dead-{number}", policy=())
        wait_until(lambda: (SCOPE, FAILING) in told() and is_all_ended())
        receiver.answer(200)
        publish(receiver.url, subject="alive")
        wait_until(lambda: (SCOPE, RECOVERED) in told() and is_all_ended())
        other.wait_for(4)
    assert told() == [(scope, name) for name in (FAILING, RECOVERED) for scope in ("", SCOPE)]
    failing, recovered = (
        next(json.loads(r.body) for r in subscriber.requests if r.headers["webhook-event"] == name)
        for name in (FAILING, RECOVERED)
    )
    destination = WebhookDestination.objects.get(scope=SCOPE, port=receiver.port)
    assert set(failing) == set(META_EVENTS[FAILING].body)
    assert (failing["project_id"], failing["origin"]) == (SCOPE, destination.origin)
    assert (failing["state"], failing["reason"]) == ("failing", "dead_letter")
    assert failing["admin_url"].endswith(f"/webhookdestination/{destination.pk}/change/")
    assert (recovered["state"], recovered["reason"]) == ("recovered", "delivered")
    assert len(subscriber.requests) == 4
    assert {r.headers["webhook-event"] for r in other.requests} == {"task.completed"}
    shown = WebhookEvent.objects.filter(event_type__in=META_EVENTS, acknowledged_at=None)
    assert not shown.exists(), "the pull feed is for the project's own events"


def test_its_own_failure_is_told_to_a_receiver_only_once(receiver: Receiver) -> None:
    """An endpoint that subscribes to its own failure gets one event, though that fails as well."""
    endpoints.create(SCOPE, receiver.url, actor="test", event_types=[FAILING], retry_policy=[])
    receiver.answer(500)
    with running_engine():
        for number in range(2):
            publish(receiver.url, subject=f"dead-{number}", policy=())
            wait_until(lambda: told() == [(SCOPE, FAILING)] and is_all_ended())
    assert len(receiver.requests) == 3


@pytest.mark.parametrize("event_type", [*META_EVENTS, "webhook.ping"])
def test_how_meta_events_fare_changes_no_state(event_type: str) -> None:
    """Neither their dead letters nor their deliveries are news, or one would lead to another."""
    for code in (ErrorCode.RESET, ""):
        for kind, is_news in (("task.completed", True), (event_type, False)):
            paces = DestinationPaces()
            message = _claimed(event_type=kind)
            paces.started(message)
            paces.finished(message, AttemptResult(error_code=code), None, is_dead=bool(code))
            (row,) = paces.take_observations()
            assert ("news" in row) is is_news, (kind, code)


def _claimed(**fields: Any) -> Claimed:
    values: dict[str, Any] = dict.fromkeys(Claimed._fields, 1)
    return Claimed(**{**values, **fields})


def test_what_operators_do_is_told_once() -> None:
    """Disabling and enabling a destination or an endpoint, and a 410, are events; twice is once."""
    subscribe("http://127.0.0.1:1/ops", ENDPOINT_EVENTS)
    other = subscribe("http://127.0.0.1:2/hook", [])
    destination = WebhookDestination.objects.get(
        pk=outbox.destination_of(SCOPE, "http://127.0.0.1:3/hook")[0]
    )
    for act in (destinations.disable, destinations.enable):
        for _ in range(2):
            act(destination, actor="test", reason="test")
    for is_enabled in (False, False, True, True):
        endpoints.update(other, {"is_enabled": is_enabled}, actor="test", reason="test")
    for _ in range(2):
        news.disable_endpoint(SCOPE, other.url)
        news.disable_endpoint(SCOPE, "http://127.0.0.1:4/unknown")
    bodies = [
        json.loads(bytes(body))
        for body in WebhookEvent.objects.order_by("id").values_list("body", flat=True)
    ]
    assert [(b["state"], b["reason"], b["endpoint_id"]) for b in bodies] == [
        ("disabled", "asked", None),
        ("recovered", "asked", None),
        ("disabled", "asked", str(other.pk)),
        ("recovered", "asked", str(other.pk)),
        ("disabled", "gone", str(other.pk)),
    ]
    other.refresh_from_db()
    assert other.disabled_reason == "answered 410 Gone"


def test_many_engines_tell_one_change() -> None:
    """Of those that see a change at once, the one whose UPDATE is first tells it."""
    subscribe("http://127.0.0.1:1/ops", ENDPOINT_EVENTS)
    destination_id, _ = outbox.destination_of(SCOPE, "http://127.0.0.1:3/hook")

    def tell(_: int) -> bool:
        try:
            return news.tell_of(destination_id, FAILING, "breaker")
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(tell, range(8))) == 1
    assert told() == [(SCOPE, FAILING)]


def test_the_rate_of_dead_letters() -> None:
    """Above the limit and well below it again is told once each; not every dead letter counts."""
    rate = Rate(3, 600.0)
    for _ in range(3):
        factories.make_dead_letter()
    news.watch_dead_letters(rate)
    assert told(DEAD_LETTER_RATE) == [], "nobody has subscribed"
    subscribe("http://127.0.0.1:1/ops", [DEAD_LETTER_RATE], news.INSTALLATION)
    WebhookMessage.objects.filter(status="dead").first().delete()
    factories.make_dead_letter(last_error_code="destination_disabled")
    factories.make_dead_letter(event=factories.make_event(FAILING))
    news.watch_dead_letters(rate)
    assert told(DEAD_LETTER_RATE) == [], "of the four dead letters two count"
    factories.make_dead_letter()
    for _ in range(2):
        news.watch_dead_letters(rate)
    assert told(DEAD_LETTER_RATE) == [("", DEAD_LETTER_RATE)]
    dead = WebhookMessage.objects.filter(status="dead").order_by("-id")
    dead[:1][0].delete()
    news.watch_dead_letters(rate)  # two: no more than the limit, but not well below it
    WebhookMessage.objects.filter(status="dead").delete()
    for _ in range(2):
        news.watch_dead_letters(rate)
    bodies = WebhookEvent.objects.filter(event_type=DEAD_LETTER_RATE).order_by("id")
    shown = [json.loads(bytes(event.body)) for event in bodies]
    assert [(body["state"], body["dead_letters"]) for body in shown] == [
        ("above", 3),
        ("normal", 0),
    ]
    assert set(shown[0]) == set(META_EVENTS[DEAD_LETTER_RATE].body)
