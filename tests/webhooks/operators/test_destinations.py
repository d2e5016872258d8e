"""What an operator may do to one origin: pause, disable, enable, ping; all of it recorded."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from tests.support.factories import (
    make_delivery,
    make_destination,
    make_endpoint,
    make_event,
    make_message,
)
from webhooks_app import metrics
from webhooks_app.admin.dashboard import RANGES, webhook_charts
from webhooks_app.models import OperatorAction, WebhookDestination, WebhookMessage
from webhooks_app.operators import destinations
from webhooks_app.outbox import stop

pytestmark = pytest.mark.django_db
BY = {"actor": "mara", "reason": "a test"}
OTHER = "https://other.example.org/hook"


def again(destination: WebhookDestination) -> WebhookDestination:
    """Read the row again."""
    return WebhookDestination.objects.get(pk=destination.pk)


def test_a_pause_holds_until_its_end_or_until_it_is_resumed() -> None:
    """Proves that a pause ends by the database's clock, and can be ended before."""
    place = make_destination()
    destinations.pause(place, 90, **BY)
    held_until = again(place).held_until
    assert held_until is not None
    assert timedelta(seconds=80) < held_until - timezone.now() <= timedelta(seconds=90)
    assert again(place).hold_reason == "paused"
    destinations.resume(place, **BY)
    assert again(place).held_until is None


def test_a_disabled_destination_buries_what_waits_for_it_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Proves that a backlog of more than one batch is dead afterwards, with its reason."""
    monkeypatch.setattr(stop, "BURY_BATCH", 2)
    waiting = [make_message() for _ in range(5)]
    done, elsewhere = make_message("delivered"), make_message(url=OTHER)
    place = waiting[0].destination
    assert destinations.disable(place, **BY) == 5
    rows = WebhookMessage.objects.filter(pk__in=[m.pk for m in waiting])
    ended = rows.values_list("status", "last_error_code", "next_attempt_at").distinct()
    assert list(ended) == [("dead", "destination_disabled", None)]
    assert WebhookMessage.objects.get(pk=done.pk).status == "delivered"
    assert WebhookMessage.objects.get(pk=elsewhere.pk).status == "pending"
    destinations.disable(place, actor="jon", reason="also me")
    assert again(place).disabled_reason == "a test"
    destinations.enable(place, **BY)
    assert (again(place).disabled_at, again(place).disabled_reason) == (None, "")


def test_a_ping_goes_once_to_the_url_that_was_written_to_last() -> None:
    """Proves that a test event has no retries, is not in the pull feed, and keeps its signer."""
    endpoint = make_endpoint(OTHER)
    make_message("dead", url="https://other.example.org/older")
    latest = make_message("dead", url=OTHER, endpoint=endpoint)
    message = destinations.ping(latest.destination, **BY)
    assert (message.url, message.policy, message.endpoint_id) == (OTHER, [], endpoint.pk)
    assert (message.event.event_type, message.status) == ("webhook.ping", "pending")
    assert message.event.acknowledged_at is not None


def test_a_ping_needs_a_url() -> None:
    """Proves that a destination without messages is pinged through its endpoint, or refused."""
    place = make_destination(OTHER)
    with pytest.raises(destinations.NothingToPing):
        destinations.ping(place, **BY)
    make_endpoint(OTHER)
    assert destinations.ping(place, **BY).url == OTHER


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("pause", {"seconds": 60}),
        ("resume", {}),
        ("disable", {}),
        ("enable", {}),
        ("limit_in_flight", {"limit": 3}),
        ("ping", {}),
        ("mute", {"seconds": 60}),
        ("unmute", {}),
    ],
)
def test_everything_is_on_record(name: str, options: dict[str, Any]) -> None:
    """Proves that each action leaves one line with who, what, where and why."""
    message = make_message("dead")
    getattr(destinations, name)(message.destination, **options, **BY)
    (line,) = OperatorAction.objects.all()
    assert (line.actor, line.reason) == ("mara", "a test")
    assert line.action.startswith("destination.")
    assert line.target.startswith(str(message.destination))


@pytest.mark.parametrize("seconds", [0, -5, 86_401])
def test_a_pause_out_of_range_is_refused(seconds: int) -> None:
    """Proves that a pause cannot be longer than messages may wait."""
    with pytest.raises(ValueError):
        destinations.pause(make_destination(), seconds, **BY)
    assert not OperatorAction.objects.exists()


def test_nobody_is_told_that_a_muted_destination_fails(admin_client: Client) -> None:
    """Proves it for the figure behind the alert and for the dashboard, until the time is over."""
    message = make_message("dead")
    make_delivery(message, "failed")
    place = message.destination
    WebhookDestination.objects.update(failing_messages=12)

    def told() -> list[tuple[int, int]]:
        (gauge,) = (
            g for g in metrics.database_gauges() if g.name.endswith("destination_failing_messages")
        )
        cache.clear()
        shown = webhook_charts(RANGES["1h"], timezone.now())["failing"]
        return [(len(gauge.samples), len(shown))]

    assert told() == [(1, 1)]
    page = reverse("admin:webhooks_app_webhookdestination_change", args=[place.pk])
    mute = reverse("admin:webhooks_app_webhookdestination_mute", args=[place.pk])
    admin_client.post(mute, {"hours": 2, "reason": "they know"})
    assert told() == [(0, 0)]
    assert 'data-operation="unmute"' in admin_client.get(page).content.decode()
    WebhookDestination.objects.update(muted_until=timezone.now() - timedelta(seconds=5))
    assert told() == [(1, 1)]
    destinations.mute(place, 60, **BY)
    destinations.unmute(place, **BY)
    assert told() == [(1, 1)]
    with pytest.raises(ValueError):
        destinations.mute(place, destinations.MAX_MUTE_SECONDS + 1, **BY)


def test_what_failed_at_a_destination_is_recovered_or_set_aside(admin_client: Client) -> None:
    """Proves that the buttons lead to a form that means this project's dead letters there."""
    message = make_message("dead")
    make_message("dead", url=OTHER)
    make_message("dead", event=make_event(scope="somebody_else"))
    page = reverse("admin:webhooks_app_webhookdestination_change", args=[message.destination_id])
    shown = admin_client.get(page).content.decode()
    for name, what in (("recover", "send"), ("resolve", "set_aside")):
        link = re.search(rf'href="([^"]*)" data-operation="{name}"', shown)
        assert link
        form = admin_client.get(html.unescape(link[1])).context["form"]
        names = ("status", "host", "project", "what")
        asked = {field: form.get_initial_for_field(form.fields[field], field) for field in names}
        assert asked["what"] == what
        answer = admin_client.post(link[1].partition("?")[0], {**asked, "reason": "it is back"})
        facts = dict(answer.context["facts"])
        assert (facts["projects"], "1 message" in answer.context["submit"]) == (
            f"{message.destination.scope} (1)",
            True,
        )


@pytest.mark.parametrize("limit", [0, 1001])
def test_a_limit_out_of_range_is_refused(limit: int) -> None:
    """Proves that a limit cannot stop a destination."""
    with pytest.raises(ValueError):
        destinations.limit_in_flight(make_destination(), limit, **BY)
