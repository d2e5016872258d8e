"""Is the dashboard right? Its numbers are compared with the rows."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.admin import site
from django.core.cache import cache
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone

from moviesvc.dashboard import navigation
from tasks_app.admin.dashboard import task_charts
from tests.support import factories
from webhooks_app.admin.bars import Chart
from webhooks_app.admin.dashboard import RANGES, webhook_charts

pytestmark = pytest.mark.django_db
HOUR = RANGES["1h"]


@pytest.fixture(autouse=True)
def no_older_numbers() -> None:
    """Clear the cache, which would keep numbers from one test to the next."""
    cache.clear()


def webhooks() -> dict[str, Any]:
    """Return what is shown of webhooks for the last hour."""
    return webhook_charts(HOUR, timezone.now())


def tasks() -> dict[str, Any]:
    """Return what is shown of tasks for the last hour."""
    return task_charts(HOUR, timezone.now())


def cards(shown: dict[str, Any]) -> dict[str, str]:
    """Return name -> value."""
    return {card["name"]: card["value"] for card in shown["cards"]}


def buckets(chart: Chart) -> dict[str, str]:
    """Return time -> text at the pointer, for buckets that are not empty."""
    told = (hover.text.partition("\n") for hover in chart.hovers)
    return {time: text for time, _, text in told if re.search(r"[1-9]", text)}


def minutes_ago(number: int) -> Any:
    """Return the middle of a minute, so that no test runs over a full minute."""
    return timezone.now().replace(second=30) - timedelta(minutes=number)


def test_deliveries_are_counted_by_outcome_where_they_happened() -> None:
    """Shows each attempt in its minute under its outcome, and none from before the range."""
    early, late = minutes_ago(40), minutes_ago(5)
    for outcome, at, count in (
        ("succeeded", early, 2),
        ("failed", early, 1),
        ("succeeded", late, 3),
        ("interrupted", late, 1),
        ("failed", timezone.now() - timedelta(minutes=90), 4),
    ):
        for _ in range(count):
            factories.make_delivery(outcome=outcome, started_at=at)
    shown = webhooks()
    outcomes = buckets(shown["outcomes"])
    assert outcomes == {
        f"{early:%H:%M}": "succeeded: 2\nfailed: 1\ninterrupted: 0",
        f"{late:%H:%M}": "succeeded: 3\nfailed: 0\ninterrupted: 1",
    }
    assert buckets(shown["success"]) == {
        f"{early:%H:%M}": "success rate: 67 %",
        f"{late:%H:%M}": "success rate: 100 %",
    }
    assert cards(shown)["Delivered"] == "5"
    assert cards(shown)["Success rate"] == "83.3 %"


def test_percentiles_are_those_of_the_minute() -> None:
    """Shows p50, p95 and p99 of a hundred attempts."""
    at = minutes_ago(10)
    message = factories.make_message("delivered")
    for number in range(1, 101):
        factories.make_delivery(message, started_at=at, duration_ms=10.0 * number)
    assert buckets(webhooks()["latency"]) == {
        f"{at:%H:%M}": "p50: 505 ms\np95: 950 ms\np99: 990 ms"
    }


def test_what_is_owed_is_counted_and_led_to() -> None:
    """Shows dead letters of the range, the backlog, and the age of its oldest message."""
    factories.make_message("dead")
    old = timezone.now() - timedelta(hours=2)
    factories.make_message("dead", finished_at=old)
    late = factories.make_message(next_attempt_at=timezone.now() - timedelta(minutes=5))
    factories.make_message(next_attempt_at=timezone.now() - timedelta(minutes=1))
    factories.make_message(next_attempt_at=timezone.now() + timedelta(minutes=5))
    shown = webhooks()
    assert cards(shown) | {"Dead letters": "1", "Waiting": "3", "Oldest due": "5 min"} == cards(
        shown
    )
    oldest = next(card for card in shown["cards"] if card["name"] == "Oldest due")
    assert oldest["tone"] == "bad"
    assert oldest["link"] == reverse("admin:webhooks_app_webhookmessage_change", args=[late.pk])


def test_lateness_of_a_held_destination_is_said_to_be_its_own() -> None:
    """Shows that messages behind a pause do not make the service look slow."""
    hold = timezone.now() + timedelta(minutes=5)
    place = factories.make_destination(held_until=hold, hold_reason="paused")
    due = timezone.now() - timedelta(minutes=3)
    factories.make_message(destination=place, next_attempt_at=due)
    oldest = next(card for card in webhooks()["cards"] if card["name"] == "Oldest due")
    assert (oldest["tone"], oldest["note"]) == ("warn", "held back")


def test_failing_destinations_are_ordered_and_say_how_they_fail() -> None:
    """Shows the worst one first, with the answer that it gave most often."""
    for host, failures in (("one", [500]), ("three", [503, 502, 503])):
        message = factories.make_message("dead", url=f"https://{host}.example.org/")
        for status in failures:
            factories.make_delivery(message, "failed", response_status=status)
    message = factories.make_message("dead", url="https://two.example.org/")
    for _ in range(2):
        factories.make_delivery(message, "failed", response_status=None, error_code="timeout")
    assert [(row.name, row.value) for row in webhooks()["failing"]] == [
        ("https://three.example.org", "3 failed, mostly 503"),
        ("https://two.example.org", "2 failed, mostly timeout"),
        ("https://one.example.org", "1 failed, mostly 500"),
    ]


def test_queue_is_shown_by_type_and_state_and_types_by_slowness() -> None:
    """Shows queued and running tasks of each type, and the slowest type first."""
    for kind, queued, running in (("video_generation", 2, 1), ("audio_generation", 1, 0)):
        for status, count in (("queued", queued), ("processing", running)):
            for _ in range(count):
                factories.make_task(status, task_type=kind)
    now = timezone.now()
    for kind, seconds in (("image_generation", 4), ("video_generation", 40)):
        started = now - timedelta(seconds=seconds)
        factories.make_task("completed", task_type=kind, started_at=started, finished_at=now)
    shown = tasks()
    assert {row.name: row.value for row in shown["queue"]} == {
        "video generation": "1 running, 2 queued",
        "image generation": "0 running, 0 queued",
        "audio generation": "0 running, 1 queued",
    }
    assert [(row.name, row.value) for row in shown["slowest"]] == [
        ("video generation", "half within 40 s, 95 % within 40 s, of 1"),
        ("image generation", "half within 4 s, 95 % within 4 s, of 1"),
    ]
    assert cards(shown) == {"Queued tasks": "3", "Running tasks": "1"}


@pytest.mark.parametrize("name", [*RANGES, "nonsense"])
def test_every_range_opens_and_its_links_lead_somewhere(name: str, admin_client: Client) -> None:
    """Shows that each link of the dashboard opens, and that an invalid range is ignored."""
    factories.make_delivery(factories.make_message("dead"), "failed")
    factories.make_message(next_attempt_at=timezone.now() - timedelta(minutes=1))
    factories.make_task()
    page = admin_client.get(reverse("admin:index"), {"range": name}).content.decode()
    box = page[page.index("data-renew") :]
    links = {unescape(link) for link in re.findall(r'href="([^"]+)"', box) if "/admin/" in link}
    assert len(links) >= 6
    assert [link for link in links if admin_client.get(link).status_code != 200] == []


def test_every_list_is_in_the_sidebar() -> None:
    """A list that is registered in the admin is found without knowing its address."""
    request = RequestFactory().get("/admin/")
    linked = {str(one["link"]) for part in navigation(request) for one in part["items"]}
    lists = {
        reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        for model in site._registry
    }
    assert lists <= linked
