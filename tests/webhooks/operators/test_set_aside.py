"""What is set aside: where it counts no more, what can still be done with it, and the record."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from tests.support import factories
from tests.support.factories import make_event, make_message
from webhooks_app import metrics
from webhooks_app.models import OperatorAction, WebhookMessage
from webhooks_app.operators import replay, set_aside
from webhooks_app.operators.replay_preview import preview
from webhooks_app.outbox import MessageFilters

pytestmark = pytest.mark.django_db
WHY = {"actor": "somebody", "reason": "the customer has left"}
BASE = "/api/v1/webhooks/messages"


def post(api: Client, path: str, body):
    return api.post(f"{BASE}/{path}", body, content_type="application/json")


def count_of(status: str) -> float:
    (gauge,) = (g for g in metrics.database_gauges() if g.name == "webhooks_messages")
    return {s.labels["status"]: s.value for s in gauge.samples}[status]


def test_it_leaves_the_dead_letters_and_can_be_taken_back():
    """Proves it for the figures and for replays that name no state, and that both are on record."""
    message = make_message("dead")
    set_aside.one(message, **WHY)
    assert (count_of("dead"), count_of("set_aside")) == (0, 1)
    assert preview(MessageFilters()).count == 0
    assert preview(MessageFilters(status="set_aside")).count == 1
    with pytest.raises(set_aside.NotPossible, match="set aside, and not a dead letter"):
        set_aside.one(message, **WHY)
    set_aside.one(message, is_undone=True, **WHY)
    assert count_of("dead") == 1
    seen = OperatorAction.objects.order_by("id").values_list("action", "target", "reason")
    target = f"message {message.pk}"
    assert list(seen) == [
        ("message.set_aside", target, WHY["reason"]),
        ("message.take_back", target, WHY["reason"]),
    ]


def test_it_is_still_replayed_when_asked():
    """Proves that what was set aside is whole: by its id it goes to its own receiver again."""
    message = make_message("set_aside")
    replay.replay_one(message, requested_by="op", source="admin")
    message.refresh_from_db()
    assert message.status == "pending"


@pytest.mark.parametrize("status", ["pending", "delivered", "replayed", "superseded", "cancelled"])
def test_only_a_dead_letter_is_set_aside(api, status):
    """Proves that the API refuses every other state, and says which it is."""
    message = make_message(status)
    answer = post(api, f"{message.pk}/set-aside", {"reason": "x"})
    assert (answer.status_code, answer.json()["code"]) == (409, "not_possible")
    assert answer.json()["state"] == status
    assert api.delete(f"{BASE}/{message.pk}/set-aside").status_code == 409


def test_many_are_set_aside_by_the_filters_of_a_replay(monkeypatch):
    """Proves that batches take exactly the dead letters that match, with one line in the record."""
    monkeypatch.setattr(set_aside, "BATCH", 2)
    for _ in range(5):
        make_message("dead", event=make_event(scope="film"))
    others = [make_message("dead"), make_message("delivered", event=make_event(scope="film"))]
    assert set_aside.many(MessageFilters(project="film"), **WHY) == 5
    assert [m.status for m in WebhookMessage.objects.filter(pk__in=[o.pk for o in others])] == [
        "dead",
        "delivered",
    ]
    assert OperatorAction.objects.get().target == "messages: status=dead project=film"
    assert set_aside.many(MessageFilters(), is_undone=True, **WHY) == 5


def test_the_api_sets_aside_and_takes_back(api, monkeypatch):
    """Proves both routes: one with its state, many with what is left, each with a reason."""
    messages = [make_message("dead") for _ in range(3)]
    assert post(api, f"{messages[0].pk}/set-aside", {}).status_code == 422
    answer = post(api, f"{messages[0].pk}/set-aside", {"reason": "they left"})
    assert (answer.status_code, answer.json()["status"]) == (200, "set_aside")
    assert api.delete(f"{BASE}/{messages[0].pk}/set-aside").json()["status"] == "dead"
    monkeypatch.setattr("webhooks_app.api.messages.MOST", 2)
    monkeypatch.setattr(set_aside, "BATCH", 2)
    body = {"filter": {"host": "receiver.example.org"}, "reason": "they left"}
    assert post(api, "set-aside", body).json() == {"changed": 2, "is_complete": False}
    assert post(api, "set-aside", body).json() == {"changed": 1, "is_complete": True}
    back = post(api, "set-aside", {**body, "undo": True})
    assert back.json()["changed"] == 2
    stranger = Client(headers={"x-api-key": factories.make_api_key(project_id="other")[1]})
    assert post(stranger, "set-aside", {"reason": "x"}).json()["changed"] == 0


def test_the_admin_sets_aside_one_a_selection_and_what_a_filter_means(admin_client):
    """Proves the three ways in the admin, and that the page of a message says who and why."""
    messages = [make_message("dead") for _ in range(4)]
    page = reverse("admin:webhooks_app_webhookmessage_change", args=[messages[0].pk])
    aside = reverse("admin:webhooks_app_webhookmessage_set-aside", args=[messages[0].pk])
    assert admin_client.post(aside, {"reason": "they left"}).status_code == 302
    shown = admin_client.get(page).content.decode()
    assert "by operator: they left" in shown
    assert 'data-operation="take-back"' in shown
    listed = reverse("admin:webhooks_app_webhookmessage_changelist")
    ticked = {"action": "set_selected_aside", "_selected_action": [messages[1].pk]}
    assert b"Set 1 message aside" in admin_client.post(listed, ticked).content
    admin_client.post(listed, {**ticked, "confirmed": "1", "reason": "they left"})
    assert WebhookMessage.objects.filter(status="set_aside").count() == 2
    by_filter = reverse("admin:webhooks_app_webhookmessage_replay_with_filter_form")
    asked = {"status": "dead", "what": "set_aside", "reason": "they left"}
    answer = admin_client.post(by_filter, asked)
    assert b"Set 2 messages aside" in answer.content
    token = dict(answer.context["hidden"])["confirmed"]
    admin_client.post(by_filter, {**asked, "confirmed": token})
    assert not WebhookMessage.objects.filter(status="dead").exists()
    wrong = admin_client.post(by_filter, {**asked, "status": "any"})
    assert b"Only dead letters can be set aside." in wrong.content
