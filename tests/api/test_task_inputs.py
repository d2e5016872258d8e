"""Can a task be made from files: which are taken, which refused, and who waits for whom?"""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks_app.assets import fetch
from tasks_app.models import WAITS_FOR_INPUTS, MediaFile, Task
from tasks_app.providers.accepts import INPUTS
from tasks_app.state import assets, inputs, lifecycle
from tests.support import factories
from tests.support.answers import Answer
from tests.support.factories import PROJECT
from tests.support.receiver import Receiver
from tests.support.routes import client_of
from tests.support.uploads import ASSETS, png

pytestmark = pytest.mark.django_db
SUBMIT = "/api/v1/tasks/submit"
FILM = "video_generation"


@pytest.fixture(autouse=True)
def _loopback_allowed(settings: Any) -> None:
    """Plain http to 127.0.0.1."""
    guard = {"REQUIRE_HTTPS": False, "ALLOW_NETWORKS": ["127.0.0.1/32"], "DENY_NETWORKS": []}
    settings.WEBHOOKS = {**settings.WEBHOOKS, **guard}
    settings.TASK_RETRY_WAITS = []


def submit(api: Client, given: Any, *, task_type: str = FILM, **more: Any) -> Any:
    """Submit a task that names inputs."""
    data = {"prompt": "a lamp", "inputs": given, **more.pop("task_data", {})}
    body = {"project_id": PROJECT, "task_type": task_type, "task_data": data, **more}
    return api.post(SUBMIT, body, "application/json")


def task_of(answer: Any) -> Task:
    """Return the task that a submit made."""
    assert answer.status_code == 201, answer.content
    return Task.objects.get(pk=answer.json()["task_id"])


def problems_of(answer: Any) -> set[tuple[str, str]]:
    """Return the pointers and codes of a 422."""
    assert answer.status_code == 422, answer.content
    return {(each["pointer"], each["code"]) for each in answer.json()["errors"]}


def test_a_task_names_assets_urls_and_files_of_tasks(api: Client) -> None:
    """Each of the three kinds of value is bound to a file, under its name and in its order."""
    first, second = factories.make_asset(), factories.make_asset()
    made = factories.make_media_file(role="last_frame", media_type="image/png")
    names = {
        "first_frame": {"task": str(made.task_id), "role": "last_frame"},
        "reference_images": [{"asset": second.id}, {"asset": first.id}],
        "last_frame": {"url": "https://a.example.org/b.png"},
    }
    task = task_of(submit(api, names))
    bound = {(row.name, row.position): row.file_id for row in task.inputs.all()}
    fetched = MediaFile.objects.get(origin="url")
    assert bound == {
        ("first_frame", 0): made.id,
        ("reference_images", 0): second.id,
        ("reference_images", 1): first.id,
        ("last_frame", 0): fetched.id,
    }
    assert (fetched.state, fetched.project_id) == ("pending", PROJECT)


def test_what_cannot_be_an_input_is_told_with_its_place(api: Client) -> None:
    """Absent, foreign, failed and deleted assets, and tasks without such a file, are 422."""
    other = factories.make_asset(project_id="another")
    failed = factories.make_asset("failed", error_code="http_status")
    gone = factories.make_asset("deleting")
    sound = factories.make_asset(media_type="audio/wav")
    made, running = factories.make_media_file(), factories.make_task("processing")
    foreign = factories.make_media_file(factories.make_task("completed", project_id="another"))
    place = "/task_data/inputs"
    for value, code in (
        ({"asset": "0123456789abcdef"}, "unknown_asset"),
        ({"asset": other.id}, "unknown_asset"),
        ({"asset": gone.id}, "unknown_asset"),
        ({"asset": failed.id}, "asset_failed"),
        ({"asset": sound.id}, "not_allowed"),
        ({"task": str(uuid.uuid4())}, "unknown_asset"),
        ({"task": str(made.task_id), "role": "last_frame"}, "unknown_asset"),
        ({"task": str(foreign.task_id)}, "unknown_asset"),
        ({"task": str(running.id)}, "not_ready"),
    ):
        answer = submit(api, {"first_frame": value})
        assert problems_of(answer) == {(f"{place}/first_frame", code)}, value
    several = submit(
        api, {"reference_images": [{"asset": factories.make_asset().id}, {"asset": "x"}]}
    )
    assert problems_of(several) == {(f"{place}/reference_images/1", "unknown_asset")}
    assert Task.objects.filter(status="queued").count() == 0


@pytest.mark.parametrize(
    ("given", "place", "code"),
    [
        ({"first_frame": {}}, "/first_frame", "required"),
        (
            {"first_frame": {"asset": "a", "url": "https://a.example.org/"}},
            "/first_frame",
            "required",
        ),
        ({"first_frame": {"asset": "a", "role": "x"}}, "/first_frame/role", "not_allowed"),
        ({"first_frame": "0123456789abcdef"}, "/first_frame", "bad_type"),
        ({"first_frame": {"url": "http://10.0.0.1/"}}, "/first_frame/url", "blocked_address"),
        ({"first_frame": {"task": "x"}}, "/first_frame/task", "bad_format"),
        ({"first_frame": [{"asset": "a"}]}, "/first_frame", "bad_type"),
        ({"mask": {"asset": "a"}}, "/mask", "unknown_field"),
        ({"reference_images": [{"asset": "a"}] * 9}, "/reference_images", "too_long"),
    ],
)
def test_inputs_are_read_strictly(api: Client, given: Any, place: str, code: str) -> None:
    """One of three, under a name of the type, and in the right form."""
    assert (f"/task_data/inputs{place}", code) in problems_of(submit(api, given))


def test_a_stranger_learns_nothing_of_another_projects_assets(api: Client) -> None:
    """To a key of another project, an asset that is there is as one that is not."""
    asset = factories.make_asset()
    stranger = client_of(project_id="another")
    there, absent = (
        submit(stranger, {"first_frame": {"asset": name}})
        for name in (asset.id, "0123456789abcdef")
    )
    assert (there.status_code, absent.status_code) == (403, 403)
    assert there.json()["code"] == absent.json()["code"] == "other_project"


def test_the_names_are_those_that_providers_know() -> None:
    """The schemas and the table of what providers accept have the same names of inputs."""
    from tasks_app.api import task_inputs

    forms = {
        "video": task_inputs.VideoInputs,
        "image": task_inputs.ImageInputs,
        "audio": task_inputs.AudioInputs,
    }
    assert {media: set(form().fields) for media, form in forms.items()} == {
        media: set(names) for media, names in INPUTS.items()
    }


def test_reference_images_of_the_scene_are_inputs(api: Client) -> None:
    """The alias is bound like the name that it is short for; its faults stand where it stands."""
    asset = factories.make_asset()
    old = {"scene_data": {"prompt": "x", "reference_images": [asset.id, "https://a.example.org/"]}}
    body = {"project_id": PROJECT, "task_type": FILM, "task_data": old}
    task = task_of(api.post(SUBMIT, body, "application/json"))
    assert [row.name for row in task.inputs.all()] == ["reference_images"] * 2
    assert task.inputs.get(position=0).file_id == asset.id
    body["task_data"] = {"scene_data": {"prompt": "x", "reference_images": ["0123456789abcdef"]}}
    place = "/task_data/scene_data/reference_images"
    faults = problems_of(api.post(SUBMIT, body, "application/json"))
    assert faults == {(f"{place}/0", "unknown_asset")}
    body["task_data"] = {**old, "inputs": {"reference_images": {"asset": asset.id}}}
    assert problems_of(api.post(SUBMIT, body, "application/json")) == {(place, "not_allowed")}


def test_a_task_waits_for_its_inputs_and_then_is_due(api: Client) -> None:
    """Not claimed while an input is pending, though others are; due when the last one is ready."""
    with Receiver([Answer(body=png(1)), Answer(body=png(2))]) as server:
        one, two = ({"url": f"{server.url}?{number}"} for number in (1, 2))
        task = task_of(submit(api, {"first_frame": one, "last_frame": two}))
        assert task.available_at == WAITS_FOR_INPUTS
        shown = api.get(f"/api/v1/tasks/{task.pk}").json()
        assert (shown["status"], shown["next_attempt_at"]) == ("queued", None)
        assert shown["current_step"] == "waiting for inputs"
        assert lifecycle.claim_next(FILM) is None
        assert fetch._fetch_one()
        assert lifecycle.claim_next(FILM) is None
        assert fetch._fetch_one()
    claimed = lifecycle.claim_next(FILM)
    assert claimed is not None
    assert claimed.pk == task.pk


def test_a_failed_input_fails_the_task(api: Client) -> None:
    """The task ends with input_failed and its event, when the URL cannot be had."""
    with Receiver([Answer(404)]) as server:
        answer = submit(api, {"first_frame": {"url": server.url}}, callback_url=server.url)
        task = task_of(answer)
        fetch.fetch_due()
    task.refresh_from_db()
    assert (task.status, task.error_code) == ("failed", "input_failed")
    shown = api.get(f"/api/v1/tasks/{task.pk}").json()
    assert shown["error"].startswith("Task execution failed: ")
    assert (shown["attempts"], shown["webhooks"]["state"]) == (0, "pending")


def test_the_sweep_finds_what_nobody_settled(api: Client) -> None:
    """A worker that dies between the asset's end and the task's leaves both to the sweep."""
    ready, failed = factories.make_asset("pending"), factories.make_asset("pending")
    waits = task_of(submit(api, {"first_frame": {"asset": ready.id}}))
    fails = task_of(submit(api, {"first_frame": {"asset": failed.id}}))
    MediaFile.objects.filter(pk=ready.pk).update(state="ready")
    MediaFile.objects.filter(pk=failed.pk).update(state="failed")
    assert inputs.settle() == 2
    assert inputs.settle() == 0
    waits.refresh_from_db()
    fails.refresh_from_db()
    assert waits.available_at <= timezone.now()
    assert (fails.status, fails.error_code) == ("failed", "input_failed")


def test_a_waiting_task_can_be_cancelled_and_retried(api: Client) -> None:
    """Cancelled it fails no more with its input; its retry names the same files again."""
    pending = factories.make_asset("pending")
    task = task_of(submit(api, {"first_frame": {"asset": pending.id}}))
    assert api.delete(f"/api/v1/tasks/{task.pk}").json()["status"] == "cancelled"
    MediaFile.objects.filter(pk=pending.pk).update(state="ready")
    again = api.post(f"/api/v1/tasks/{task.pk}/retry")
    retried = task_of(again)
    assert retried.inputs.get().file_id == pending.pk
    assert retried.available_at < WAITS_FOR_INPUTS
    api.delete(f"/api/v1/tasks/{retried.pk}")
    MediaFile.objects.filter(pk=pending.pk).update(state="deleting")
    refused = api.post(f"/api/v1/tasks/{retried.pk}/retry")
    assert problems_of(refused) == {("/task_data/inputs/first_frame", "unknown_asset")}


def test_an_input_stays_until_its_tasks_have_ended(api: Client) -> None:
    """409 for an asset that a queued task names; its retention does not count meanwhile."""
    asset = factories.make_asset(expires_at=timezone.now())
    made = factories.make_media_file(media_type="image/png")
    names = {"first_frame": {"asset": asset.id}, "last_frame": {"task": str(made.task_id)}}
    task = task_of(submit(api, names))
    assert api.delete(f"{ASSETS}/{asset.id}").status_code == 409
    assert not assets.expired().exists()
    with pytest.raises(assets.InUse):
        assets.begin_delete(made.pk)
    lifecycle.cancel(task.pk)
    assert [file.pk for file in assets.expired()] == [asset.pk]
    assert api.delete(f"{ASSETS}/{asset.id}").status_code == 204


@pytest.mark.django_db(transaction=True)
def test_no_task_names_an_asset_that_is_being_deleted() -> None:
    """Of a submit and a DELETE at the same time one wins: never a task whose input is gone."""
    key = factories.make_api_key()[1]

    def at_once(number: int) -> int:
        api = Client(headers={"x-api-key": key})
        asset = ids[number // 2]
        try:
            if number % 2:
                return int(api.delete(f"{ASSETS}/{asset}").status_code)
            return int(submit(api, {"first_frame": {"asset": asset}}).status_code)
        finally:
            connections.close_all()

    ids = [factories.make_asset(path="").pk for _ in range(20)]
    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(at_once, range(40)))
    assert set(zip(statuses[::2], statuses[1::2], strict=True)) <= {(201, 409), (422, 204)}
    with suppress(Task.DoesNotExist):
        assert all(task.inputs.count() == 1 for task in Task.objects.all())


def test_a_submit_without_inputs_looks_for_none(api: Client) -> None:
    """Nothing of all this is asked of the database for a task that names no file."""
    body = {"project_id": PROJECT, "task_type": FILM, "task_data": {"prompt": "a lamp"}}
    with CaptureQueriesContext(connection) as queries:
        assert api.post(SUBMIT, body, "application/json").status_code == 201
    asked = " ".join(query["sql"] for query in queries.captured_queries)
    assert "tasks_app_task" in asked
    assert "mediafile" not in asked
    assert "taskinput" not in asked
