"""Does a server of OpenAI's protocol that nobody here wrote understand us? aimock, from npm."""

import base64
import json
import subprocess
import urllib.request

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from tasks_app.models import RemoteJob
from tasks_app.state import inputs
from tasks_app.state.submit import Submit, submit
from tasks_app.work import run
from tests.support import factories
from tests.support.fake_provider import png
from tests.support.ports import free_port
from tests.support.remote_work import ended, remote_work
from tests.support.servers.programs import program
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.long]

PICTURE, SECOND = png(64, 36), png(32, 32)


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def wav() -> bytes:
    """Return half a second of silence."""
    import io
    import wave

    stream = io.BytesIO()
    with wave.open(stream, "wb") as sound:
        sound.setparams((1, 2, 24000, 12000, "NONE", ""))
        sound.writeframes(bytes(24000))
    return stream.getvalue()


FIXTURES = [
    {
        "match": {"userMessage": "two red doors", "endpoint": "image"},
        "response": {"images": [{"b64Json": base64_of(PICTURE)}, {"b64Json": base64_of(SECOND)}]},
    },
    {
        "match": {"userMessage": "nobody may see this", "endpoint": "image"},
        "response": {
            "error": {
                "message": "Your request was rejected by our safety system.",
                "type": "image_generation_user_error",
                "code": "moderation_blocked",
            },
            "status": 400,
        },
    },
    {
        "match": {"userMessage": "The night is long.", "endpoint": "speech"},
        "response": {"audio": base64_of(wav()), "format": "wav"},
    },
    {
        "match": {"userMessage": "rain", "endpoint": "video"},
        "response": {"video": {"id": "vid-1", "status": "failed"}},
    },
]


@pytest.fixture
def aimock(tmp_path, settings):
    """The server, with answers for a few requests; any other is an error there."""
    fixtures = tmp_path / "fixtures.json"
    fixtures.write_text(json.dumps({"fixtures": FIXTURES}))
    port = free_port()
    command = [program("llmock"), "-p", str(port), "-f", str(fixtures), "--strict"]
    with (tmp_path / "aimock.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            settings.OPENAI_BASE_URL = f"http://127.0.0.1:{port}"
            settings.OPENAI_API_KEY = "a-key-for-a-mock"
            settings.PROVIDER_ALLOW_NETWORKS = ["127.0.0.0/8"]
            settings.TASK_RETRY_WAITS = []
            options = {"model": "gpt-image-1", "poll_seconds": 0.1}
            entry = {"provider": "openai", "options": options}
            names = ("image_generation", "audio_generation", "video_generation")
            settings.GENERATION_PROVIDERS = dict.fromkeys(names, entry)
            wait_until(lambda: answers(port), 30, message="aimock answers")
            yield
        finally:
            process.terminate()
            process.wait(10)


def answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health").close()
    except OSError:
        return False
    return True


def made(task_type, task_data):
    with remote_work():
        given = inputs.values_of(task_data)
        task = submit(Submit("p", task_type, task_data, inputs=given)).task
        run.run_next(task_type)
        return ended(task)


def test_pictures_come_in_the_answer(aimock):
    """Proves that two pictures that were asked for are two files."""
    data = {"image_data": {"prompt": "two red doors"}, "image_params": {"count": 2}}
    task = made("image_generation", data)
    assert task.status == "completed", RemoteJob.objects.get().note
    sizes = [(file["width"], file["height"]) for file in task.result["files"]]
    assert sizes == [(64, 36), (32, 32)]


def test_a_picture_is_edited(aimock):
    """Proves that a request with a picture and its mask is one that the server reads."""
    asset = factories.make_asset(project_id="p", size_bytes=len(PICTURE))
    default_storage.save(asset.path, ContentFile(PICTURE))
    given = {"image": {"asset": asset.pk}, "mask": {"asset": asset.pk}}
    task = made("image_generation", {"image_data": {"prompt": "two red doors"}, "inputs": given})
    assert task.status == "completed", RemoteJob.objects.get().note
    assert [each["name"] for each in task.result["inputs"]] == ["image", "mask"]


def test_a_refusal_of_the_content_is_told_apart(aimock):
    """Proves that OpenAI's refusal is `content_refused`, its words on the job alone."""
    task = made("image_generation", {"image_data": {"prompt": "nobody may see this"}})
    assert (task.status, task.error_code) == ("failed", "content_refused")
    assert "safety system" in RemoteJob.objects.get().note
    assert "safety" not in task.error


def test_speech_comes_in_the_answer(aimock):
    """Proves that a line of speech is a sound file of its length."""
    data = {"audio_data": {"text": "The night is long."}, "audio_params": {"format": "wav"}}
    task = made("audio_generation", data)
    assert task.status == "completed", RemoteJob.objects.get().note
    assert (task.result["media_type"], task.result["duration"]) == ("audio/wav", 0.5)


def test_a_film_is_a_job_with_an_id(aimock):
    """Proves that a film is asked for until it has ended; this one fails there."""
    task = made("video_generation", {"scene_data": {"prompt": "rain"}})
    assert (task.status, task.error_code) == ("failed", "render_failed")
    assert RemoteJob.objects.get().remote["id"] == "vid-1"
