"""What becomes of an asset that a URL names: fetched under guard, tried again, or failed?"""

from __future__ import annotations

import hashlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from tasks_app import tickets
from tasks_app.assets import fetch
from tasks_app.models import MediaFile, TaskInput
from tasks_app.state import assets
from tests.support import answers, factories
from tests.support.answers import Answer
from tests.support.factories import PROJECT
from tests.support.forward_proxy import ForwardProxy
from tests.support.ports import free_port
from tests.support.receiver import Receiver
from tests.support.uploads import ASSETS, png

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _one_address_allowed(settings: Any) -> None:
    """Plain http to 127.0.0.1, and to no other address of this machine."""
    guard = {"REQUIRE_HTTPS": False, "ALLOW_NETWORKS": ["127.0.0.1/32"], "DENY_NETWORKS": []}
    settings.WEBHOOKS = {**settings.WEBHOOKS, **guard}
    settings.TASK_RETRY_WAITS = [0.0, 0.0]


def stored_files(settings: Any) -> list[Path]:
    places = (Path(settings.MEDIA_ROOT), Path(settings.WORK_ROOT))
    return [path for place in places for path in place.rglob("*") if path.is_file()]


def ask(api: Client, url: str, **more: Any) -> dict[str, Any]:
    """Name a URL as an asset."""
    answer = api.post(ASSETS, {"project_id": PROJECT, "url": url, **more}, "application/json")
    assert answer.status_code == 201, answer.content
    asset: dict[str, Any] = answer.json()
    assert asset["state"] == "pending"
    return asset


def fetched(api: Client, url: str) -> dict[str, Any]:
    """Name a URL as an asset, let a worker fetch it, and return what became of it."""
    asset = ask(api, url)
    fetch.fetch_due()
    found: dict[str, Any] = api.get(f"{ASSETS}/{asset['asset_id']}").json()
    return found


def test_a_url_becomes_a_ready_asset(api: Client, settings: Any) -> None:
    """It is pending, and after a worker fetched it described as an upload would be."""
    content = png()
    with Receiver([answers.redirect("/there"), Answer(body=content)]) as server:
        asset = fetched(api, f"{server.url}?signature=secret")
    assert (asset["state"], asset["origin"]) == ("ready", "url")
    assert asset["sha256"] == hashlib.sha256(content).hexdigest()
    assert "secret" not in asset["source_url"]
    link = asset["media_url"].removeprefix(settings.PUBLIC_URL)
    assert b"".join(api.get(link)) == content
    assert [request.method for request in server.requests] == ["GET", "GET"]


BLOCKED = [
    "http://127.0.0.2:9/",
    "http://[::1]:9/",
    "http://169.254.169.254/latest/meta-data/",
    "http://10.0.0.1/",
    "http://[::ffff:10.0.0.1]/",
]


@pytest.mark.parametrize("url", BLOCKED)
def test_a_redirect_to_a_blocked_address_fails(api: Client, settings: Any, url: str) -> None:
    """Each hop is judged: an allowed server cannot lead us to an address that is not."""
    with Receiver([answers.redirect(url)]) as server:
        asset = fetched(api, server.url)
    assert (asset["state"], asset["error_code"]) == ("failed", "blocked_address")
    assert asset["error"]
    assert stored_files(settings) == []


@pytest.mark.parametrize("url", [*BLOCKED, "file:///etc/passwd", "ftp://127.0.0.1/", "x"])
def test_a_blocked_address_is_refused_at_once(api: Client, url: str) -> None:
    """A URL that may not be called is 422 before anything is stored."""
    answer = api.post(ASSETS, {"project_id": PROJECT, "url": url}, "application/json")
    assert answer.status_code == 422, answer.content
    assert answer.json()["errors"][0]["code"] in ("blocked_address", "invalid_url")
    assert not MediaFile.objects.exists()


def test_a_name_that_leads_inside_is_blocked_when_dialled(api: Client, settings: Any) -> None:
    """The address counts, not the name: a policy that changed meanwhile holds at the dial."""
    with Receiver([Answer(body=png())]) as server:
        asset = ask(api, server.url)
        settings.WEBHOOKS = {**settings.WEBHOOKS, "ALLOW_NETWORKS": []}
        fetch.fetch_due()
    assert MediaFile.objects.get(pk=asset["asset_id"]).error_code == "blocked_address"
    assert server.connections == 0


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ([Answer(404)], "http_status"),
        ([answers.redirect("/again")] * 6, "too_many_redirects"),
        ([answers.endless_body()], "too_large"),
        ([Answer(body=b"<html>not found</html>")], "unsupported_media"),
        ([Answer(503)] * 3, "http_status"),
        ([answers.reset()] * 3, "unreachable"),
    ],
    ids=["404", "circle", "endless", "html", "503 thrice", "reset thrice"],
)
def test_what_cannot_be_had_fails_with_a_code(
    api: Client, settings: Any, script: list[Answer], code: str
) -> None:
    """Each way to fail has its code; only what may pass is asked for again, and nothing stays."""
    settings.ASSET_MAX_BYTES = 100_000
    with Receiver(script) as server:
        asset = fetched(api, server.url)
    assert (asset["state"], asset["error_code"]) == ("failed", code)
    assert server.connections >= len(script)  # aiohttp asks again by itself after a reset
    assert stored_files(settings) == []


def test_a_passing_fault_is_tried_again(api: Client) -> None:
    """A 503 and a reset connection do not end it: the third try brings the picture."""
    with Receiver([Answer(503), answers.reset(), Answer(body=png())]) as server:
        asset = fetched(api, server.url)
    assert (asset["state"], asset["error_code"]) == ("ready", None)


def test_a_proxy_that_is_down_uses_up_no_attempt(api: Client, settings: Any) -> None:
    """An asset waits for ASSET_PROXY, comes through it later, and fails after a day of waiting."""
    settings.TASK_RETRY_WAITS = []
    port = free_port()
    settings.ASSET_PROXY = f"http://127.0.0.1:{port}"
    with Receiver([Answer(body=png())]) as server:
        asset = ask(api, server.url)
        mine = MediaFile.objects.filter(pk=asset["asset_id"])
        for _ in range(3):
            fetch.fetch_due()
            file = mine.get()
            assert (file.state, file.attempts, file.error_code) == ("pending", 0, "unreachable")
            assert file.due_at is not None
            assert 0 < (file.due_at - timezone.now()).total_seconds() <= 60
            mine.update(due_at=timezone.now())
        assert server.connections == 0
        with ForwardProxy(port=port) as forward:
            fetch.fetch_due()
            assert forward.asked == [f"127.0.0.1:{server.port}"]
        assert mine.get().state == "ready"
        late = MediaFile.objects.filter(pk=ask(api, server.url + "?late")["asset_id"])
        late.update(created_at=timezone.now() - timedelta(days=1, seconds=1))
        fetch.fetch_due()
        assert (late.get().state, late.get().error_code) == ("failed", "unreachable")


def test_the_same_bytes_fetched_twice_are_one_asset(api: Client, settings: Any) -> None:
    """The second id leads to the first asset, and so do the tasks that named it."""
    with Receiver([Answer(body=png()), Answer(body=png())]) as server:
        first = fetched(api, server.url)
        second = ask(api, server.url)
        task = factories.make_task("queued")
        TaskInput.objects.create(task=task, name="image", file_id=second["asset_id"])
        fetch.fetch_due()
    found = api.get(f"{ASSETS}/{second['asset_id']}").json()
    assert found["asset_id"] == first["asset_id"]
    assert task.inputs.get().file_id == first["asset_id"]
    assert [row["asset_id"] for row in api.get(ASSETS).json()["results"]] == [first["asset_id"]]
    assert len(stored_files(settings)) == 1
    task.delete()
    assert api.delete(f"{ASSETS}/{second['asset_id']}").status_code == 204
    assert not MediaFile.objects.exists()


def test_a_quota_holds_for_what_is_fetched(api: Client, settings: Any) -> None:
    """What does not fit when its size is known fails; a project without a byte left hears 429."""
    settings.ASSET_QUOTA_BYTES = len(png(1)) + 10
    with Receiver([Answer(body=png(1)), Answer(body=png(2))]) as server:
        assert fetched(api, server.url)["state"] == "ready"
        assert fetched(api, server.url)["error_code"] == "quota_exceeded"
    settings.ASSET_QUOTA_BYTES = 10
    full = api.post(ASSETS, {"project_id": PROJECT, "url": server.url}, "application/json")
    assert (full.status_code, full.json()["code"]) == (429, "quota_exceeded")
    assert len(stored_files(settings)) == 1


def test_a_key_makes_one_asset_of_a_url(api: Client) -> None:
    """Repeated with the same Idempotency-Key it is the same asset, another URL is a conflict."""

    def once(url: str) -> Any:
        body = {"project_id": PROJECT, "url": url}
        return api.post(ASSETS, body, "application/json", headers={"Idempotency-Key": "k"})

    first, again = once("https://a.example.org/1"), once("https://a.example.org/1")
    assert again.json() == first.json()
    assert again["Idempotent-Replayed"] == "true"
    assert once("https://a.example.org/2").json()["code"] == "idempotency_conflict"
    assert MediaFile.objects.count() == 1


def test_a_fetch_of_a_lost_worker_is_taken_over(api: Client) -> None:
    """When its lease has run out another worker fetches it; the first one's end counts no more."""
    with Receiver([Answer(body=png())]) as server:
        asset = ask(api, server.url)
        lost = assets.claim(30.0)
        assert lost is not None
        fetch.fetch_due()
        assert server.connections == 0, "its lease holds"
        MediaFile.objects.update(due_at=timezone.now() - timedelta(seconds=1))
        fetch.fetch_due()
    assert api.get(f"{ASSETS}/{asset['asset_id']}").json()["state"] == "ready"
    assert not assets.fail(lost, "internal_error")
    with pytest.raises(assets.Overtaken):
        assets.finish(lost)
    assert MediaFile.objects.get().state == "ready"


def test_a_deleted_asset_is_not_fetched(api: Client, settings: Any) -> None:
    """Deleted while it waits, it is gone at once and no worker asks for it."""
    with Receiver([Answer(body=png())]) as server:
        asset = ask(api, server.url)
        assert api.delete(f"{ASSETS}/{asset['asset_id']}").status_code == 204
        fetch.fetch_due()
        assert server.connections == 0
    assert not MediaFile.objects.exists()


def test_a_ticket_brings_a_worker_to_it() -> None:
    """The ticket's actor and queue exist where workers look for them."""
    from tasks_app.actors import ACTORS

    assert ACTORS[tickets.FETCH].queue_name == tickets.FETCH_QUEUE
