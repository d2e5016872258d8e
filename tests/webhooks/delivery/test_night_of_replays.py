"""A night: three customers, two of whose receivers fail, repaired after docs/operations.md.

Each door is used as the page says, against real receivers and the engine: nobody gets an event of
somebody else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from tests.support import factories
from tests.support.receiver import Receiver
from tests.support.running import is_all_ended, publish, running_engine
from tests.support.waiting import wait_until
from webhooks_app.models import WebhookMessage
from webhooks_app.signing.store import get_or_create

pytestmark = pytest.mark.django_db(transaction=True)
PROJECTS = ("film", "studio", "archive")
Asked = dict[str, Any]


def through_command(asked: Asked) -> bool:
    """Run the command; say whether it was allowed."""
    names = {"to": "to", "project": "project", "since": "since", "all": "all_projects"}
    options = {names[name]: value for name, value in asked.items()}
    try:
        call_command("replay_webhooks", **{"reason": "the outage", "yes": True, **options})
    except CommandError as refused:
        return "--all-projects" not in str(refused)
    return True


def through_api(asked: Asked) -> bool:
    """Send the request; say whether it was allowed."""
    api = Client(headers={"x-api-key": factories.make_api_key()[1]})
    chosen = {"project_id": asked["project"]} if "project" in asked else {}
    body: Asked = {"filter": chosen, "reason": "the outage"}
    body |= {"callback_url": asked["to"]} if "to" in asked else {}
    body |= {"all_projects": True} if "all" in asked else {}
    dry = api.post(
        "/api/v1/webhooks/replays", {**body, "dry_run": True}, content_type="application/json"
    ).json()
    assert (dry["to"], set(dry["projects"]) <= set(PROJECTS)) == (asked.get("to"), True)
    answer = api.post("/api/v1/webhooks/replays", body, content_type="application/json")
    if answer.status_code == 409:
        assert answer.json()["code"] == "several_projects"
        assert answer.json()["projects"] == sorted(dry["projects"])
        return False
    assert answer.status_code == 202, answer.content
    return True


def through_admin(asked: Asked) -> bool:
    """Fill in the form and confirm what it shows; say whether that was allowed."""
    client = Client()
    client.force_login(factories.make_staff())
    form = {"status": "dead", "what": "send", "reason": "the outage"}
    form |= {"target_url": asked["to"]} if "to" in asked else {}
    form |= {name: asked[name] for name in ("project", "since") if name in asked}
    form |= {"all_projects": "on"} if "all" in asked else {}
    page = reverse("admin:webhooks_app_webhookmessage_replay_with_filter_form")
    shown = client.post(page, form).content.decode()
    confirmed = re.search(r'name="confirmed" value="([^"]*)"', shown)
    assert confirmed, shown
    pinned = re.search(r'name="since" value="([^"]*)"', shown)
    since = {"since": pinned[1]} if pinned else {}
    answer = client.post(page, {**form, **since, "confirmed": confirmed[1]})
    if answer.status_code == 200:
        assert "projects would go to one URL" in answer.content.decode()
        assert 'name="all_projects"' in answer.content.decode()
        return False
    return True


DOORS: dict[str, Callable[[Asked], bool]] = {
    "command": through_command,
    "api": through_api,
    "admin": through_admin,
}


def projects_at(receiver: Receiver) -> set[str]:
    return {json.loads(request.body)["project"] for request in receiver.requests}


def dead() -> int:
    return WebhookMessage.objects.filter(status="dead").count()


@pytest.mark.parametrize("door", DOORS)
def test_a_night_of_three_customers(door: str) -> None:
    """Shows that each event ends at its own customer's receiver, through this door alone."""
    replay, secrets = DOORS[door], {name: get_or_create(name) for name in PROJECTS}
    with ExitStack() as stack:
        stack.enter_context(running_engine())
        film, studio, archive, backup, shared = (
            stack.enter_context(Receiver([status])) for status in (500, 500, 200, 200, 200)
        )
        at = dict(zip(PROJECTS, (film, studio, archive), strict=True))
        for name, receiver in at.items():
            for number in range(3):
                body = json.dumps({"project": name}).encode()
                subject = f"{name}-{number}"
                publish(receiver.url, scope=name, subject=subject, body=body, policy=())
        wait_until(lambda: dead() == 6 and is_all_ended(), timeout=15)
        assert projects_at(archive) == {"archive"}

        # "studio" moved: without the second yes nothing of "film" may go to its new address.
        assert not replay({"to": backup.url})
        assert (backup.requests, dead()) == ([], 6)
        assert replay({"to": backup.url, "project": "studio", "since": "2h"})
        wait_until(lambda: len(backup.requests) == 3 and is_all_ended(), timeout=15)
        assert projects_at(backup) == {"studio"}
        assert dead() == 3
        # "film" is back: what is dead is its own, and goes where it always went.
        film.answer(200)
        assert replay({"since": "2h"})
        wait_until(lambda: dead() == 0 and is_all_ended(), timeout=15)
        assert projects_at(film) == {"film"}
        assert (projects_at(studio), len(studio.requests)) == ({"studio"}, 3)
        # Everything is told, so once more means nothing; both to one place needs the second yes.
        assert WebhookMessage.objects.filter(status="replayed").count() == 3
        WebhookMessage.objects.filter(status="delivered").update(status="dead")
        assert not replay({"to": shared.url})
        assert replay({"to": shared.url, "all": True})
        wait_until(lambda: len(shared.requests) == 9 and is_all_ended(), timeout=15)
        assert projects_at(shared) == set(PROJECTS)
    assert len(secrets) == len(PROJECTS)
