"""Does every search box read the same words, and does the record show who did what to what?"""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.messages import get_messages
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tasks_app.models import TaskInput
from tests.support import factories
from tests.support.factories import make_delivery, make_event, make_message, make_task
from webhooks_app.models import OperatorAction
from webhooks_app.operators import destinations, record

pytestmark = pytest.mark.django_db
URL = "https://hooks.example.org:8443/in"


def open_list(client: Client, name: str, **query: str) -> Any:
    return client.get(reverse(f"admin:{name}_changelist"), query)


def found(client: Client, name: str, **query: str) -> list[Any]:
    answer = open_list(client, name, **query)
    assert answer.status_code == 200, (name, query)
    return [row.pk for row in answer.context["cl"].result_list]


def told(answer: Any) -> list[str]:
    return [str(message) for message in get_messages(answer.wsgi_request)] or [
        str(message) for message in answer.context["messages"]
    ]


@pytest.fixture
def world() -> dict[str, Any]:
    """One row of each kind that belongs together, and one of each that does not."""
    rows: dict[str, Any] = {}
    for project, url in (("other", "https://other.example.org/"), ("film", URL)):
        found_by = {"userId": project}
        task = make_task(
            "failed",
            project_id=project,
            callback_url=url,
            request_id=f"order-{project}",
            metadata_values=found_by,
        )
        endpoint = factories.make_endpoint(url, scope=project)
        event = make_event(
            "task.failed",
            subject=str(task.pk),
            scope=project,
            request_id=task.request_id,
            metadata=found_by,
        )
        job = factories.make_replay(scope=project)
        message = make_message("dead", event=event, url=url, endpoint=endpoint, replay=job)
        rows = {
            "tasks_app_task": task,
            "tasks_app_remotejob": factories.make_remote_job(task=task),
            "webhooks_app_webhookmessage": message,
            "webhooks_app_webhookdelivery": make_delivery(message, "failed"),
            "webhooks_app_webhookdestination": message.destination,
            "webhooks_app_webhookendpoint": endpoint,
            "webhooks_app_replayjob": job,
            "webhooks_app_operatoraction": record.note(
                "mara", "replay.start", f"message {message.pk}", "why", scope=project
            ),
        }
    return rows


def test_every_search_box_finds_by_every_word(admin_client: Client, world: Any) -> None:
    """Shows that one parser serves all searches: each word finds its row in each list."""
    task, message = world["tasks_app_task"], world["webhooks_app_webhookmessage"]
    by_host = ["hooks.example.org", "hooks.exam", "hooks.example.org:8443", URL, "host=hooks.ex"]
    words = [
        *by_host,
        *(str(task.pk), str(task.pk)[:13], f"task={str(task.pk)[:8]}", message.event.event_id),
        *(message.event.event_id[:14], "order-film", "request=order-film", "userId=film"),
        *("metadata=userId=film", "film", "project=film", str(message.pk), f"message={message.pk}"),
    ]
    missed = [
        (name, word)
        for name, row in world.items()
        for word in words
        # What was done to a message is found by its id, not by where it went.
        if not (name.endswith("action") and word in by_host)
        # A number may be that of another attempt as well.
        and not (name.endswith("delivery") and word.endswith(str(message.pk)))
        and found(admin_client, name, q=word) != [row.pk]
    ]
    assert missed == []


def test_what_means_nothing_is_told_on_the_page(admin_client: Client, world: Any) -> None:
    """Shows that a search or a filter that cannot match says what can, beside its empty list."""
    for name in world:
        if name.endswith("operatoraction"):
            continue  # a bare word may be an actor's name
        answer = open_list(admin_client, name, q="foo bar!")
        assert not answer.context["cl"].result_list
        assert any("msg_…" in text for text in told(answer)), name
    for name, query, said in (
        ("webhooks_app_webhookmessage", {"status": "deed"}, "dead"),
        ("webhooks_app_webhookmessage", {"event_type": "task.done"}, "task.completed"),
        ("webhooks_app_webhookmessage", {"last_error_code": "nonsense"}, "http_status"),
        ("webhooks_app_webhookmessage", {"since": "9"}, "168"),
        ("webhooks_app_webhookdelivery", {"event_type": "task.done"}, "task.completed"),
        ("webhooks_app_webhookdestination", {"health": "ill"}, "failing"),
        ("webhooks_app_operatoraction", {"action": "replay.begin"}, "replay.start"),
        ("webhooks_app_operatoraction", {"q": "action=replay.begin"}, "replay.start"),
        ("tasks_app_task", {"status": "done"}, "completed"),
        ("tasks_app_task", {"webhook": "delivered"}, "dead"),
        ("tasks_app_task", {"q": "host=a..b"}, "host:port"),
    ):
        answer = open_list(admin_client, name, **query)
        assert not answer.context["cl"].result_list, query
        assert any(said in text for text in told(answer)), (query, told(answer))


def test_a_webhook_id_of_several_messages_is_a_list(admin_client: Client, world: Any) -> None:
    """Shows that one event's messages to several URLs are all found by its id."""
    message = world["webhooks_app_webhookmessage"]
    more = make_message("delivered", event=message.event, url="https://more.example.org/")
    both = found(admin_client, "webhooks_app_webhookmessage", q=message.event.event_id)
    assert both == [more.pk, message.pk]


def test_tasks_show_and_are_filtered_by_their_webhooks(admin_client: Client) -> None:
    """Shows the state of each task's webhooks, its filter, and that a page asks once for all."""
    expected = {}
    for status in ("dead", "pending", "delivered", "superseded"):
        task = make_task("completed")
        make_message(status, event=make_event(subject=str(task.pk)))
        expected[task.pk] = status
    expected[make_task("queued").pk] = "none"
    rows = open_list(admin_client, "tasks_app_task").context["cl"].result_list
    assert {row.pk: row.webhook_state for row in rows} == expected
    for status in ("dead", "pending", "superseded"):
        wanted = [key for key, state in expected.items() if state == status]
        assert found(admin_client, "tasks_app_task", webhook=status) == wanted
    with CaptureQueriesContext(connection) as captured:
        open_list(admin_client, "tasks_app_task")
    assert sum("webhookmessage" in query["sql"] for query in captured) == 1
    dead = next(key for key, state in expected.items() if state == "dead")
    page = admin_client.get(reverse("admin:tasks_app_task_change", args=[dead])).content.decode()
    assert 'data-role="webhook-state">Dead<' in page


def test_the_dashboard_leads_to_all_that_fail(admin_client: Client) -> None:
    """Shows the way from the dashboard's few failing destinations to the list of all."""
    cache.clear()
    failing = factories.make_destination(URL, failing_messages=3)
    factories.make_destination("https://well.example.org/")
    page = admin_client.get(reverse("admin:index")).content.decode()
    address = reverse("admin:webhooks_app_webhookdestination_changelist") + "?health=failing"
    assert f'href="{address}"' in page
    rows = admin_client.get(address).context["cl"].result_list
    assert [row.pk for row in rows] == [failing.pk]


def test_the_record_is_searched_and_leads_to_its_targets(admin_client: Client, world: Any) -> None:
    """Shows filters by actor, action and time, and a link from each row to what it was done to."""
    place = world["webhooks_app_webhookdestination"]
    task, job = world["tasks_app_task"], world["webhooks_app_replayjob"]
    key, _ = factories.make_api_key("a key", project_id="film")
    destinations.pause(place, 60, actor="jon", reason="repair")
    record.note("jon", "task.cancel", str(task.pk), "mistake", scope="film")
    record.note("jon", "replay.cancel", f"replay {job.pk}", "mistake", scope="film")
    record.note("command root", "api_key.revoke", str(key), "it leaked", scope="film")
    record.note("jon", "prune", "3 messages", "the disk is full")
    record.note("jon", "replay.start", "message 999999999 to https://x.example.org/", "gone")
    name = "webhooks_app_operatoraction"
    page = open_list(admin_client, name).content.decode()
    for model, row in (
        ("webhooks_app_webhookdestination", place),
        ("tasks_app_task", task),
        ("webhooks_app_replayjob", job),
        ("tasks_app_apikey", key),
        ("webhooks_app_webhookmessage", world["webhooks_app_webhookmessage"]),
    ):
        assert f'href="{reverse(f"admin:{model}_change", args=[row.pk])}"' in page, model
    assert "999999999/change" not in page
    actions = OperatorAction.objects
    for query, wanted in (
        ({"actor": "jon"}, actions.filter(actor="jon")),
        ({"action": "prune"}, actions.filter(action="prune")),
        ({"since": "1"}, actions.all()),
        ({"q": "jon"}, actions.filter(actor="jon")),
        ({"q": "actor=command"}, actions.filter(actor="command root")),
        ({"q": "action=prune"}, actions.filter(action="prune")),
        ({"q": "target=3 mess"}, actions.filter(action="prune")),
        ({"q": "hooks.example.org"}, actions.filter(action="destination.pause")),
        ({"q": str(job.pk)}, actions.filter(action="replay.cancel")),
        ({"q": "project=film"}, actions.filter(scope="film")),
    ):
        rows = wanted.order_by("-id").values_list("pk", flat=True)
        assert sorted(found(admin_client, name, **query)) == sorted(rows), query
    paused = actions.get(action="destination.pause")
    assert (paused.scope, paused.reason) == ("film", "repair")


def test_the_record_offers_what_is_on_it_and_no_more_than_fits(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shows that filters list each value once, and that one beyond the listed ones still works."""
    for number in range(6):
        record.note(f"key {number % 3}", "replay.start", "message 1", "why")
    assert record.values_of("actor") == ["key 0", "key 1", "key 2"]
    assert record.values_of("action") == ["replay.start"]
    monkeypatch.setattr(record, "MOST_VALUES", 2)
    assert record.values_of("actor") == ["key 0", "key 1"]
    assert len(found(admin_client, "webhooks_app_operatoraction", actor="key 2")) == 2
    answer = open_list(admin_client, "webhooks_app_operatoraction", actor="nobody")
    assert told(answer)


def test_assets_are_found_by_the_tasks_made_from_them(admin_client: Client, world: Any) -> None:
    """Shows that an asset's own id, its project and the words for its tasks find it."""
    task = world["tasks_app_task"]
    used, other = factories.make_asset(project_id="shots"), factories.make_asset()
    TaskInput.objects.create(task=task, name="image", file=used)
    for word in (used.pk, "project=shots", str(task.pk)[:13], "order-film", "userId=film"):
        assert found(admin_client, "tasks_app_mediafile", q=word) == [used.pk], word
    assert found(admin_client, "tasks_app_mediafile", q=other.pk) == [other.pk]
    assert told(open_list(admin_client, "tasks_app_mediafile", q="foo bar!"))
    assert found(admin_client, "tasks_app_cost", q="project=shots") == []
    assert told(open_list(admin_client, "tasks_app_cost", q="foo bar!"))


def test_a_new_key_needs_a_reason(admin_client: Client) -> None:
    """Shows that the form of a new key asks why, and what was said is on record."""
    form = {"name": "a key", "scopes": ["read"], "callback_hosts": "", "reason": " "}
    address = reverse("admin:tasks_app_apikey_add")
    assert admin_client.post(address, form).status_code == 200
    assert not OperatorAction.objects.exists()
    admin_client.post(address, {**form, "reason": "the night needs one"})
    assert OperatorAction.objects.get().reason == "the night needs one"
