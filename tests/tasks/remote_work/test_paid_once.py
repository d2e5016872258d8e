"""What is paid twice when a worker or a server dies? At every point, for every protocol.

A worker is a process of its own that is killed at the line. The providers are stand-ins; a real Cog
server is killed in tests/foreign/test_cog.py, a stand-in of ComfyUI in test_comfyui.py.
"""

import json
import re

import numpy as np
import pytest
from django.conf import settings

from tasks_app.models import RemoteJob
from tasks_app.providers.previz.output.film import write_film
from tasks_app.providers.remote import cog
from tasks_app.state import remote_jobs
from tasks_app.state.submit import Submit, submit
from tests import ROOT
from tests.support.fake_provider import Reply, png
from tests.support.killed_worker import KilledWorkers, end_leases
from tests.support.remote_work import TASK, TYPE, ended, job_of, remote_work, use
from tests.support.waiting import wait_until
from tests.tasks.remote_work.test_contract import CALLS, run_on

pytestmark = [pytest.mark.long, pytest.mark.django_db(transaction=True)]

FILM = "video_generation"
STILL = {
    "model": "still",
    "image_data": {"prompt": "rain"},
    "image_params": {"resolution": "256x256"},
}
ALL = ["replicate", "fal", "openai", "cog"]
#: Most submits that reach a provider when a worker dies at a point, where it is not one.
TWICE = {
    ("replicate", "remote.after_submit"),
    ("fal", "remote.after_submit"),
    ("openai", "remote.after_submit"),
    ("cog", "remote.after_submit"),  # a run that has ended meanwhile, and whose call was lost
}
POINTS = [
    "remote.before_begin",
    "remote.before_submit",
    "remote.after_submit",
    "remote.after_ready",
    "run.after_generate",
    "run.after_store",
    "remote.after_begin",  # the last: such a job is nobody's, and the next worker would take it
]


@pytest.fixture(scope="module")
def workers(django_db_setup, tmp_path_factory):
    with KilledWorkers(tmp_path_factory.mktemp("workers") / "log") as workers:
        yield workers


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(cog, "CALLBACK_SECONDS", 0.3)


def here():
    """Return the settings of this test, for a worker elsewhere."""
    names = [f"{name}_BASE_URL" for name in ("REPLICATE", "OPENAI", "FAL", "COG")]
    names += ["REPLICATE_API_TOKEN", "OPENAI_API_KEY", "FAL_API_KEY", "PROVIDER_ALLOW_NETWORKS"]
    names += ["COMFYUI_URLS", "COMFYUI_WORKFLOWS"]
    names += ["GENERATION_PROVIDERS", "TASK_RETRY_WAITS", "MEDIA_ROOT", "WORK_ROOT", "STORAGES"]
    return json.loads(json.dumps({name: getattr(settings, name) for name in names}))


@pytest.mark.parametrize("name", ALL)
def test_a_worker_that_dies_pays_once_where_it_can(fake, workers, name):
    """Proves for each point at which a worker dies how often a protocol's work is paid."""
    use(name)
    fake.script["GET /health-check"] = [{"status": "READY"}]  # Cog's: nothing is running
    tasks = []
    for point in POINTS:  # what the dead hold is not free before their leases have ended
        tasks.append(submit(Submit("p", TYPE, {"image_data": {"prompt": point}})).task)
        workers.killed_at(TYPE, point, here())
    for task in tasks:
        end_leases(task)
    with remote_work():
        assert {ended(task).status for task in tasks} == {"completed"}
    sent = [seen.body.decode() for seen in fake.calls(CALLS[name][0])]
    paid = {point: sum(point in body for body in sent) for point in POINTS}
    assert paid == {point: 2 if (name, point) in TWICE else 1 for point in POINTS}


def test_comfyui_runs_once_at_whatever_point_a_worker_dies(pool, workers):
    """Proves that a prompt under an id of ours is found again, on whichever server it is."""
    tasks = [submit(Submit("p", TYPE, STILL)).task]
    for each in pool.values():
        each.hold()
    runs = RemoteJob.objects.filter(task=tasks[0], seen_at__isnull=False, state="running")
    workers.killed_at(TYPE, "never", here(), lambda: wait_until(runs.exists, 60))
    for each in pool.values():
        each.let_go()
    for point in POINTS:
        tasks.append(submit(Submit("p", TYPE, STILL)).task)
        workers.killed_at(TYPE, point, here())
    for task in tasks:
        end_leases(task)
    with remote_work():
        assert {ended(task).status for task in tasks} == {"completed"}
    ran = [json.dumps(body) for each in pool.values() for body in each.calls("POST /prompt")]
    paid = {
        point: sum(str(task.id) in body for body in ran)  # in the names of its files
        for point, task in zip(["while it runs", *POINTS], tasks, strict=True)
    }
    assert set(paid.values()) == {1}, paid


def test_a_film_of_openai_is_paid_once_but_for_one_point(fake, workers, tmp_path):
    """Proves the same for OpenAI's films, which are jobs with an id of its choice."""
    use("openai")
    film = settings.GENERATION_PROVIDERS[TYPE]
    settings.GENERATION_PROVIDERS = {FILM: film}
    frames = (np.full((64, 64, 4), 9 * n, np.uint8) for n in range(9))
    sound, size = np.zeros((4800, 2), np.float32), (64, 64)
    path = tmp_path / "film.mp4"
    how = {"size": size, "fps": 24, "quality": "draft", "tags": {}}
    write_film(path, frames, lambda frame, number: None, sound, **how)
    fake.script |= {
        "POST /v1/videos": [{"id": "v1", "status": "queued"}],
        "GET /v1/videos/v1": [{"id": "v1", "status": "completed"}],
        "GET /v1/videos/v1/content": [Reply(body=path.read_bytes())],
    }
    tasks = []
    for point in POINTS:
        tasks.append(submit(Submit("p", FILM, {"scene_data": {"prompt": point}})).task)
        workers.killed_at(FILM, point, here())
    for task in tasks:
        end_leases(task)
    with remote_work():
        assert {ended(task, task_type=FILM).status for task in tasks} == {"completed"}
    sent = [seen.body.decode() for seen in fake.calls("POST /v1/videos")]
    paid = {point: sum(point in body for body in sent) for point in POINTS}
    assert paid == {point: 2 if point == "remote.after_submit" else 1 for point in POINTS}


@pytest.mark.parametrize("name", ["replicate", "fal", "cog"])
def test_a_worker_that_dies_while_it_runs_pays_once(fake, workers, name):
    """Proves that work at a provider outlives the worker that looked after it."""
    use(name)
    good = dict(fake.script)
    run_on(fake, name)
    task = submit(Submit("p", TYPE, TASK)).task
    runs = RemoteJob.objects.filter(task=task, seen_at__isnull=False, state="running")
    workers.killed_at(TYPE, "never", here(), lambda: wait_until(runs.exists, 60))
    fake.script |= good
    if name == "cog":
        called = {"status": "succeeded", "output": good["PUT /predictions/"][0]["output"]}
        remote_jobs.keep_result("cog", job_of(task).callback_token, called)
    end_leases(task)
    with remote_work():
        assert ended(task).status == "completed"
    assert fake.count(CALLS[name][0]) == 1


def test_pictures_of_openai_are_paid_again_when_the_worker_waiting_for_them_dies(fake, workers):
    """Proves that a request which is the work itself is made anew, and the first one booked."""
    use("openai")
    submit_call = CALLS["openai"][0]
    good = fake.script[submit_call]
    fake.script[submit_call] = [Reply(delay=600)]
    task = submit(Submit("p", TYPE, TASK)).task
    workers.killed_at(
        TYPE, "never", here(), lambda: wait_until(lambda: fake.count(submit_call), 60)
    )
    fake.script[submit_call] = good
    end_leases(task)
    with remote_work():
        assert ended(task).status == "completed"
    assert fake.count(submit_call) == 2
    assert RemoteJob.objects.filter(task=task, outcome="unclear").count() == 1


@pytest.mark.parametrize("name", ["replicate", "fal", "openai", "cog"])
def test_a_server_that_is_away_before_the_submit_is_paid_once(fake, name):
    """Proves that a submit without a connection is not paid for, and is tried again."""
    use(name)
    setting = f"{name.upper()}_BASE_URL"
    url = getattr(settings, setting)
    setattr(settings, setting, "http://127.0.0.1:9")
    settings.TASK_RETRY_WAITS = [0.0] * 3
    task = submit(Submit("p", TYPE, TASK)).task
    with remote_work():
        wait_until(lambda: ran_once(task), 30)
    setattr(settings, setting, url)
    with remote_work():
        assert ended(task).status == "completed"
    assert fake.count(CALLS[name][0]) == 1


def ran_once(task):
    from tasks_app.work import run

    run.run_next(TYPE)
    return RemoteJob.objects.filter(task=task, outcome="failed").exists()


@pytest.mark.parametrize(("name", "paid"), [("replicate", 2), ("fal", 2), ("openai", 2)])
def test_a_server_that_dies_in_the_submit_may_be_paid_twice(fake, name, paid):
    """Proves that a submit whose answer was cut off is booked as unclear, and made again."""
    use(name)
    call = CALLS[name][0]
    fake.script[call] = [Reply(headers={"content-length": "500"}), *fake.script[call]]
    with remote_work():
        task = ended(submit(Submit("p", TYPE, TASK)).task)
    assert (task.status, fake.count(call)) == ("completed", paid)
    assert RemoteJob.objects.filter(task=task, outcome="unclear").count() == 1


@pytest.mark.parametrize("name", ["replicate", "fal"])
def test_a_server_that_forgets_its_work_is_paid_twice(fake, name):
    """Proves that work which its provider does not know any more is started once more."""
    use(name)
    look = {"replicate": "GET /v1/predictions/p1"}.get(name, CALLS[name][1])
    fake.script[look] = [Reply(404), *fake.script[look]]
    with remote_work():
        task = ended(submit(Submit("p", TYPE, TASK)).task)
    assert (task.status, task.attempts, fake.count(CALLS[name][0])) == ("completed", 0, 2)


@pytest.mark.parametrize("name", ["replicate", "fal"])
def test_a_server_that_is_away_while_results_are_fetched_is_paid_once(fake, name, monkeypatch):
    """Proves that results are fetched later, without being made again."""
    use(name)
    monkeypatch.setattr("tasks_app.remote_work.results.AGAIN_SECONDS", 0.1)
    fake.script["GET /out.png"] = [Reply(503), Reply(body=png())]
    with remote_work():
        assert ended(submit(Submit("p", TYPE, TASK)).task).status == "completed"
    assert fake.count(CALLS[name][0]) == 1


def test_the_table_of_what_is_paid_names_tests_that_there_are():
    """Proves that each line of the table in docs/providers.md names an existing test."""
    text = (ROOT / "docs/providers.md").read_text()
    table = text.partition("## What is paid once")[2].partition("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("| ")][1:]
    named = [re.findall(r"`(test_\w+\.py)::(test_\w+)`", line) for line in lines]
    assert len(lines) > 10
    assert [line for line, names in zip(lines, named, strict=True) if not names] == []
    for file, test in {pair for names in named for pair in names}:
        (path,) = (ROOT / "tests").rglob(file)
        assert f"def {test}(" in path.read_text(), f"{file}::{test}"
