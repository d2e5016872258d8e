"""Do the admin, the API and the command replay alike? The same case through each of them."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from tests.support import factories
from webhooks_app.models import OperatorAction, ReplayJob, WebhookMessage
from webhooks_app.operators import replay

pytestmark = pytest.mark.django_db
HOST, REASON = "receiver.example.org", "the outage of Friday"
BACKUP = "https://backup.example.org/hooks"
FILTER_PAGE = "admin:webhooks_app_webhookmessage_replay_with_filter_form"


def scene() -> dict[str, WebhookMessage]:
    """Make one message of every kind that a replay treats differently, all but two at one host."""
    now = timezone.now()
    stopped = factories.make_destination("https://stopped.example.org/", disabled_at=now)
    leased = {"lease_token": uuid.uuid4(), "lease_expires_at": now + timedelta(seconds=40)}
    return {
        "dead": factories.make_dead_letter(),
        "delivered": factories.make_message("delivered"),
        "waiting": factories.make_message(next_attempt_at=now + timedelta(hours=2), retry_step=2),
        "due": factories.make_message(next_attempt_at=now - timedelta(minutes=2)),
        "leased": factories.make_message(next_attempt_at=leased["lease_expires_at"], **leased),
        "elsewhere": factories.make_message("dead", url="https://other.example.org/"),
        "stopped": factories.make_message("dead", url="https://stopped.example.org/",
                                          destination=stopped),
    }  # fmt: skip


Asked = dict[str, Any]


def through_admin(asked: Asked) -> None:
    """Fill in the form, check what it shows, and confirm; or select rows in the list."""
    client = Client()
    client.force_login(factories.make_staff())
    names = {"status": "any", "what": "send", "reason": REASON, **asked}
    address = reverse(FILTER_PAGE)
    if "ids" in asked:
        ticked = {"action": "replay_selected", "_selected_action": asked["ids"], "confirmed": ""}
        names = {**ticked, "reason": REASON, **asked}
        address = reverse("admin:webhooks_app_webhookmessage_changelist")
    shown = client.post(address, names).content.decode()
    confirmed = re.search(r'name="confirmed" value="([^"]*)"', shown)
    assert confirmed, shown
    assert client.post(address, {**names, "confirmed": confirmed[1]}).status_code == 302


def through_api(asked: Asked) -> None:
    """Send the request."""
    client = Client(headers={"x-api-key": factories.make_api_key()[1]})
    names = {"target_url": "callback_url"}
    body: Asked = {"reason": REASON, "filter": {} if "ids" in asked else {"status": "any"}}
    for name, value in asked.items():
        place = body["filter"] if name in ("host", "status", "error_code", "ids") else body
        place[names.get(name, name)] = value
    answer = client.post("/api/v1/webhooks/replays", body, content_type="application/json")
    assert answer.status_code == 202, answer.content


def through_command(asked: Asked) -> None:
    """Run the command."""
    names = {"target_url": "to", "error_code": "error", "ids": "id"}
    options = {names.get(name, name): value for name, value in asked.items()}
    status = "" if "ids" in asked else "any"
    call_command("replay_webhooks", **{"status": status, "reason": REASON, "yes": True, **options})


DOORS: dict[str, Callable[[Asked], None]] = {
    "admin": through_admin,
    "api": through_api,
    "command": through_command,
}
NOT_COMPARED = ("id", "created_at", "finished_at", "next_batch_at", "requested_by", "source")


def comparable(job: ReplayJob, made: dict[str, WebhookMessage]) -> dict[str, Any]:
    """Return a job without what must differ: ids, times, and its source."""
    values = ReplayJob.objects.filter(pk=job.pk).values().get()
    values = {name: value for name, value in values.items() if name not in NOT_COMPARED}
    first = min(m.pk for m in made.values())
    for name in ("last_message_id", "highest_message_id"):
        values[name] -= first
    values["filters"].update(ids=[pk - first for pk in values["filters"].get("ids", ())])
    return values


def state_of(message: WebhookMessage, job: ReplayJob) -> tuple[Any, ...]:
    """Return what a replay may change of a message."""
    message.refresh_from_db()
    is_due = message.next_attempt_at is not None and message.next_attempt_at <= timezone.now()
    is_its = message.replay_id == job.pk
    return message.status, is_due, message.retry_step, message.lease_token is None, is_its


def outcome_through(door: str, asked: Asked) -> dict[str, Any]:
    """Run the case through one of the three; the tables are restored afterwards."""
    with transaction.atomic():
        made = scene()
        ticked = {"ids": [made[name].pk for name in asked["ticked"]]} if "ticked" in asked else {}
        DOORS[door](ticked or asked)
        while replay.advance_running_jobs():
            pass
        (job,) = ReplayJob.objects.all()
        assert job.source == door
        elsewhere = WebhookMessage.objects.exclude(pk__in=[m.pk for m in made.values()])
        seen = {
            "job": comparable(job, made),
            "messages": {name: state_of(message, job) for name, message in made.items()},
            "new": list(elsewhere.order_by("id").values_list("url", "status", "retry_step")),
            "record": list(
                OperatorAction.objects.filter(action__startswith="replay").values_list(
                    "action", "reason"
                )
            ),
            "was it them": job.requested_by
            == OperatorAction.objects.get(action="replay.start").actor,
        }
        transaction.set_rollback(True)
    return seen


@pytest.mark.parametrize(
    "asked",
    [
        {"host": HOST},
        {"status": "dead"},
        {"host": HOST, "status": "delivered"},
        {"error_code": "http_status", "rate": 400.0},
        {"host": HOST, "target_url": BACKUP},
        {"ticked": ("dead", "delivered", "leased", "stopped")},
    ],
    ids=["a host", "dead letters", "delivered", "at a rate", "to another URL", "a selection"],
)
def test_the_same_case_leaves_the_same_rows_through_each_door(asked: Asked) -> None:
    """Shows that job, counts, messages, reason and record are the same from all three."""
    through = {door: outcome_through(door, asked) for door in DOORS}
    assert through["admin"] == through["api"] == through["command"]
    assert through["admin"]["record"] == [("replay.start", REASON)]
    assert through["admin"]["was it them"]


@pytest.mark.parametrize("door", DOORS)
def test_a_replay_takes_what_it_may_and_leaves_the_rest(door: str) -> None:
    """Shows, for each: delivered is replayed, leased and due are kept, disabled is skipped."""
    seen = outcome_through(door, {"host": HOST})
    job, messages = seen["job"], seen["messages"]
    assert (job["total"], job["started_count"], job["skipped_count"]) == (5, 3, 2)
    assert job["state"] == "finished"
    for name in ("dead", "delivered", "waiting"):
        assert messages[name] == ("pending", True, 0, True, True), name
    assert messages["due"] == ("pending", True, 0, True, False)
    assert messages["leased"] == ("pending", False, 0, False, False)
    assert messages["elsewhere"][0] == messages["stopped"][0] == "dead"
    stopped = outcome_through(door, {"host": "stopped.example.org"})
    assert (stopped["job"]["started_count"], stopped["job"]["skipped_count"]) == (0, 1)


@pytest.mark.parametrize("door", DOORS)
def test_another_url_is_judged_at_each_door(door: str) -> None:
    """Shows that none of the three replays to a URL that may not be called."""
    scene()
    with pytest.raises((AssertionError, CommandError)):
        DOORS[door]({"host": HOST, "target_url": "https://169.254.169.254/latest/"})
    assert not ReplayJob.objects.exists()


def test_replays_through_two_doors_at_once_double_nothing() -> None:
    """Shows that a message which one replay has made due is not made due by another."""
    made = scene()
    for door in ("api", "command"):
        DOORS[door]({"host": HOST})
    through_admin({"host": HOST})
    while replay.advance_running_jobs():
        pass
    jobs = ReplayJob.objects.all()
    assert sum(job.started_count for job in jobs) == 3
    assert all(job.started_count + job.skipped_count == job.total for job in jobs)
    assert WebhookMessage.objects.filter(replay__isnull=False).count() == 3
    assert WebhookMessage.objects.count() == len(made)


def test_one_message_is_refused_alike_while_an_attempt_is_under_way(admin_client: Client) -> None:
    """Shows that each of the three refuses a leased message, and changes nothing."""
    leased = scene()["leased"]
    before = WebhookMessage.objects.filter(pk=leased.pk).values().get()
    address = reverse("admin:webhooks_app_webhookmessage_replay", args=[leased.pk])
    answer = admin_client.post(address, {"reason": REASON}, follow=True)
    assert b"an attempt of this message is under way" in answer.content
    api = Client(headers={"x-api-key": factories.make_api_key()[1]})
    refused = api.post(
        f"/api/v1/webhooks/messages/{leased.pk}/replay", {}, content_type="application/json"
    )
    assert (refused.status_code, refused.json()["code"]) == (409, "in_flight")
    call_command("replay_webhooks", id=[leased.pk], yes=True, reason=REASON)
    while replay.advance_running_jobs():
        pass
    assert ReplayJob.objects.get().skipped_count == 1
    assert WebhookMessage.objects.filter(pk=leased.pk).values().get() == before


def test_a_replay_is_cancelled_through_the_admin(admin_client: Client) -> None:
    """Shows that what is due stays due, the rest is left, and a second cancel is refused."""
    for _ in range(3):
        factories.make_message("dead")
    through_api({"rate": 1.0})
    job = ReplayJob.objects.get()
    replay.advance(job.pk)
    address = reverse("admin:webhooks_app_replayjob_cancel", args=[job.pk])
    assert admin_client.get(address).status_code == 200
    admin_client.post(address, {"reason": "wrong host"})
    job.refresh_from_db()
    assert (job.state, job.started_count) == ("cancelled", 1)
    assert WebhookMessage.objects.filter(status="dead").count() == 2
    again = admin_client.post(address, {"reason": "once more"}, follow=True)
    assert b"not possible any more" in again.content
    assert OperatorAction.objects.filter(action="replay.cancel").count() == 1


def test_a_selection_goes_elsewhere_only_as_it_was_shown(admin_client: Client) -> None:
    """Shows that another URL is shown before it is used, and that two projects need a tick."""
    rows = [
        factories.make_message("dead", event=factories.make_event(scope=scope))
        for scope in ("film", "studio")
    ]
    address = reverse("admin:webhooks_app_webhookmessage_changelist")
    ticked = {"action": "replay_selected", "_selected_action": [row.pk for row in rows]}

    def post(**fields: str) -> Any:
        return admin_client.post(address, {**ticked, "reason": REASON, **fields})

    shown = dict(post().context["hidden"])["confirmed"]
    asked = {"target_url": BACKUP, "confirmed": shown}
    answer = post(**asked)  # confirmed without that URL: shown once more
    facts = dict(answer.context["facts"])
    assert (facts["projects"], facts["to"]) == ("film (1), studio (1)", BACKUP)
    asked["confirmed"] = dict(answer.context["hidden"])["confirmed"]
    assert "2 projects would go to one URL" in post(**asked).content.decode()
    assert not ReplayJob.objects.exists()
    assert post(**asked, all_projects="on").status_code == 302
    assert WebhookMessage.objects.filter(url=BACKUP).count() == 2
    assert {row.status for row in WebhookMessage.objects.exclude(url=BACKUP)} == {"replayed"}
