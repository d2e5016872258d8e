"""Does every page of the admin open, with a bounded number of queries, and hide what it must?"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from tests.support import crowd, factories
from webhooks_app.admin import lists
from webhooks_app.models import WebhookMessage

pytestmark = pytest.mark.django_db
# Session, user, and what unfold asks; then the page's own. None depends on how many rows exist.
MAX_QUERIES = 12
LISTS = [
    "tasks_app_task",
    "tasks_app_apikey",
    "tasks_app_mediafile",
    "tasks_app_remotejob",
    "tasks_app_remoteserver",
    "webhooks_app_webhookmessage",
    "webhooks_app_webhookdelivery",
    "webhooks_app_webhookdestination",
    "webhooks_app_webhookendpoint",
    "webhooks_app_credential",
    "webhooks_app_replayjob",
    "webhooks_app_operatoraction",
    "auth_user",
    "auth_group",
]


def page(name: str, *args: Any) -> str:
    """Return the address of an admin page."""
    return reverse(f"admin:{name}", args=args)


def fill(count: int) -> None:
    """Make rows of every kind."""
    for number in range(count):
        task = factories.make_task("failed", error="boom")
        event = factories.make_event("task.failed", subject=str(task.pk))
        replay = factories.make_replay(total=4, started_count=2)
        message = factories.make_dead_letter(
            event=event, replay=replay, url=f"https://r{number}.example.org/hook"
        )
        factories.make_delivery(message, "interrupted")
        factories.make_endpoint(f"https://e{number}.example.org/hook")
        factories.make_credential(f"door-{number}")
        factories.make_api_key(f"key {number}")
        factories.make_operator_action()
        factories.make_media_file(factories.make_task("completed"))
        factories.make_asset()
        factories.make_remote_job(server=f"gpu-{number}", note="CUDA out of memory")


def queries_of(client: Client, address: str) -> int:
    """Fetch a page twice and return how many statements the second one took."""
    for _ in range(2):  # the first one fills the caches of content types
        with CaptureQueriesContext(connection) as captured:
            assert client.get(address).status_code == 200
    return len(captured)


@pytest.mark.parametrize("name", LISTS)
def test_list_opens_with_as_many_queries_for_many_rows_as_for_few(
    name: str, admin_client: Client
) -> None:
    """Shows that no list asks once per row."""
    counts = []
    for of_the_outbox, of_each_kind in ((10, 1), (100, 5)):
        with transaction.atomic():
            crowd.fill(of_the_outbox)
            fill(of_each_kind)
            counts.append(queries_of(admin_client, page(f"{name}_changelist")))
            transaction.set_rollback(True)
    assert counts[0] == counts[1] <= MAX_QUERIES


def test_list_counts_no_further_than_its_limit(
    admin_client: Client,
    monkeypatch: pytest.MonkeyPatch,
    django_assert_max_num_queries: Callable[..., Any],
) -> None:
    """Shows that a table of millions is not counted in full, and that the list says so."""
    for number in range(4):
        factories.make_message(url=f"https://r{number}.example.org/")
    monkeypatch.setattr(lists, "COUNT_LIMIT", 3)
    with django_assert_max_num_queries(MAX_QUERIES) as queries:
        answer = admin_client.get(page("webhooks_app_webhookmessage_changelist"))
    counts = [q["sql"] for q in queries.captured_queries if "COUNT(" in q["sql"].upper()]
    assert counts
    assert all("LIMIT 4" in sql for sql in counts)
    assert "3+" in answer.content.decode()


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: factories.make_task("processing"), "tasks_app_task"),
        (lambda: factories.make_media_file().task, "tasks_app_task"),
        (lambda: factories.make_api_key()[0], "tasks_app_apikey"),
        (factories.make_asset, "tasks_app_mediafile"),
        (lambda: factories.make_asset("failed", error_code="http_status"), "tasks_app_mediafile"),
        (factories.make_dead_letter, "webhooks_app_webhookmessage"),
        (factories.make_message, "webhooks_app_webhookmessage"),
        (factories.make_destination, "webhooks_app_webhookdestination"),
        (factories.make_endpoint, "webhooks_app_webhookendpoint"),
        (factories.make_credential, "webhooks_app_credential"),
        (factories.make_replay, "webhooks_app_replayjob"),
        (factories.make_operator_action, "webhooks_app_operatoraction"),
    ],
)
def test_page_of_a_row_opens(
    make: Callable[[], Any],
    name: str,
    admin_client: Client,
    django_assert_max_num_queries: Callable[..., Any],
) -> None:
    """Shows that each kind of row has a page, made with a bounded number of queries."""
    row = make()
    with django_assert_max_num_queries(MAX_QUERIES):
        answer = admin_client.get(page(f"{name}_change", row.pk))
    assert answer.status_code == 200


def test_a_record_is_named_alike_in_its_list_and_on_its_page(admin_client: Client) -> None:
    """Shows that both say project, and name the time zone; the column's own name is on neither."""
    row = factories.make_operator_action(scope="film")
    for address in (
        page("webhooks_app_operatoraction_changelist"),
        page("webhooks_app_operatoraction_change", row.pk),
    ):
        text = admin_client.get(address).content.decode()
        assert "(UTC)" in text
        assert "Project" in text or "project" in text
        assert not re.search(r">\s*Scope\s*<", text)


@pytest.mark.parametrize("name", [n for n in LISTS if not n.startswith("auth")])
def test_absent_row_is_not_found(name: str, admin_client: Client) -> None:
    """Shows that any text in a page's URL is harmless."""
    for key in ("99999999", "x", "%00", "00000000-0000-0000-0000-000000000000"):
        answer = admin_client.get(page(f"{name}_changelist") + f"{key}/change/")
        assert answer.status_code in (302, 404)


@pytest.mark.parametrize("status", ["pending", "delivered", "dead", "superseded", "cancelled"])
def test_message_of_every_state_is_explained(status: str, admin_client: Client) -> None:
    """Shows that the page says why the message is in its state."""
    message = factories.make_message(status)
    html = admin_client.get(page("webhooks_app_webhookmessage_change", message.pk)).content
    assert b'id="why"' in html


def test_receivers_answer_is_shown_as_text(admin_client: Client) -> None:
    """Shows that a receiver cannot run a script in an operator's browser or hide characters."""
    message = factories.make_message("dead")
    evil = b'<script>alert("x")</script>\x00\x1b[2J\xe2\x80\xaeevil\xff'
    factories.make_delivery(
        message,
        "failed",
        response_body=evil,
        response_headers={"x-evil": "<script>alert(1)</script>"},
        error="<script>alert(2)</script>",
    )
    html = admin_client.get(page("webhooks_app_webhookmessage_change", message.pk)).content.decode()
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;␀␛[2J⟨U+202E⟩evil\\xff" in html


def test_no_page_shows_a_secret(admin_client: Client) -> None:
    """Shows that query values, user info and signing secrets of a URL's owner stay hidden."""
    url = "https://u:CANARY1@receiver.example.org/hook?token=CANARY2"
    clean = factories.make_destination()
    message = factories.make_message("dead", url=url, destination=clean)
    delivery = factories.make_delivery(message, "failed", url=url)
    endpoint = factories.make_endpoint(url)
    task = factories.make_task(callback_url=url)
    event = factories.make_event(subject=str(task.pk))
    factories.make_message(url=url, event=event, destination=clean)
    for address in (
        page("webhooks_app_webhookmessage_changelist"),
        page("webhooks_app_webhookmessage_change", message.pk),
        page("webhooks_app_webhookdelivery_changelist"),
        page("webhooks_app_webhookendpoint_changelist"),
        page("webhooks_app_webhookendpoint_change", endpoint.pk),
        page("webhooks_app_webhookdestination_change", clean.pk),
        page("tasks_app_task_change", task.pk),
        page("webhooks_app_webhookmessage_replay", message.pk),
        page("webhooks_app_webhookendpoint_disable", endpoint.pk),
        reverse("admin:index"),
    ):
        answer = admin_client.get(address)
        assert answer.status_code == 200
        assert "CANARY" not in answer.content.decode(), address
    assert delivery.pk


@pytest.mark.parametrize(
    "term",
    ["{id}", "{event_id}", "{subject}", "receiver.ex", "https://receiver.example.org/x", "scope-1"],
)
def test_message_is_found_by_what_an_operator_has(term: str, admin_client: Client) -> None:
    """Shows that each kind of search finds the right message and no other."""
    event = factories.make_event(scope="scope-1")
    wanted = factories.make_message(event=event)
    other = factories.make_message(url="https://other.example.org/")
    text = term.format(id=wanted.pk, event_id=event.event_id, subject=event.subject)
    answer = admin_client.get(page("webhooks_app_webhookmessage_changelist"), {"q": text})
    found = answer.context["cl"].result_list
    assert [m.pk for m in found] == [wanted.pk]
    assert other.pk != wanted.pk


@pytest.mark.parametrize("term", ["\x00", "9" * 30, "%", "_", "'", "msg_", "a" * 5000])
@pytest.mark.parametrize(
    "name", ["webhooks_app_webhookmessage", "webhooks_app_webhookdelivery", "tasks_app_task"]
)
def test_odd_search_finds_nothing(name: str, term: str, admin_client: Client) -> None:
    """Shows that a search never fails and has no wildcards."""
    factories.make_delivery()
    answer = admin_client.get(page(f"{name}_changelist"), {"q": term})
    assert answer.status_code == 200


def test_a_search_for_too_many_words_says_how_many_it_takes(admin_client: Client) -> None:
    """Shows that thousands of words, each of them looked for in every column, are refused."""
    address = page("webhooks_app_webhookmessage_changelist")
    assert admin_client.get(address, {"q": "a " * 12}).status_code == 200
    answer = admin_client.get(address, {"q": "a " * 13})
    assert answer.status_code == 400
    assert b"Search for 12 words at most" in answer.content


@pytest.mark.parametrize(
    "query",
    [
        {"status": "dead"},
        {"event_type": "task.completed"},
        {"last_error_code": "http_status"},
        {"last_status_code": "500"},
        {"status": "dead", "since": "6"},
    ],
)
def test_filters_of_messages(query: dict[str, str], admin_client: Client) -> None:
    """Shows that every filter can be chosen."""
    dead = factories.make_message("dead")
    factories.make_message("pending", event=factories.make_event("task.failed"))
    if query.get("since") == "6":
        factories.make_message("dead", created_at=timezone.now() - timedelta(hours=7))
    answer = admin_client.get(page("webhooks_app_webhookmessage_changelist"), query)
    assert [m.pk for m in answer.context["cl"].result_list] == [dead.pk]


@pytest.mark.parametrize(
    "query",
    [
        {"outcome": "failed"},
        {"event_type": "task.failed"},
        {"trigger": "replay"},
        {"error_code": "timeout"},
        {"response_status": "503"},
        {"since": "1"},
        {"outcome": "failed", "event_type": "task.failed", "since": "1"},
        {"q": "host-1"},
        {"q": "project-1"},
        {"q": "{subject}"},
        {"q": "{event_id}"},
        {"q": "{id}"},
    ],
    ids=str,
)
def test_filters_and_searches_of_deliveries(query: dict[str, str], admin_client: Client) -> None:
    """Shows that each search finds the right attempt and no other."""
    event = factories.make_event("task.failed", scope="project-1")
    message = factories.make_message(event=event, url="https://host-1.example.org/")
    wanted = factories.make_delivery(
        message, "failed", trigger="replay", error_code="timeout", response_status=503
    )
    factories.make_delivery(started_at=timezone.now() - timedelta(hours=2))
    names = {"subject": event.subject, "event_id": event.event_id, "id": wanted.pk}
    asked = {name: value.format(**names) for name, value in query.items()}
    answer = admin_client.get(page("webhooks_app_webhookdelivery_changelist"), asked)
    assert [row.pk for row in answer.context["cl"].result_list] == [wanted.pk]


def test_tables_of_libraries_are_not_offered(admin_client: Client) -> None:
    """Shows that there is one "Tasks" and one "API keys" in the admin."""
    from django.contrib import admin

    labels = {m._meta.label for m in admin.site._registry}
    assert "django_dramatiq.Task" not in labels
    assert "rest_framework_api_key.APIKey" not in labels


def test_nothing_can_be_edited(admin_client: Client) -> None:
    """Shows that a forged form changes nothing."""
    message = factories.make_message("dead")
    address = page("webhooks_app_webhookmessage_change", message.pk)
    admin_client.post(address, {"status": "delivered", "url": "https://evil.example.org/"})
    assert WebhookMessage.objects.get().status == "dead"
    delete = page("webhooks_app_webhookmessage_delete", message.pk)
    assert admin_client.post(delete, {"post": "yes"}).status_code == 403


def test_admin_asks_for_a_login(client: Client) -> None:
    """Shows that no page can be read without a staff login."""
    message = factories.make_message("dead")
    answer = client.get(page("webhooks_app_webhookmessage_change", message.pk))
    assert answer.status_code == 302
    assert "/admin/login/" in answer["Location"]


def test_page_of_a_destination_shows_all_that_governs_it(admin_client: Client) -> None:
    """Shows limit, window, requests in flight, breaker, hold and backlog of a destination."""
    place = factories.make_destination(
        held_until=timezone.now() + timedelta(minutes=5),
        hold_reason="breaker",
        breaker_state="half_open",
        failing_messages=11,
        window=7,
        max_in_flight=13,
    )
    for _ in range(3):
        factories.make_delivery(factories.make_message(), "pending")
    factories.make_message()
    answer = admin_client.get(page("webhooks_app_webhookdestination_change", place.pk))
    shown = dict(re.findall(r"<p>([^<]+)</p><b[^>]*>([^<]*)</b>", answer.content.decode()))
    assert shown == {
        "Waiting messages": "4",
        "Breaker": "half_open",
        "Failing in a row": "11",
        "Last success": "never",
        "Last failure": "never",
        "Requests under way": "3",
        "Window of an engine": "7",
        "Limit on the window": "13",
    }
    text = answer.content.decode()
    assert "Held back" in text
    for operation in ("ping", "pause", "resume", "disable", "limit"):
        assert f"/{operation}/" in text
