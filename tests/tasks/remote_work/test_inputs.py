"""How does a file that a client hands in reach a provider? In the provider's way, over HTTP."""

import base64
import json

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.test import Client

from tasks_app.models import Task
from tasks_app.providers.remote.openai_compatible import OpenAICompatibleProvider
from tasks_app.work import run
from tests.support import factories
from tests.support.fake_provider import png
from tests.support.remote_work import CREATE, MODEL, TYPE, ended, remote_work
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

PICTURE = png(32, 32)


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
