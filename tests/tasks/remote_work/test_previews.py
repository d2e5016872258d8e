"""Can a task be seen while a ComfyUI works on it: by whom, how often, and until when?"""

import asyncio
import io
import uuid

import pytest
from django.test import Client
from django.urls import reverse
from PIL import Image

from tasks_app import redis_gate
from tasks_app.media import previews
from tasks_app.providers.remote.base import JobStatus
from tasks_app.remote_work.writes import Writes
from tests.support import factories
from tests.support.comfyui import painter, write
from tests.support.fake_provider import png
from tests.support.remote_work import begin, ended, remote_work, use
from tests.support.servers.comfyui import ComfyUI
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)
LEGACY, WITH_METADATA = b"\0\0\0\1\0\0\0\2", b"\0\0\0\4\0\0\0\2{}"


@pytest.fixture
def comfy(settings, tmp_path):
    """A server that is asked for nothing but a look each tenth of a second."""
    with ComfyUI() as server:
        settings.PROVIDER_ALLOW_NETWORKS = ["127.0.0.0/8"]
        settings.COMFYUI_URLS = [f"gpu-a={server.url}"]
        settings.COMFYUI_WORKFLOWS = str(write(tmp_path / "workflows", painter=painter()))
        use("comfyui", model="painter", poll_seconds=0.1)
        yield server


def client_of(project):
    return Client(headers={"x-api-key": factories.make_api_key(project_id=project)[1]})


def shown(task, client):
    """Return the answer to the question for a task's preview."""
    return client.get(f"/api/v1/tasks/{task.pk}/preview", headers={"accept": "image/*"})


@pytest.mark.parametrize("head", [LEGACY, WITH_METADATA])
def test_a_preview_is_seen_while_the_task_runs(comfy, head, admin_client, monkeypatch):
    """Proves that the picture goes to keys of the project and to the admin, and ends with the work.

    The key of another project hears what it hears of a task that does not exist.
    """
    monkeypatch.setattr(previews, "PREVIEW_SECONDS", 0.1)
    comfy.state.preview = head + png(48, 32)
    comfy.hold()
    own, other = client_of("p"), client_of("another")
    with remote_work():
        task = begin()
        page = reverse("admin:tasks_app_task_preview", args=[task.pk])
        live = reverse("admin:tasks_app_task_live", args=[task.pk])
        wait_until(lambda: shown(task, own).status_code == 200, 30)
        answer = shown(task, own)
        assert Image.open(io.BytesIO(answer.content)).size == (48, 32)
        assert answer.headers["content-type"] == "image/png"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        refused = shown(task, other)
        assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
        assert admin_client.get(page).content == answer.content
        assert admin_client.get(live).json()["preview"].startswith(page)
        assert Client().get(page).status_code == 302
        comfy.let_go()
        task = ended(task)
    assert task.status == "completed"
    assert (shown(task, own).status_code, shown(task, own).content) == (204, b"")
    assert admin_client.get(page).status_code == 404
    assert admin_client.get(live).json()["preview"] == ""


@pytest.mark.parametrize(
    "frame", [LEGACY + b"no picture", LEGACY + png() + bytes(1 << 20), b"\0\0\0\4\xff\xff\xff\xff"]
)
def test_a_message_that_is_no_preview_changes_nothing(comfy, frame):
    """Proves that whatever comes in binary messages, the task ends well, and shows nothing."""
    comfy.state.preview = frame
    comfy.hold()
    with remote_work():
        task = begin()
        wait_until(lambda: comfy.state.previews_sent > 2, 30)
        assert shown(task, client_of("p")).status_code == 204
        comfy.let_go()
        assert ended(task).status == "completed"


def test_a_preview_is_replaced_now_and_then_and_kept_for_a_while(monkeypatch):
    """Proves that of those that come within an interval only the first is kept, for a minute."""
    job_id, key = str(uuid.uuid4()), previews._key
    monkeypatch.setattr(previews, "PREVIEW_SECONDS", 600.0)

    async def store(*_, **__):
        return True

    def tell(picture):
        asyncio.run(writes.told(job_id, JobStatus(False, preview=picture)))
        return redis_gate.client().get(key(job_id))

    writes, first, second = Writes(store), png(48, 32), png(32, 48)
    assert [tell(first), tell(second)] == [first, first]
    assert 0 < redis_gate.client().ttl(key(job_id)) <= previews.KEPT_SECONDS
    monkeypatch.setattr(previews, "PREVIEW_SECONDS", 0.0)
    assert tell(second) == second


@pytest.mark.parametrize(("status", "state"), [("processing", "ready"), ("failed", "stopping")])
def test_a_job_that_has_ended_shows_nothing(status, state):
    """Proves that a preview is shown no longer than its work runs, whatever Redis still has."""
    job = factories.make_remote_job(state, task=factories.make_task(status, project_id="p"))
    assert previews.keep(str(job.pk), png())
    assert shown(job.task, client_of("p")).status_code == 204
    assert not previews.has_one(job.task)
