"""Subscriptions and destinations: what operators and clients may do to them."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from django.utils import timezone

from tests.support.factories import PROJECT, make_destination, make_endpoint, make_message
from webhooks_app import outbox
from webhooks_app.egress import EgressDenied
from webhooks_app.models import OperatorAction, WebhookEndpoint, WebhookEvent, WebhookMessage
from webhooks_app.operators import destinations, endpoints
from webhooks_app.signing import store

pytestmark = pytest.mark.django_db
URL = "https://hooks.example.org/all"
LOCAL = "https://8.8.8.8/x"


def actions():
    return list(OperatorAction.objects.order_by("id").values_list("action", flat=True))


def test_an_endpoint_gets_what_it_subscribed_to_signed_with_its_own_secret():
    """Proves that a new subscription receives matching events and has a secret."""
    endpoint = endpoints.create(PROJECT, URL, actor="me", event_types=["task.completed"])
    for sequence, kind in enumerate(("task.completed", "task.failed")):
        outbox.publish(scope=PROJECT, subject="t", sequence=sequence, event_type=kind, body=b"{}")
    (message,) = WebhookMessage.objects.all()
    assert (message.endpoint_id, message.event.event_type) == (endpoint.pk, "task.completed")
    own = store.current_secrets(PROJECT, endpoint.pk)
    assert own != store.current_secrets(PROJECT)
    assert actions() == ["endpoint.create"]


def test_what_an_endpoint_refuses(monkeypatch):
    """Proves that forbidden and double URLs, bad policies and too many endpoints are refused."""
    endpoint = endpoints.create(PROJECT, URL, actor="me")
    with pytest.raises(endpoints.EndpointExists):
        endpoints.create(PROJECT, URL, actor="me")
    endpoints.create("another", URL, actor="me")
    with pytest.raises(EgressDenied):
        endpoints.create(PROJECT, "https://10.0.0.1/", actor="me")
    with pytest.raises(EgressDenied):
        endpoints.update(endpoint, {"url": "https://169.254.169.254/"}, actor="me")
    with pytest.raises(ValueError, match="policy"):
        endpoints.create(PROJECT, URL + "2", actor="me", retry_policy="sometimes")
    with pytest.raises(ValueError, match="scope"):
        endpoints.update(endpoint, {"scope": "another"}, actor="me")
    monkeypatch.setattr(endpoints, "MAX_PER_SCOPE", 1)
    with pytest.raises(endpoints.TooManyEndpoints):
        endpoints.create(PROJECT, URL + "2", actor="me")
    assert WebhookEndpoint.objects.count() == 2


def test_a_ping_reaches_its_endpoint_alone_and_nobodys_feed():
    """Proves that a test event goes to one URL, even a disabled one, and not to the pull feed."""
    make_endpoint("https://bystander.example.org/")
    endpoint = make_endpoint(URL, is_enabled=False)
    message = endpoints.ping(endpoint, actor="me")
    assert WebhookMessage.objects.get() == message
    assert (message.event.event_type, message.status) == ("webhook.ping", "pending")
    assert WebhookEvent.objects.get().acknowledged_at is not None
    endpoints.ping(endpoint, actor="me")


def test_deleting_an_endpoint_ends_what_is_pending_and_keeps_the_history():
    """Proves that a deleted subscription sends nothing more, though its messages are kept."""
    endpoint = make_endpoint(URL)
    pending = make_message(endpoint=endpoint, url=URL)
    delivered = make_message("delivered", endpoint=endpoint, url=URL)
    endpoints.delete(endpoint, actor="me")
    pending.refresh_from_db()
    delivered.refresh_from_db()
    assert (pending.status, delivered.status) == ("cancelled", "delivered")
    assert pending.endpoint_id is None


def test_a_disabled_endpoint_gets_nothing_and_enabling_it_clears_the_reason():
    """Proves that a disabled endpoint takes no event until somebody enables it again."""
    endpoint = make_endpoint(URL)
    gone = {"is_enabled": False, "disabled_reason": "the receiver answered 410 Gone"}
    endpoint = endpoints.update(endpoint, gone, actor="me")
    outbox.publish(scope=PROJECT, subject="t", sequence=1, event_type="task.failed", body=b"{}")
    assert not WebhookMessage.objects.exists()
    endpoint = endpoints.update(endpoint, {"is_enabled": True}, actor="me")
    assert (endpoint.is_enabled, endpoint.disabled_reason) == (True, "")


def test_disabling_a_destination_makes_dead_letters_of_what_is_pending():
    """Proves that nothing waits for a disabled origin, and that an attempt keeps its token."""
    destination = make_destination(LOCAL)
    token = uuid.uuid4()
    end = timezone.now() + timedelta(seconds=30)
    waiting = make_message(url=LOCAL)
    leased = make_message(url=LOCAL, lease_token=token, lease_expires_at=end, next_attempt_at=end)
    elsewhere = make_message()
    assert destinations.disable(destination, actor="me", reason="retired") == 2
    destination.refresh_from_db()
    assert destination.disabled_reason == "retired"
    for message in (waiting, leased, elsewhere):
        message.refresh_from_db()
    assert (waiting.status, waiting.last_error_code) == ("dead", "destination_disabled")
    assert (leased.status, leased.lease_token) == ("dead", token)
    assert elsewhere.status == "pending"
    late = make_message(url=LOCAL, destination=destination)  # published while it was disabled
    assert outbox.bury_disabled() == 1
    late.refresh_from_db()
    assert late.status == "dead"
    destinations.enable(destination, actor="me", reason="back")
    destination.refresh_from_db()
    assert destination.disabled_at is None
    assert actions() == ["destination.disable", "destination.enable"]


def test_pausing_resuming_and_limiting_a_destination():
    """Proves that each operator action changes its column and leaves its line."""
    destination, by = make_destination(LOCAL), {"actor": "me", "reason": "a test"}
    destinations.pause(destination, 300, **by)
    destination.refresh_from_db()
    assert destination.held_until > timezone.now()
    destinations.resume(destination, **by)
    destinations.limit_in_flight(destination, 2, **by)
    destination.refresh_from_db()
    assert (destination.held_until, destination.max_in_flight) == (None, 2)
    with pytest.raises(ValueError, match="limit"):
        destinations.limit_in_flight(destination, 0, **by)
    with pytest.raises(ValueError, match="pause"):
        destinations.pause(destination, 0, **by)
    assert actions() == ["destination.pause", "destination.resume", "destination.limit"]


def sent_to(body: bytes, event_type: str = "task.completed") -> set[str]:
    """Publish one event; return the URLs that it is owed to."""
    event = outbox.publish(
        scope=PROJECT, subject=str(uuid.uuid4()), sequence=1, event_type=event_type, body=body
    )
    return set(event.messages.values_list("url", flat=True))


MINE = {"path": "/metadata/userId", "op": "eq", "value": "user-1"}


def test_a_filter_decides_what_an_endpoint_gets(monkeypatch):
    """Proves that body and type must both fit, and that a body is read once for all filters."""
    only_mine = endpoints.create(PROJECT, URL, actor="me", filter=MINE)
    endpoints.create(PROJECT, URL + "2", actor="me", filter={"not": MINE})
    endpoints.create(PROJECT, URL + "3", actor="me", filter=MINE, event_types=["task.failed"])
    endpoints.create(PROJECT, URL + "4", actor="me")
    read, bodies = outbox.filters.read, []
    monkeypatch.setattr(outbox.filters, "read", lambda body: bodies.append(body) or read(body))
    assert sent_to(b'{"metadata": {"userId": "user-1"}}') == {URL, URL + "4"}
    assert len(bodies) == 1
    assert sent_to(b'{"metadata": {"userId": "user-2"}}') == {URL + "2", URL + "4"}
    WebhookEndpoint.objects.update(filter=None)
    bodies.clear()
    assert len(sent_to(b"{}")) == 3
    assert bodies == []
    assert outbox.has_subscriber(PROJECT, "task.progress")
    endpoints.update(only_mine, {"filter": MINE, "event_types": ["task.progress"]}, actor="me")
    assert outbox.has_subscriber(PROJECT, "task.progress"), "before there is a body"


@pytest.mark.parametrize("body", [b"no JSON", b"[" * 200_000, b'{"a": "%s"}' % (b"x" * 5_000_000)])
def test_no_body_is_too_odd_to_be_published(body):
    """Proves that what cannot be read, or is huge, has no such value, and fails nothing."""
    endpoints.create(PROJECT, URL, actor="me", filter=MINE)
    endpoints.create(PROJECT, URL + "2", actor="me", filter={"not": MINE})
    assert sent_to(body) == {URL + "2"}


@pytest.mark.parametrize("stored", [[], {}, {"all": [{"path": 1}]}, "x", {"path": "/a", "op": "="}])
def test_a_stored_filter_that_cannot_be_used_lets_everything_through(stored, capsys):
    """Proves that a row changed by hand keeps no task from ending, and that the log says so."""
    endpoint = make_endpoint(URL, filter=stored)
    assert sent_to(b"{}") == {URL}
    assert "filter is unusable" in capsys.readouterr().err
    assert endpoints.judge(endpoint, stored, body=b"{}").would_send
    with pytest.raises(ValueError, match="filter"):
        endpoints.update(endpoint, {"filter": stored}, actor="me")
