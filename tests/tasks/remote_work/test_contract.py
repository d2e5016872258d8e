"""Does every provider elsewhere keep one contract? Each runs through the real loop and database."""

import pytest
from django.test import Client

from tasks_app.models import RemoteJob, Task
from tasks_app.state import lifecycle
from tasks_app.tickets import stopping
from tests.support import factories
from tests.support import remote_work as support
from tests.support.comfyui import painter, write
from tests.support.fake_provider import Reply, Through
from tests.support.remote_work import (
    KEY,
    MODEL,
    TYPE,
    begin,
    ended,
    job_of,
    remote_work,
)
from tests.support.servers.comfyui import ComfyUI
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

ALL = ["replicate", "openai", "fal", "cog", "comfyui"]
#: Those whose work goes on without an open request, and can be asked for and stopped.
JOBS = ["replicate", "fal", "cog", "comfyui"]
#: The call that starts work, the one that asks for its state, and the one that stops it.
CALLS = {
    "replicate": (
        f"POST /v1/models/{MODEL}/predictions",
        "GET /v1/predictions/",
        "POST /v1/predictions/p1/cancel",
    ),
    "fal": (
        f"POST /{MODEL}",
        f"GET /{MODEL}/requests/f1/status",
        f"PUT /{MODEL}/requests/f1/cancel",
    ),
    "cog": ("PUT /predictions/", "GET /health-check", "POST /predictions/"),
    "openai": ("POST /v1/images/generations", "", ""),
    "comfyui": ("POST /prompt", "GET /queue", "POST /interrupt"),
}
RUNNING = {
    "replicate": {"status": "processing"},
    "fal": {"status": "IN_PROGRESS"},
    "cog": {"status": "BUSY"},
}
#: What no provider here has a place for, by where it stands in a task.
NOT_TAKEN = {
    "/task_data/image_params/style": {"image_params": {"style": "noir"}},
    "/task_data/image_data/purpose": {
        "image_data": {"prompt": "a red door", "purpose": "storyboard_frame"}
    },
    "/task_data/inputs/mask": {"inputs": {"mask": {"asset": "0123456789abcdef"}}},
}


@pytest.fixture
def fake(fake, name, settings, tmp_path):
    """The stand-in of all; for ComfyUI another one, which keeps its protocol, works behind it."""
    if name != "comfyui":
        yield fake
        return
    with ComfyUI() as comfy:
        fake.comfy = comfy
        for call in ("GET /", "POST /", *CALLS[name]):
            fake.script[call] = [Through(comfy.url)]
        settings.COMFYUI_URLS = [f"gpu-a={fake.url}"]
        settings.COMFYUI_HEADERS = {"gpu-a": {"X-Key": KEY}}
        settings.COMFYUI_WORKFLOWS = str(write(tmp_path / "workflows", painter=painter()))
        yield fake


def use(name):
    """Configure a provider for images; ComfyUI's models are its templates."""
    support.use(name, **({"model": "painter"} if name == "comfyui" else {}))


def run_on(fake, name):
    """Let work that was started go on for ever."""
    submit, look, _ = CALLS[name]
    if name == "comfyui":
        fake.comfy.hold()
        return
    if name == "cog":
        fake.script[submit] = [{"status": "processing"}]
    fake.script[{"replicate": "GET /v1/predictions/p1"}.get(name, look)] = [RUNNING[name]]


def run_out(fake, name):
    """Let work that `run_on` holds come to its end, where a script does not say so."""
    if name == "comfyui":
        fake.comfy.let_go()


@pytest.mark.parametrize("name", ALL)
def test_a_good_run_gives_a_probed_result(fake, name):
    """Proves that each protocol comes from prompt to a file described by probing it."""
    use(name)
    with remote_work():
        task = ended(begin())
    assert (task.status, task.result["provider"]) == ("completed", name)
    assert (task.result["media_type"], task.result["width"]) == ("image/png", 64)
    assert any(b"a red door" in seen.body for seen in fake.seen)
    job = job_of(task)
    assert (job.state, job.outcome, fake.count(CALLS[name][0])) == ("ended", "completed", 1)


@pytest.mark.parametrize("name", JOBS)
def test_a_cancel_reaches_the_provider(fake, name):
    """Proves that a cancelled task's work is stopped, also if no loop ran at that moment."""
    use(name)
    run_on(fake, name)
    with remote_work():
        task = begin()
        wait_until(lambda: job_of(task).state == "running", 30)
    lifecycle.cancel(task.id)
    assert job_of(task).state == "stopping"
    with remote_work():
        wait_until(lambda: job_of(task).state == "ended", 30)
    assert (fake.count(CALLS[name][2]), job_of(task).outcome) == (1, "stopped")


@pytest.mark.parametrize("name", JOBS)
def test_a_stop_is_tried_until_it_is_carried_out(fake, name):
    """Proves that a provider which refuses a stop is asked again."""
    use(name)
    run_on(fake, name)
    stop = CALLS[name][2]
    fake.script[stop] = [Reply(401), Reply(500), *fake.script[stop]]
    with remote_work():
        task = begin()
        wait_until(lambda: job_of(task).state == "running", 30)
        lifecycle.cancel(task.id)
        wait_until(lambda: job_of(task).state == "ended", 30)
    assert (fake.count(stop), job_of(task).outcome) == (3, "stopped")


@pytest.mark.parametrize("name", JOBS)
def test_a_deploy_leaves_the_work_to_the_next_process(fake, name):
    """Proves that a loop which stops gives its jobs back, and nothing is paid or stopped twice."""
    use(name)
    before = dict(fake.script)
    run_on(fake, name)
    with remote_work():
        task = begin()
        wait_until(lambda: job_of(task).seen_at, 30)
    assert not stopping.is_set()
    assert job_of(task).look_token is None
    if name == "cog":
        kept = {
            "called": {"status": "succeeded", "output": before["PUT /predictions/"][0]["output"]}
        }
        RemoteJob.objects.filter(task=task).update(remote={**job_of(task).remote, **kept})
    else:
        fake.script = before
        run_out(fake, name)
    with remote_work():
        assert ended(task).status == "completed"
    assert fake.count(CALLS[name][0]) == 1
    assert fake.count(CALLS[name][2]) == 0


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("status", "code", "tries"),
    [(401, "provider_auth", 1), (422, "provider_rejected", 1), (500, "provider_unavailable", 3)],
)
def test_a_refused_submit_has_a_closed_code(fake, name, status, code, tries):
    """Proves that a status means the same whichever provider sends it, and tells no secret."""
    use(name)
    submit = CALLS[name][0]
    fake.script[submit] = [Reply(status, f'{{"error": "quotes {KEY}"}}'.encode())]
    with remote_work():
        task = ended(begin())
    assert (task.status, task.error_code) == ("failed", code)
    assert (fake.count(submit), task.attempts) == (tries, tries)
    if name != "cog":  # which knows no key
        assert KEY not in task.error + task.traceback + job_of(task).note


WORDS = f"no such size, asked with {KEY}, " + "z" * 900


@pytest.mark.parametrize(
    ("name", "call", "answer"),
    [
        *((each, CALLS[each][0], Reply(422, WORDS.encode())) for each in ALL if each != "cog"),
        ("replicate", "GET /v1/predictions/p1", {"status": "failed", "error": WORDS}),
        ("fal", CALLS["fal"][1], {"status": "COMPLETED", "error": WORDS}),
        ("comfyui", "POST /prompt", Reply(400, b'{"error": {"message": "%s"}}' % WORDS.encode())),
    ],
)
def test_a_providers_words_are_kept_without_our_keys(fake, name, call, answer):
    """Proves that what a provider says of a failure is kept, 500 characters, and no key in it.

    Also where it comes with a status of success; no client reads any of it.
    """
    use(name)
    fake.script[call] = [answer]
    with remote_work():
        task = ended(begin())
    note = job_of(task).note
    assert "no such size, asked with ***, zzz" in note
    assert (len(note), KEY in note) == (500, False)
    assert "size" not in task.error + task.traceback


@pytest.mark.parametrize("name", ALL)
def test_a_busy_provider_uses_up_nothing(fake, name):
    """Proves that a task waits in our queue while there is no room, and uses no attempt."""
    use(name)
    submit = CALLS[name][0]
    busy = Reply(409 if name == "cog" else 429, headers={"retry-after": "1"})
    fake.script[submit] = [busy, busy, *fake.script[submit]]
    with remote_work():
        task = begin()
        wait_until(lambda: fake.count(submit), 30)
        wait_until(lambda: type(task).objects.get(pk=task.pk).status == "queued", 30)
        task = ended(task)
    assert (task.status, task.attempts, fake.count(submit)) == ("completed", 0, 3)


@pytest.mark.parametrize("name", JOBS)
def test_an_outage_between_looks_ends_nothing(fake, name):
    """Proves that looks which fail, with a 401 too, leave the job as it is."""
    use(name)
    look = {"replicate": "GET /v1/predictions/p1"}.get(name, CALLS[name][1])
    done = list(fake.script[look])
    run_on(fake, name)
    running = RUNNING.get(name) or done[0]
    fake.script[look] = [Reply(401), Reply(500), Reply(body=b"<html>"), running]
    with remote_work():
        task = begin()
        wait_until(lambda: len(fake.script[look]) == 1, 30)
        assert job_of(task).state == "running"
        if name == "cog":
            lifecycle.cancel(task.id)
            return
        fake.script[look] = done
        run_out(fake, name)
        assert ended(task).status == "completed"
    assert fake.count(CALLS[name][0]) == 1


@pytest.mark.parametrize("name", ALL)
def test_a_parameter_without_a_place_is_refused_before_anything_is_paid(fake, name):
    """Proves that whatever a provider does not use is a 422 at submit, with its pointer."""
    use(name)
    key = factories.make_api_key(project_id="p")[1]
    asked = {}
    for pointer, said in NOT_TAKEN.items():
        data = {"image_data": {"prompt": "a red door"}, **said}
        body = {"project_id": "p", "task_type": TYPE, "task_data": data}
        answer = Client(headers={"x-api-key": key}).post(
            "/api/v1/tasks/submit", body, "application/json"
        )
        faults = [(one["pointer"], one["code"]) for one in answer.json()["errors"]]
        asked[pointer] = (answer.status_code, faults)
    assert asked == {one: (422, [(one, "unsupported_by_provider")]) for one in NOT_TAKEN}
    assert (Task.objects.count(), fake.seen) == (0, [])
