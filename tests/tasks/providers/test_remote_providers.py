"""Do remote providers keep the contract, whatever their servers do? Against a stand-in server."""

import base64
import io
import json
import os
import subprocess
import sys
import threading
import time
import wave
from pathlib import Path

import pytest
from django.core.checks import run_checks
from django.db import connections

from tasks_app.media import probe
from tasks_app.providers import get_provider
from tasks_app.providers.base import Cancelled, CancelOutcome, Job, Provider, ProviderError
from tasks_app.providers.remote.replicate import ReplicateProvider
from tasks_app.state import lifecycle
from tasks_app.state.submit import Submit, submit
from tasks_app.tickets import stopping
from tasks_app.work import run
from tests.support.fake_provider import FakeProvider, Reply, png
from tests.support.previz_runs import RecordingContext
from tests.support.waiting import wait_until

KEY = "canary-key-0123456789"
MODEL = "acme/painter"
CREATE, GET, CANCEL = (
    f"POST /v1/models/{MODEL}/predictions",
    "GET /v1/predictions/p1",
    "POST /v1/predictions/p1/cancel",
)
TASK = {"image_data": {"prompt": "a red door"}, "image_params": {"resolution": "64x36"}}


class Remembering(RecordingContext):
    """A context that keeps the saved remote state."""

    def __init__(self, seconds: float = 20) -> None:
        super().__init__(seconds)
        self.saved: list[dict] = []

    def save_remote(self, state):
        self.saved.append(state)


@pytest.fixture
def fake(settings):
    """A stand-in server for all protocols, with a successful run as its script."""
    with FakeProvider() as server:
        for name in ("REPLICATE", "OPENAI", "FAL", "COG"):
            setattr(settings, f"{name}_BASE_URL", server.url)
        settings.REPLICATE_API_TOKEN = settings.OPENAI_API_KEY = settings.FAL_API_KEY = KEY
        settings.PROVIDER_ALLOW_NETWORKS = ["127.0.0.0/8"]
        server.script = good_run(server.url)
        yield server


def good_run(url: str) -> dict:
    queue = f"{url}/{MODEL}/requests/f1"
    inline = "data:image/png;base64," + base64.b64encode(png()).decode()
    return {
        CREATE: [{"id": "p1", "status": "starting"}],
        GET: [{"status": "processing"}, {"status": "succeeded", "output": [f"{url}/out.png"]}],
        CANCEL: [{}],
        "GET /out.png": [Reply(body=png())],
        "POST /v1/images/generations": [{"data": [{"b64_json": base64.b64encode(png()).decode()}]}],
        "DELETE /v1/videos/p1": [{}],
        f"POST /{MODEL}": [
            {
                "request_id": "f1",
                "status_url": f"{queue}/status",
                "response_url": queue,
                "cancel_url": f"{queue}/cancel",
            }
        ],
        f"GET /{MODEL}/requests/f1/status": [{"status": "IN_QUEUE"}, {"status": "COMPLETED"}],
        f"GET /{MODEL}/requests/f1": [{"images": [{"url": f"{url}/out.png"}], "seed": 3}],
        f"PUT /{MODEL}/requests/f1/cancel": [Reply(202)],
        "PUT /predictions/t1-1": [{"status": "succeeded", "output": inline}],
        "POST /predictions/t1-1/cancel": [{}],
    }


def half_a_second() -> bytes:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as sound:
        sound.setparams((1, 2, 24000, 12000, "NONE", ""))
        sound.writeframes(bytes(24000))
    return stream.getvalue()


def provider(name: str = "replicate", **options) -> Provider:
    from django.conf import settings

    entry = {"provider": name, "options": {"model": MODEL, "poll_seconds": 0.05, **options}}
    settings.GENERATION_PROVIDERS = {"image_generation": entry}
    return get_provider("image_generation")


def a_job(work_dir: Path, state: dict | None = None, **data) -> Job:
    task_data = {**TASK, **data}
    return Job("t1", 1, "image_generation", task_data, work_dir, time.monotonic() + 20, state)


def failure(made: Provider, job: Job, context: Remembering | None = None) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        made.generate(job, context or Remembering())
    assert KEY not in str(caught.value)
    return caught.value


# -- the contract, for every provider -------------------------------------------------------------

ALL = ["replicate", "openai", "fal", "cog"]


@pytest.mark.parametrize("name", ALL)
def test_a_good_run_gives_a_probed_result(fake, tmp_path, name):
    """Proves that each protocol comes from prompt to a file described by probing it."""
    made, context = provider(name), Remembering()
    assert isinstance(made, Provider)
    assert made.is_local is False
    result = made.generate(a_job(tmp_path), context)
    assert (result.provider, result.primary.media_type) == (name, "image/png")
    assert (result.primary.width, result.primary.height) == (64, 36)
    fractions = [fraction for fraction, _ in context.steps]
    assert fractions == sorted(fractions)
    assert any(b"a red door" in seen.body for seen in fake.seen)


@pytest.mark.parametrize("name", ["replicate", "fal", "cog"])
def test_saved_state_is_enough_to_cancel(fake, tmp_path, name):
    """Proves that the saved state suffices to stop the work from another process."""
    made, context = provider(name), Remembering()
    made.generate(a_job(tmp_path), context)
    state = json.loads(json.dumps(context.saved[0]))
    assert KEY not in json.dumps(state)
    assert made.cancel(state) == CancelOutcome.REQUESTED


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("status", "code", "is_retryable"),
    [
        (401, "provider_auth", False),
        (422, "provider_rejected", False),
        (429, "provider_rate_limited", True),
        (500, "provider_unavailable", True),
    ],
)
def test_refused_submit_has_a_closed_code(fake, tmp_path, name, status, code, is_retryable):
    """Proves that a status means the same whichever provider sends it."""
    answer = Reply(status, b'{"error": "quotes canary-key-0123456789"}', {"retry-after": "0"})
    fake.script = {call: [answer] for call in fake.script}
    error = failure(provider(name), a_job(tmp_path))
    assert (error.code, error.retryable) == (code, is_retryable)


@pytest.mark.parametrize("name", ALL)
def test_missing_key_or_url_is_told_by_check(settings, name):
    """Proves that `manage.py check` names the variable that is missing."""
    settings.OPENAI_BASE_URL = settings.COG_BASE_URL = settings.REPLICATE_API_TOKEN = ""
    settings.FAL_API_KEY = ""
    provider(name)
    wanted = {"replicate": "REPLICATE_API_TOKEN", "fal": "FAL_API_KEY"}.get(
        name, f"{name.upper()}_BASE_URL"
    )
    assert any(f"Set {wanted}." in found.msg for found in run_checks(tags=["tasks"]))


# -- what may go wrong, on the protocol of Replicate ----------------------------------------------


def test_content_refusal_is_permanent(fake, tmp_path):
    """Proves that a refusal of the content has its own code and is not retried."""
    fake.script[CREATE] = [Reply(400, b'{"error": {"code": "content_policy_violation"}}')]
    error = failure(provider(), a_job(tmp_path))
    assert (error.code, error.retryable) == ("content_refused", False)


def test_hiccups_of_polling_do_not_end_the_job(fake, tmp_path):
    """Proves that polling goes on after 429 with Retry-After, 500 and bad JSON."""
    retry = Reply(429, headers={"retry-after": "1"})
    fake.script[GET][:0] = [retry, Reply(500), Reply(body=b"<html>")]
    started = time.monotonic()
    provider().generate(a_job(tmp_path), Remembering())
    assert time.monotonic() - started >= 1
    assert fake.count(CREATE) == 1


def test_failed_work_starts_anew_next_time(fake, tmp_path):
    """Proves that the state of a failed prediction is deleted, so that a retry starts a new one."""
    fake.script[GET] = [{"status": "failed", "error": "out of memory"}]
    context = Remembering()
    error = failure(provider(), a_job(tmp_path), context)
    assert (error.code, error.retryable) == ("render_failed", True)
    assert context.saved[-1] == {}


@pytest.mark.parametrize("content", [b"<html>no picture</html>", png()[:-40]])
def test_wrong_or_truncated_media_is_no_result(fake, tmp_path, content):
    """Proves that a file that cannot be decoded is not accepted as a result."""
    fake.script["GET /out.png"] = [Reply(body=content)]
    assert failure(provider(), a_job(tmp_path)).code == "output_invalid"


def test_result_larger_than_allowed_is_refused(fake, tmp_path):
    """Proves that a download stops at its limit and leaves no file."""
    fake.script["GET /out.png"] = [Reply(body=bytes(200_000))]
    error = failure(provider(max_bytes=100_000), a_job(tmp_path))
    assert (error.code, error.retryable) == ("output_invalid", False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", ["http://10.0.0.1/x", "http://169.254.169.254/latest"])
def test_redirect_to_a_private_address_is_not_followed(fake, tmp_path, target):
    """Proves that a result's redirect is checked like a client's URL."""
    fake.script["GET /out.png"] = [Reply(302, headers={"location": target})]
    error = failure(provider(), a_job(tmp_path))
    assert (error.code, error.retryable) == ("output_invalid", False)


def test_credentials_go_to_the_configured_origin_alone(fake, tmp_path):
    """Proves that a result on another origin is fetched without our key."""
    with FakeProvider({"GET /out.png": [Reply(body=png())]}) as elsewhere:
        fake.script[GET] = [{"status": "succeeded", "output": f"{elsewhere.url}/out.png"}]
        provider().generate(a_job(tmp_path), Remembering())
        assert "authorization" not in elsewhere.seen[0].headers
    assert fake.calls(CREATE)[0].headers["authorization"] == f"Bearer {KEY}"


def test_cancel_bites_during_a_slow_answer(fake, tmp_path):
    """Proves that a cancel ends a hanging poll within two seconds and stops the paid work."""
    fake.script[GET] = [Reply(delay=30)]
    context, raised = Remembering(), []

    def work() -> None:
        try:
            made.generate(a_job(tmp_path), context)
        except Cancelled as error:
            raised.append(error)

    made = provider()
    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: fake.count(GET), 10)
    asked = time.monotonic()
    context.is_cancelled = True
    thread.join(10)
    assert time.monotonic() - asked < 2
    assert raised
    assert fake.count(CANCEL) == 1


def test_deadline_cancels_the_remote_work(fake, tmp_path):
    """Proves that work past its deadline ends as timed_out here and is stopped there."""
    fake.script[GET] = [{"status": "processing"}]
    assert failure(provider(), a_job(tmp_path), Remembering(0.8)).code == "timed_out"
    assert fake.count(CANCEL) == 1


def test_a_result_whose_probe_ran_out_of_time_is_not_paid_twice(fake, tmp_path, monkeypatch):
    """Proves that work is submitted and downloaded once, however often it is probed."""
    monkeypatch.setattr(probe, "CLOCK_FACTOR", 0)
    monkeypatch.setattr(probe, "WATCH_SECONDS", 0)  # or a quick machine is done before the look
    context = Remembering()
    error = failure(provider(), a_job(tmp_path), context)
    assert (error.code, error.retryable) == ("probe_timed_out", False)
    assert (fake.count(CREATE), fake.count("GET /out.png")) == (1, 1)
    assert context.saved[-1]["id"] == "p1", "who asks again later finds the paid work"


CHILD = """
import json, sys, time
from pathlib import Path
import django
django.setup()
from tasks_app.providers.base import Job
from tasks_app.providers.remote.replicate import ReplicateProvider
from tests.support.previz_runs import RecordingContext
class Context(RecordingContext):
    def save_remote(self, state):
        Path(sys.argv[2]).write_text(json.dumps(state))
job = Job("t1", 1, "image_generation", json.loads(sys.argv[3]), Path(sys.argv[1]), 0.0)
ReplicateProvider(model=sys.argv[4], poll_seconds=0.05).generate(job, Context(60))
"""


def test_killed_worker_resumes_the_paid_job(fake, tmp_path):
    """Proves that kill -9 between polls costs no second prediction: the same id is resumed."""
    done = fake.script[GET]
    fake.script[GET] = [{"status": "processing"}]
    saved = tmp_path / "state.json"
    environment = {
        **os.environ,
        "EMBEDDED": "off",
        "DJANGO_SETTINGS_MODULE": "moviesvc.settings",
        "REPLICATE_BASE_URL": fake.url,
        "REPLICATE_API_TOKEN": KEY,
        "PROVIDER_ALLOW_NETWORKS": "127.0.0.0/8",
    }
    arguments = [sys.executable, "-c", CHILD, str(tmp_path), str(saved), json.dumps(TASK), MODEL]
    with subprocess.Popen(arguments, env=environment) as child:
        wait_until(lambda: fake.count(GET) >= 2, 30)
        child.kill()
    fake.script[GET] = done
    state = json.loads(saved.read_text())
    result = provider().generate(a_job(tmp_path, state), Remembering())
    assert result.metadata["remote_id"] == "p1"
    assert fake.count(CREATE) == 1


def test_video_and_speech_of_the_openai_protocol(fake, tmp_path):
    """Proves that speech comes in the answer, and a video as a job whose download needs our key."""
    sound, film = half_a_second(), Reply(body=b"no film")
    fake.script |= {
        "POST /v1/audio/speech": [Reply(body=sound)],
        "POST /v1/videos": [{"id": "v1", "status": "queued"}],
        "GET /v1/videos/v1": [{"status": "in_progress", "progress": 40}, {"status": "completed"}],
        "GET /v1/videos/v1/content": [film],
    }
    made = provider("openai")
    speech = Job("t1", 1, "audio_generation", {"audio_data": {"text": "Hello"}}, tmp_path, 0.0)
    result = made.generate(speech, Remembering())
    assert (result.primary.media_type, result.primary.duration) == ("audio/wav", 0.5)
    assert fake.calls("POST /v1/audio/speech")[0].json()["input"] == "Hello"
    scene = {"scene_data": {"prompt": "rain"}, "video_params": {"duration_s": 7.6}}
    video = Job("t1", 1, "video_generation", scene, tmp_path, 0.0)
    assert failure(made, video).code == "output_invalid"
    assert fake.calls("POST /v1/videos")[0].json()["seconds"] == "8"
    assert KEY in fake.calls("GET /v1/videos/v1/content")[0].headers["authorization"]


def test_base_url_must_lie_in_the_listed_networks(fake, settings, tmp_path):
    """Proves that a private base URL is dialled only where its network is named."""
    settings.PROVIDER_ALLOW_NETWORKS = ["10.0.0.0/8"]
    error = failure(provider(), a_job(tmp_path))
    assert (error.code, fake.seen) == ("provider_rejected", [])


@pytest.mark.django_db(transaction=True)
def test_stopped_worker_leaves_the_remote_work_to_the_next(fake, settings):
    """Proves that a shutdown cancels nothing, and the next claim resumes from the database."""
    fake.script[GET][:0] = [{"status": "processing"}] * 20
    provider()
    submitted = submit(Submit("p", "image_generation", TASK)).task
    thread = threading.Thread(target=run_and_close)
    thread.start()
    try:
        wait_until(lambda: fake.count(GET), 10)
        stopping.set()
        thread.join(10)
    finally:
        stopping.clear()
    submitted.refresh_from_db()
    assert (submitted.status, submitted.remote_state["id"]) == ("queued", "p1")
    assert fake.count(CANCEL) == 0
    del fake.script[GET][:-1]
    run.run_next("image_generation")
    submitted.refresh_from_db()
    assert (submitted.status, fake.count(CREATE)) == ("completed", 1)


@pytest.mark.django_db(transaction=True)
def test_cancelled_task_stops_the_remote_work(fake, settings):
    """Proves that a client's cancel reaches the provider, by the task's state in the database."""
    fake.script[GET] = [{"status": "processing"}]
    provider()
    task = submit(Submit("p", "image_generation", TASK)).task
    thread = threading.Thread(target=run_and_close)
    thread.start()
    wait_until(lambda: fake.count(GET), 10)
    lifecycle.cancel(task.id)
    thread.join(10)
    assert fake.count(CANCEL) == 1


def run_and_close() -> None:
    try:
        run.run_next("image_generation")
    finally:
        connections.close_all()


def test_only_allowed_models_may_be_named(fake, tmp_path):
    """Proves that a client cannot pick a model that the operator did not list."""
    made = ReplicateProvider(model=MODEL, models=["acme/fast"])
    assert made.validate("image_generation", {"model": "acme/fast"}) == []
    (error,) = made.validate("image_generation", {"model": "acme/dear"})
    assert error.code == "not_allowed"
