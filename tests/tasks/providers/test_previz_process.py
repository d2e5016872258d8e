"""A render is a process that can be stopped, may die, and never outlives its worker."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tasks_app import failures
from tasks_app.providers.base import Cancelled, ProviderError
from tasks_app.providers.previz.process import PROJECT_ROOT, RenderProcess
from tasks_app.providers.previz.provider import PrevizProvider
from tests.support.previz_runs import RecordingContext, job, video
from tests.support.waiting import wait_until

LONG = video(15, "640x360")


def children_of(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in listed for child in path.read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


def request(work_dir) -> dict:
    return PrevizProvider()._request(job(work_dir, "video_generation", LONG), RecordingContext())


class Render(threading.Thread):
    """A long render in a thread; keeps what `generate` raised."""

    def __init__(self, work_dir) -> None:
        super().__init__()
        self.context, self.work_dir = RecordingContext(), work_dir
        self.raised: BaseException | None = None

    def run(self) -> None:
        before = job(self.work_dir, "video_generation", LONG)
        try:
            PrevizProvider().generate(before, self.context)
        except (Cancelled, ProviderError) as error:
            self.raised = error


def test_cancelled_render_is_gone_within_two_seconds(tmp_path):
    """Proves that a cancel stops the process group at once and raises Cancelled."""
    others = set(children_of(os.getpid()))
    render = Render(tmp_path)
    render.start()
    wait_until(lambda: render.context.steps, 20)
    (child,) = set(children_of(os.getpid())) - others
    asked = time.monotonic()
    render.context.is_cancelled = True
    render.join(10)
    assert time.monotonic() - asked < 2
    assert isinstance(render.raised, Cancelled)
    assert not is_alive(child)


def test_killed_render_is_a_retryable_failure(tmp_path):
    """Proves that a render lost to kill -9 (as by the memory killer) may be tried again."""
    context = RecordingContext()
    with RenderProcess(request(tmp_path), tmp_path) as child:
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(ProviderError) as caught:
            child.result(context)
    assert (caught.value.code, caught.value.retryable) == ("render_failed", True)
    assert "signal 9" in caught.value.message


def test_deadline_stops_the_render(tmp_path):
    """Proves that a render past its deadline is killed and reported as timed_out."""
    with pytest.raises(ProviderError) as caught:
        PrevizProvider().generate(job(tmp_path, "video_generation", LONG), RecordingContext(0.5))
    assert caught.value.code == "timed_out"


PARENT = """
import subprocess, sys, time
child = subprocess.Popen(
    [sys.executable, "-m", "tasks_app.providers.previz"],
    stdin=subprocess.PIPE, stdout=open(sys.argv[2], "w"), start_new_session=True,
)
child.stdin.write(sys.argv[1].encode() + b"\\n")
child.stdin.flush()
print(child.pid, flush=True)
time.sleep(60)
"""


def test_render_dies_with_its_killed_worker(tmp_path):
    """Proves that kill -9 of a worker leaves no render, even one that never writes to a pipe."""
    output = tmp_path / "output"
    document = json.dumps(request(tmp_path))
    arguments = [sys.executable, "-c", PARENT, document, str(output)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        wait_until(lambda: "progress" in output.read_text(), 20)
        assert is_alive(child)
        parent.kill()
        parent.wait()
    wait_until(lambda: not is_alive(child), 2)


def failure_of(work_dir: Path, broken: dict) -> ProviderError:
    """Return how a render ends that is bound to fail."""
    with RenderProcess(broken, work_dir) as child, pytest.raises(ProviderError) as caught:
        child.result(RecordingContext())
    return caught.value


def test_failure_carries_our_own_frames_and_nothing_else(tmp_path):
    """Proves that receivers see where in our code a render failed, no library, source or value."""
    broken = request(tmp_path)
    broken["task_data"]["seed"] = "a-secret-of-the-client"  # which numpy refuses and quotes
    error = failure_of(tmp_path, broken)
    first, *frames, last = error.traceback_text.split("\n")
    assert (first, last) == ("Traceback (most recent call last):", "TypeError")
    assert frames[0].startswith('  File "tasks_app/providers/previz/child.py", line ')
    assert len(frames) > 2
    assert all(re.fullmatch(r'  File "tasks_app/\S+", line \d+, in \w+', one) for one in frames)


def test_machine_without_opengl_is_told_what_to_install(tmp_path, monkeypatch):
    """Proves that a missing system library fails the task for good, and says what to do."""
    libraries = tmp_path / "libraries"
    libraries.mkdir()
    (libraries / "libGL.so.1").touch()  # found before the real one, and no library
    monkeypatch.setenv("LD_LIBRARY_PATH", str(libraries))
    error = failure_of(tmp_path, request(tmp_path))
    assert (error.code, error.retryable) == ("renderer_incomplete", False)
    assert "apt-get install libgl1" in error.message
    assert "apt-get install libgl1" in failures.error_code(error.code).sentence


SPEAK = """
from tasks_app.providers.previz.sound import voice
assert len(voice.speak("The light must never go out.", "male", 24000, seed=0))
"""


def test_speech_model_reports_to_nobody(tmp_path):
    """Proves that speech synthesis stores no device id in the home folder."""
    told = {"HOME": str(tmp_path), "XDG_CACHE_HOME": ""}
    spoken = subprocess.run(
        [sys.executable, "-c", SPEAK],
        cwd=PROJECT_ROOT,
        env=os.environ | told,
        capture_output=True,
        text=True,
    )
    assert spoken.returncode == 0, spoken.stderr
    assert not list(tmp_path.rglob("*"))


def test_render_knows_no_secret_and_no_home(tmp_path, monkeypatch):
    """Proves that a render gets no secrets, and leaves no files outside its folder."""
    monkeypatch.setenv("SECRET_KEY", "a-secret-of-ours")
    with RenderProcess(request(tmp_path), tmp_path) as child:
        place = Path(f"/proc/{child.pid}/environ")
        wait_until(place.read_text, 30)  # empty for a moment while the program is loaded
        told = place.read_text()
    assert f"HOME={tmp_path}\0" in told
    assert "a-secret-of-ours" not in told
    assert "DATABASE_URL" not in told
