"""Does the webhook app work alone? A foreign Django project installs it, without our other apps.

tests/host_project is that project. It runs in processes of its own, with a database of its own
and in a Python that lacks what the app does not need.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connections
from psycopg import sql
from standardwebhooks import Webhook

from tests import ROOT
from tests.support.receiver import Receiver, is_signed_by
from tests.support.waiting import wait_until

PROJECT = ROOT / "tests" / "host_project"
#: What the service has beside the app, and its libraries.
ABSENT = {
    *("moviesvc", "tasks_app", "tests", "unfold", "drf_spectacular", "drf_spectacular_sidecar"),
    *("dramatiq", "django_dramatiq", "django_structlog", "django_filters", "redis", "granian"),
    *("rest_framework_api_key", "environ", "whitenoise", "storages", "boto3", "standardwebhooks"),
    *("av", "skia", "numpy", "PIL"),
}
_ABSENT = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""


@contextmanager
def own_database(name: str) -> Iterator[dict[str, str]]:
    """Make a database on the tests' server, and tell the project where it is."""
    given = connections["default"].get_connection_params()
    place = {key: str(given[key]) for key in ("host", "user") if key in given}
    with psycopg.connect(dbname="postgres", autocommit=True, **place) as server:
        drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        server.execute(drop)
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield {f"SHOP_DATABASE_{key.upper()}": text for key, text in place.items()} | {
                "SHOP_DATABASE": name
            }
        finally:
            server.execute(drop)


class Shop:
    """Runs the project's programs."""

    def __init__(self, folder: Path, place: dict[str, str]) -> None:
        (folder / "sitecustomize.py").write_text(_ABSENT)
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        path = f"{folder}:{ROOT}"
        self.environment = {**kept, **place, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
        self.log = folder / "log"

    def run(self, *arguments: str) -> str:
        """Run a program to its end and return what it printed."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=PROJECT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextmanager
    def delivering(self) -> Iterator[None]:
        """Run the engine, and check that it stops when told to."""
        with self.log.open("w") as output:
            engine = subprocess.Popen(
                [sys.executable, "manage.py", "deliver_webhooks"],
                cwd=PROJECT,
                env=self.environment,
                stdout=output,
                stderr=output,
            )
        try:
            wait_until(lambda: "delivering" in self.log.read_text(), 60, self.log.read_text)
            yield
            engine.send_signal(signal.SIGTERM)
            assert engine.wait(60) == 0
        finally:
            engine.kill()
            engine.wait()


#: What the project saw, what its receiver got, and what its engine printed.
Told = tuple[dict[str, Any], Receiver, str]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """Let the project publish its events, with a receiver and an engine."""
    name = f"shop_{os.getpid()}"
    with own_database(name) as place, Receiver([200]) as receiver:
        shop = Shop(tmp_path_factory.mktemp("shop"), place)
        shop.run("manage.py", "migrate", "--verbosity", "0")
        with shop.delivering():
            seen = json.loads(shop.run("story.py", receiver.url).splitlines()[-1])
        yield seen, receiver, shop.log.read_text()


def test_it_publishes_delivers_and_replays(told: Told) -> None:
    """An event of the shop arrives, signed, and arrives again for each replay."""
    seen, receiver, _ = told
    assert seen["delivered"] == ["delivered"]
    assert "1 delivered, 0 dead" in seen["replayed"]
    assert len(receiver.requests) == 3
    verifier = Webhook(seen["secret"])
    for request in receiver.requests:
        assert request.message_id == seen["event_id"]
        assert json.loads(request.body) == {"type": "order.shipped", "order": "order-1"}
        assert is_signed_by(verifier, request)
        assert request.headers["user-agent"] == "Django-Webhooks"


def test_every_page_of_the_api_answers_whom_the_project_lets_in(told: Told) -> None:
    """With the project's own authentication every page opens; without it none does."""
    seen = told[0]
    assert len(seen["pages"]) >= 11
    assert set(seen["pages"].values()) == {200}
    assert set(seen["pages of a stranger"].values()) == {401}
    refused = {page for page, status in seen["pages of who looks"].items() if status != 200}
    named = {page.removeprefix("/shop/api/webhooks/").split("/")[0] for page in refused}
    assert named >= {"signing-secret", "destinations", "operator-actions"}
    assert not named & {"messages", "deliveries", "endpoints", "replays", "events"}
    assert {seen["pages of who looks"][page] for page in refused} == {403}
    assert seen["keys"] == {"keys": []}
    assert seen["payload"] == seen["events"] == {"type": "order.shipped", "order": "order-1"}


def test_addresses_in_answers_are_the_projects(told: Told) -> None:
    """Under any prefix of the API, the URLs in its answers work."""
    seen = told[0]
    assert seen["endpoint"][1].startswith("/shop/api/webhooks/endpoints/")
    assert seen["replay"][1].startswith("/shop/api/webhooks/replays/")
    assert seen["locations"] == [200, 200, 200]
    assert seen["next"].startswith("http://testserver/shop/api/webhooks/deliveries?")


def test_event_types_are_the_projects(told: Told) -> None:
    """Endpoints subscribe to the project's types and to meta events, and the answer names those."""
    status, _, answer = told[0]["unknown type"]
    assert (status, answer["code"]) == (422, "invalid")
    known = "order.paid, order.shipped, endpoint.failing, endpoint.disabled, endpoint.recovered"
    assert answer["errors"][0]["message"] == f"Must be one of: {known}."


def test_every_admin_page_opens_in_djangos_own_admin(told: Told) -> None:
    """Lists, rows and operations show without the theme, and their stylesheets are there."""
    visited = told[0]["admin"]
    assert len(told[0]["lists"]) == 7
    assert set(told[0]["lists"]) <= set(visited)
    assert {page for page, status in visited.items() if status not in (200, 302)} == set()
    for page in (
        "webhookmessage/1/do/replay/",
        "webhookmessage/replay/",
        "webhookdestination/1/do/disable/",
        "webhookdelivery/1/change/",
    ):
        assert f"/admin/webhooks_app/{page}" in visited
    assert "/static/webhooks_app/plain.css" in visited


def test_the_host_keeps_what_is_its_own(told: Told) -> None:
    """The admin's first page, the garbage collector and the log are as the project has them."""
    seen, _, log = told
    assert seen["index"] == ["Site administration"]
    assert seen["collector"][:2] == [True, 0]
    assert seen["handlers"] == 0
    assert log.splitlines() == [
        "Webhooks may go to addresses that are not public networks='127.0.0.0/8'",
        "delivering webhooks; SIGTERM stops",
    ]


def test_the_command_prunes(told: Told) -> None:
    """Finished messages are deleted by `prune_webhooks`, with their attempts and events."""
    assert told[0]["pruned"].startswith("removed 1 message, 3 attempts, 1 event,")
    assert told[0]["left"] == 0


@pytest.mark.parametrize("name", ["urls.py", "access.py", "orders.py", "settings.py"])
def test_the_guide_shows_this_project(name: str) -> None:
    """The code that docs/webhooks-app.md shows is the code that runs here."""
    page = (ROOT / "docs" / "webhooks-app.md").read_text()
    shown = re.findall(rf"```python\n# {name}\n(.*?)```", page, re.DOTALL)
    assert shown
    assert [code for code in shown if code not in (PROJECT / name).read_text()] == []
