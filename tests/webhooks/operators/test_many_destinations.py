"""One origin over all projects, and all at once: through the service, command, API and admin."""

from __future__ import annotations

import re
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from tests.support import factories
from tests.support.factories import make_destination, make_message
from webhooks_app.models import OperatorAction, WebhookDestination, WebhookMessage
from webhooks_app.operators import destinations
from webhooks_app.operators.destinations import Act

pytestmark = pytest.mark.django_db
ORIGIN = "https://hooks.example.org"
API = "/api/v1/webhooks/destinations"
JSON = {"content_type": "application/json"}


@pytest.fixture
def places() -> list[WebhookDestination]:
    """The same origin in three projects, another port of its host, and another host."""
    return [
        *(make_destination(f"{ORIGIN}/x", scope=scope) for scope in ("film", "radio", "stage")),
        make_destination(f"{ORIGIN}:8443/x", scope="film"),
        make_destination("https://other.example.org/x", scope="film"),
    ]


def held() -> set[str]:
    """The destinations that are held back now."""
    rows = WebhookDestination.objects.filter(held_until__gt=timezone.now())
    return {str(row) for row in rows}


def muted() -> set[str]:
    """The destinations of which nobody is told that they fail."""
    return {str(row) for row in WebhookDestination.objects.filter(muted_until__gt=timezone.now())}


def disabled() -> int:
    return WebhookDestination.objects.exclude(disabled_at=None).count()


def reasons(action: str) -> list[tuple[str, str]]:
    """Who did it and why, once for each destination."""
    rows = OperatorAction.objects.filter(action=action).order_by("id")
    return list(rows.values_list("actor", "reason"))


def command(*arguments: str) -> tuple[int, str]:
    out = StringIO()
    try:
        call_command("destination", *arguments, stdout=out)
    except CommandError as refused:
        return refused.returncode, out.getvalue() + str(refused)
    return 0, out.getvalue()


def test_batches_are_recorded_one_by_one(
    places: list[WebhookDestination], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proves that more than one batch is changed, and each destination has its line and backlog."""
    monkeypatch.setattr(destinations, "BATCH", 2)
    waiting = make_message(url=f"{ORIGIN}/x", event=factories.make_event(scope="radio"))
    rows = destinations.meant(Act.DISABLE)
    assert destinations.act_on(Act.DISABLE, rows, actor="mara", reason="out") == 5
    assert reasons("destination.disable") == [("mara", "out")] * 5
    assert WebhookMessage.objects.get(pk=waiting.pk).status == "dead"
    assert destinations.meant(Act.DISABLE).count() == destinations.meant(Act.RESUME).count() == 0
    assert destinations.meant(Act.ENABLE, scope="film").count() == 3


def test_the_command_pauses_one_origin_everywhere_and_resumes_all(
    places: list[WebhookDestination],
) -> None:
    """Proves that a host, an origin and a project mean what they say, and all is on record."""
    code, text = command("pause", ORIGIN, "--for", "2h", "--reason", "they deploy", "--yes")
    assert code == 0
    assert "pause 3 destinations of 3 projects" in text
    assert text.endswith("3 destinations are paused for 2 h.\n")
    assert held() == {f"{ORIGIN} ({scope})" for scope in ("film", "radio", "stage")}
    ((actor, reason),) = set(reasons("destination.pause"))
    assert (actor.startswith("command "), reason) == (True, "they deploy")
    listed = command("list")[1]
    assert listed.count("paused") == 3
    assert len(re.findall(r"\)  until \d{4}-\d\d-\d\d [\d:]{8} UTC$", listed, re.M)) == 3
    assert command("resume", "hooks.example.org", "--project=film", "--reason=x", "--yes")[0] == 0
    assert len(held()) == 2
    assert command("resume", "--all", "--reason", "all back", "--yes")[0] == 0
    assert held() == set()
    assert command("disable", "hooks.example.org", "--reason", "left", "--yes")[0] == 0
    assert disabled() == 4  # of the host, with both ports
    assert command("list")[1].count("left") == 4
    assert command("enable", "--all", "--reason", "back", "--yes")[0] == 0
    assert disabled() == 0
    assert "No destination is held back" in command("list")[1]
    _, one = command("pause", ORIGIN, "--project", "film", "--reason", "again", "--yes")
    assert "pause 1 destination of 1 project:" in one


def test_a_receiver_is_muted_through_each_door(
    places: list[WebhookDestination], api: Client, admin_client: Client
) -> None:
    """Proves that command, API and admin mute one origin in all projects, and end it again."""
    three = {f"{ORIGIN} ({scope})" for scope in ("film", "radio", "stage")}
    code, text = command("mute", ORIGIN, "--for", "12h", "--reason", "they know", "--yes")
    assert (code, muted()) == (0, three)
    assert text.endswith("3 destinations are muted for 12 h.\n")
    assert command("list")[1].count("muted until") == 3
    assert command("unmute", "--all", "--reason", "mended", "--yes")[1].endswith("no longer.\n")
    assert command("unmute", "--all", "--reason", "mended", "--yes")[0] == 3

    asked = {"host": ORIGIN, "reason": "they know"}
    for_long = {**asked, "action": "mute", "seconds": 86_400 * 30}
    assert api.post(API, for_long, **JSON).json()["count"] == 3
    assert muted() == three
    assert {row["id"] for row in api.get(f"{API}?state=muted").json()["results"]} == {
        row.pk for row in places[:3]
    }
    assert api.post(API, {**asked, "action": "unmute"}, **JSON).json()["count"] == 3
    one = f"{API}/{places[4].pk}"
    assert api.post(f"{one}/mute", {"seconds": 60}, **JSON).json()["muted_until"]
    assert api.post(f"{one}/unmute", {}, **JSON).json()["muted_until"] is None
    for change, code_ in (
        ({"action": "mute"}, "required"),
        ({"action": "pause", "seconds": 86_401}, "out_of_range"),
        ({"action": "unmute", "seconds": 60}, "not_allowed"),
    ):
        (error,) = api.post(API, {**asked, **change}, **JSON).json()["errors"]
        assert (error["pointer"], error["code"]) == ("/seconds", code_)

    page = reverse("admin:webhooks_app_webhookdestination_change_many_form")
    wanted = {**asked, "act": "mute", "minutes": "720"}
    hidden = dict(admin_client.post(page, wanted).context["hidden"])
    admin_client.post(page, {**wanted, **hidden})
    assert muted() == three
    refused = admin_client.post(page, {**wanted, "act": "pause", "minutes": "1441"})
    assert refused.context["form"].errors["minutes"]
    listed = reverse("admin:webhooks_app_webhookdestination_changelist")
    assert str(places[0].pk) in admin_client.get(f"{listed}?health=muted").content.decode()
    chosen = {"_selected_action": [row.pk for row in places], "confirmed": "1", "reason": "x"}
    admin_client.post(listed, {**chosen, "action": "unmute_selected"})
    assert muted() == set()
    admin_client.post(listed, {**chosen, "action": "mute_selected", "hours": "2"})
    assert len(muted()) == 5
    assert len(reasons("destination.mute")) == 3 + 3 + 1 + 3 + 5


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("pause hooks.example.org --yes", 2, "--reason"),
        ("pause --yes --reason x", 2, "--all"),
        ("pause hooks.example.org --all --yes --reason x", 2, "not both"),
        ("pause hooks.example.org --reason x", 2, "--yes"),
        ("pause hooks.example.org --reason x --yes --for 3d", 2, "24 h"),
        ("pause hooks.example.org --reason x --yes --for later", 2, "--for"),
        ("pause hooks.example.org --reason x --yes --until 2020-01-01", 2, "24 h"),
        ("mute hooks.example.org --reason x --yes --for 31d", 2, "30.0 days"),
        ("disable hooks.example.org --reason x --yes --for 1h", 2, "pause and mute alone"),
        ("resume hooks.example.org --reason x --yes", 3, "no destination"),
        ("disable absent.example.org --reason x --yes", 3, "no destination"),
        ("disable https://[::1 --reason x --yes", 2, "host"),
        ("disable --all --project a/b --reason x --yes", 2, "project"),
    ],
)
def test_the_command_refuses_in_words(
    places: list[WebhookDestination], arguments: str, code: int, words: str
) -> None:
    """Proves that nothing is changed without a reason, a yes, and something that is meant."""
    found, text = command(*arguments.split())
    assert (found, words in text) == (code, True), text
    assert (held(), disabled(), OperatorAction.objects.count()) == (set(), 0, 0)


def test_the_api_changes_one_and_many_and_a_key_its_own_project_alone(
    places: list[WebhookDestination], api: Client
) -> None:
    """Proves the life of a destination over the API, the preview, and the limits of a key."""
    path = f"{API}/{places[1].pk}"
    answer = api.post(f"{path}/pause", {"seconds": 60, "reason": "slow"}, **JSON)
    assert (answer.status_code, answer.json()["state"]) == (200, "paused"), answer.content
    assert api.get(path).json() == answer.json()
    assert api.get(f"{API}?state=held").json()["results"] == [answer.json()]
    assert api.post(f"{path}/resume", {}, **JSON).json()["state"] == "healthy"
    gone = api.post(f"{path}/disable", {"reason": "left"}, **JSON).json()
    assert (gone["state"], gone["disabled_reason"]) == ("disabled", "left")
    assert api.post(f"{path}/enable", {}, **JSON).json()["disabled_at"] is None
    assert api.post(f"{path}/pause", {}, **JSON).status_code == 422

    asked: dict[str, Any] = {"action": "pause", "host": ORIGIN, "seconds": 60}
    seen = api.post(API, {**asked, "dry_run": True}, **JSON).json()
    assert (seen["count"], seen["projects"], held()) == (3, 3, set())
    bound = Client(headers={"x-api-key": factories.make_api_key(project_id="radio")[1]})
    assert bound.post(API, asked, **JSON).json()["count"] == 1
    assert held() == {f"{ORIGIN} (radio)"}
    assert bound.get(API).json()["results"][0]["project_id"] == "radio"
    assert bound.post(f"{API}/{places[0].pk}/disable", {}, **JSON).status_code == 404
    assert api.post(API, {"action": "resume"}, **JSON).json()["errors"][0]["pointer"] == "/host"
    assert api.post(API, {"action": "resume", "all": True}, **JSON).json()["count"] == 1
    assert held() == set()
    reader = Client(headers={"x-api-key": factories.make_api_key(scopes=["read"])[1]})
    assert reader.get(API).status_code == reader.post(API, asked, **JSON).status_code == 403


def test_the_admin_shows_which_are_meant_and_does_only_that(
    places: list[WebhookDestination], admin_client: Client
) -> None:
    """Proves the preview of one origin over all projects, that what changed is shown anew."""
    page = reverse("admin:webhooks_app_webhookdestination_change_many_form")
    there = admin_client.get(f"/admin/webhooks_app/webhookdestination/{places[0].pk}/change/")
    assert f"{page}?host=https%3A%2F%2Fhooks.example.org" in there.content.decode()
    asked = {"act": "disable", "host": ORIGIN, "reason": "left"}
    shown = admin_client.post(page, asked).content.decode()
    assert "Disable 3 destinations" in shown
    assert "film, radio, stage" in shown
    confirmed = admin_client.post(page, asked).context["hidden"]
    other = {**asked, "host": "", **dict(confirmed)}
    assert "Disable 5 destinations" in admin_client.post(page, other).content.decode()
    assert disabled() == 0
    answer = admin_client.post(page, {**asked, **dict(confirmed)}, follow=True)
    assert "3 destinations are disabled." in answer.content.decode()
    assert reasons("destination.disable") == [("operator", "left")] * 3
    assert "host:port" in admin_client.post(page, {**asked, "host": "a b"}).content.decode()
    assert admin_client.post(page, {**asked, "reason": ""}).context["form"].errors["reason"]


def test_the_admin_changes_selected_rows_and_resumes_all(
    places: list[WebhookDestination], admin_client: Client
) -> None:
    """Proves the actions of the list, which need a reason and the permission to change."""
    listed = reverse("admin:webhooks_app_webhookdestination_changelist")
    chosen = {"action": "pause_selected", "_selected_action": [places[0].pk, places[4].pk]}
    assert "Pause 2 destinations" in admin_client.post(listed, chosen).content.decode()
    assert held() == set()
    yes = {**chosen, "confirmed": "1", "minutes": "5"}
    assert admin_client.post(listed, yes).context["form"].errors["reason"]
    admin_client.post(listed, {**yes, "reason": "slow"})
    assert held() == {f"{ORIGIN} (film)", "https://other.example.org (film)"}
    every = reverse("admin:webhooks_app_webhookdestination_resume_all_form")
    assert admin_client.get(every).context["form"]["act"].value() == "resume"
    asked = {"act": "resume", "reason": "back"}
    hidden = dict(admin_client.post(every, asked).context["hidden"])
    admin_client.post(every, {**asked, **hidden})
    assert held() == set()
    viewer = Client()
    viewer.force_login(factories.make_staff("viewer", is_superuser=False))
    assert viewer.get(every).status_code == 403
