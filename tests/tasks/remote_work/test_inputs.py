"""How does a file that a client hands in reach a provider? In the provider's way, over HTTP."""

import base64
import json
from pathlib import Path

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.test import Client

from tasks_app.models import Task
from tasks_app.providers.remote import fal
from tasks_app.providers.remote.openai_compatible import OpenAICompatibleProvider
from tasks_app.work import run
from tests.support import factories
from tests.support.fake_provider import Reply, png
from tests.support.forward_proxy import ForwardProxy
from tests.support.remote_work import CREATE, KEY, MODEL, TYPE, ended, remote_work
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

PICTURE = png(32, 32)
SUBMIT = f"POST /{MODEL}"  # of fal


@pytest.fixture
def asset():
    """A picture of a client, with its bytes in the storage."""
    made = factories.make_asset(size_bytes=len(PICTURE))
    default_storage.save(made.path, ContentFile(PICTURE))
    return made


def use(settings, name, task_type=TYPE, **options):
    entry = {"provider": name, "options": {"model": MODEL, "poll_seconds": 0.05, **options}}
    settings.GENERATION_PROVIDERS = {task_type: entry}


def submitted(task_type, task_data):
    key = factories.make_api_key(project_id=factories.PROJECT)[1]
    body = {"project_id": factories.PROJECT, "task_type": task_type, "task_data": task_data}
    answer = Client(headers={"x-api-key": key}).post(
        "/api/v1/tasks/submit", json.dumps(body), "application/json"
    )
    assert answer.status_code == 201, answer.content
    run.run_next(task_type)
    return Task.objects.get(pk=answer.json()["task_id"])


@pytest.mark.parametrize("base", ["https://movies.example.net", "http://localhost:8000"])
def test_a_model_gets_a_link_or_the_bytes(fake, settings, asset, base):
    """Proves that a public service hands over a link, and any other the bytes, with a receipt."""
    settings.PUBLIC_URL = base
    use(settings, "replicate", fields={"prompt": "prompt", "start_image": "inputs.image"})
    data = {"prompt": "a red door", "inputs": {"image": {"asset": asset.pk}}}
    with remote_work():
        task = ended(submitted(TYPE, data))
    assert task.status == "completed", task.error_code
    place = fake.calls(CREATE)[0].json()["input"]["start_image"]
    if base.startswith("https"):
        assert place.startswith(base)
    else:
        assert base64.b64decode(place.removeprefix("data:image/png;base64,")) == PICTURE
    (told,) = task.result["inputs"]
    assert (told["name"], told["asset_id"], told["sha256"]) == ("image", asset.pk, asset.sha256)


def test_openai_gets_the_first_picture_as_a_part_of_the_request(fake, settings, asset):
    """Proves that a video's first picture goes to OpenAI's protocol as multipart."""
    use(settings, "openai", "video_generation")
    fake.script["POST /v1/videos"] = [{"id": "v1", "status": "queued"}]
    fake.script["GET /v1/videos/v1"] = [{"status": "failed", "error": "no"}]
    data = {"prompt": "rain", "inputs": {"first_frame": {"asset": asset.pk}}}
    with remote_work():
        submitted("video_generation", data)
        wait_until(lambda: fake.calls("POST /v1/videos"), 30)
    (seen, *_) = fake.calls("POST /v1/videos")
    assert seen.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert b'name="input_reference"' in seen.body
    assert PICTURE in seen.body
    assert b'name="prompt"' in seen.body
    assert b"rain" in seen.body


def test_openai_edits_a_picture_where_its_mask_says(fake, settings, asset):
    """Proves that picture and mask are parts of a request to edit, beside what was asked."""
    use(settings, "openai")
    fake.script["POST /v1/images/edits"] = fake.script["POST /v1/images/generations"]
    both = {"image": {"asset": asset.pk}, "mask": {"asset": asset.pk}}
    data = {"prompt": "a red door", "inputs": both, "image_params": {"count": 2}}
    with remote_work():
        assert ended(submitted(TYPE, data)).status == "completed"
    (seen,) = fake.calls("POST /v1/images/edits")
    assert seen.headers["content-type"].startswith("multipart/form-data; boundary=")
    body = seen.body.decode("latin-1")
    for name, value in (("prompt", "a red door"), ("n", "2"), ("model", MODEL)):
        assert f'name="{name}"\r\n\r\n{value}\r\n' in body
    for name in ("image", "mask"):
        assert f'name="{name}"; filename="{asset.pk}.png"' in body
    assert seen.body.count(PICTURE) == 2
    assert fake.count("POST /v1/images/generations") == 0


@pytest.mark.parametrize(
    ("model", "given", "pointers"),
    [
        ("gpt-image-1", ["mask"], ["/task_data/inputs/mask"]),
        ("dall-e-3", ["image"], ["/task_data/inputs/image"]),
        ("dall-e-2", ["image", "mask"], []),
        ("gpt-image-1", ["reference_images"], ["/task_data/inputs/reference_images"]),
    ],
)
def test_what_openai_does_not_edit_is_refused(model, given, pointers):
    """Proves that a mask alone, or a model that edits nothing, is told with its pointer."""
    data = {"image_data": {"prompt": "x"}, "inputs": {name: {"asset": "a"} for name in given}}
    faults = OpenAICompatibleProvider(model=model).validate(TYPE, data)
    assert [fault.pointer for fault in faults] == pointers
    assert {fault.code for fault in faults} <= {"unsupported_by_provider"}


INITIATE = "POST /storage-of-fal/storage/upload/initiate?storage_type=fal-cdn-v3"
PUT, PLACE = "PUT /bytes?permit=1", "https://v3.fal.media/files/a/picture.png"


def with_fals_storage(fake, settings, **options):
    """Let fal take files, and a picture be asked for of one."""
    settings.PUBLIC_URL = "https://movies.example.net"
    use(settings, "fal", fields={"prompt": "prompt", "image_url": "inputs.image"}, **options)
    fake.script[INITIATE] = [{"upload_url": f"{fake.url}/bytes?permit=1", "file_url": PLACE}]
    fake.script[PUT] = [Reply()]


def painted_from(asset):
    data = {"prompt": "a red door", "inputs": {"image": {"asset": asset.pk}}}
    with remote_work():
        return ended(submitted(TYPE, data))


def test_fal_gets_a_file_by_its_storage_once(fake, settings, asset):
    """Proves that a file is uploaded for fal, through its proxy, and not again with the submit.

    The key goes to the storage, and not to where the bytes go.
    """
    with_fals_storage(fake, settings)
    busy = Reply(429, headers={"retry-after": "0"})
    fake.script[SUBMIT] = [busy, Reply(500), *fake.script[SUBMIT]]
    with ForwardProxy() as forward:
        settings.PROVIDER_PROXY = [f"fal={forward.url}"]
        task = painted_from(asset)
    assert task.status == "completed", task.error
    assert len(forward.asked) == len(fake.seen)
    assert [seen.json()["image_url"] for seen in fake.calls(SUBMIT)] == [PLACE] * 3
    (asked,), (put,) = fake.calls(INITIATE), fake.calls(PUT)
    assert asked.json() == {"content_type": "image/png", "file_name": f"{asset.pk}.png"}
    assert asked.headers["authorization"] == f"Key {KEY}"
    kept = json.loads(asked.headers["x-fal-object-lifecycle"])["expiration_duration_seconds"]
    assert 3600 < kept <= 3600 + task.timeout_seconds
    assert (put.body, put.headers["content-type"]) == (PICTURE, "image/png")
    assert put.headers["content-length"] == str(len(PICTURE))
    assert "authorization" not in put.headers
    assert list(Path(settings.WORK_ROOT).rglob(f"{asset.pk}.png")) == []


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (INITIATE, Reply(502)),
        (INITIATE, {"upload_url": "https://a.example/x", "file_url": "file:///etc/passwd"}),
        (INITIATE, Reply(headers={"content-length": "500"})),
        (PUT, Reply(403)),
    ],
)
def test_an_upload_that_fails_is_tried_again_and_nothing_was_paid(
    fake, settings, asset, call, answer
):
    """Proves that a failed upload is no submit: it is made anew, and nothing booked as unclear."""
    with_fals_storage(fake, settings)
    fake.script[call] = [answer, *fake.script[call]]
    task = painted_from(asset)
    assert (task.status, fake.count(SUBMIT)) == ("completed", 1), task.error
    assert set(task.remote_jobs.values_list("outcome", flat=True)) == {"failed", "completed"}


def test_bytes_go_nowhere_that_may_not_be_dialled(fake, settings, asset):
    """Proves that an address from the storage's answer is judged, and the task ends there."""
    with_fals_storage(fake, settings)
    fake.script[INITIATE] = [{"upload_url": "http://10.0.0.1/x", "file_url": PLACE}]
    task = painted_from(asset)
    assert (task.status, task.error_code, task.attempts) == ("failed", "provider_rejected", 1)
    assert fake.count(SUBMIT) == 0


@pytest.mark.parametrize("why", ["off", "too large"])
def test_fal_gets_a_link_to_what_its_storage_does_not_take(fake, settings, asset, monkeypatch, why):
    """Proves that a file goes by a link where the storage is off, or takes it in parts only."""
    with_fals_storage(fake, settings)
    if why == "off":
        settings.FAL_STORAGE_URL = ""
    else:
        monkeypatch.setattr(fal, "MAX_UPLOAD_BYTES", len(PICTURE) - 1)
    assert painted_from(asset).status == "completed"
    (seen,) = fake.calls(SUBMIT)
    assert seen.json()["image_url"].startswith(settings.PUBLIC_URL)
    assert fake.count(INITIATE) == 0
