"""Does a pool of ComfyUI servers make tasks, whatever dies? The real loop, against stand-ins."""

import hashlib
import json

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from tasks_app.models import RemoteJob
from tasks_app.providers.comfyui.templates import graph_sha256
from tasks_app.remote_work import steps
from tasks_app.state import lifecycle
from tasks_app.state.inputs import values_of
from tasks_app.state.submit import Submit, submit
from tasks_app.work import run
from tests.support import factories
from tests.support.comfyui import EXAMPLES, still, template, write
from tests.support.remote_work import MODEL, ended, job_of, remote_work
from tests.support.uploads import png
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)
IMAGE, VIDEO = "image_generation", "video_generation"
SMALL = {"image_params": {"resolution": "256x256"}}


def begin(task_type=IMAGE, **task_data):
    """Submit a task and give it to a server."""
    asked = {"model": "still", "image_data": {"prompt": "rain"}, **SMALL}
    asked |= task_data
    task = submit(Submit("p", task_type, asked, inputs=values_of(asked))).task
    run.run_next(task_type)
    return task


def asset():
    """Return a stored picture of the project, and its bytes."""
    content = png(3)
    file = factories.make_asset(project_id="p", sha256=hashlib.sha256(content).hexdigest())
    file.path = default_storage.save(f"assets/{file.pk}/asset.png", ContentFile(content))
    file.save(update_fields=["path"])
    return file, content


def film(**video_params):
    return begin(
        VIDEO,
        model="film",
        scene_data={"prompt": "rain"},
        video_params={"resolution": "256x144", "duration_s": 1, "fps": 24, **video_params},
    )


def running(task):
    """Wait until a server has the task's job; return the job."""

    def found():
        run.run_next(task.task_type)
        job = job_of(task)
        return job if job.state == "running" else None

    return wait_until(found, 30, f"task {task.id} runs")


def submits(pool):
    return sum(len(each.calls("POST /prompt")) for each in pool.values())


def test_a_still_comes_with_its_receipt(pool):
    """Proves that a task becomes a picture, and its receipt says how it can be made again."""
    with remote_work():
        task = ended(begin(seed=99))
    assert (task.status, task.result["media_type"]) == ("completed", "image/png")
    assert (task.result["width"], task.result["height"], task.result["seed"]) == (256, 256, 99)
    assert (task.result["provider"], task.result["model"]) == ("comfyui", "still")
    job = job_of(task)
    graph = json.loads((EXAMPLES / "still.json").read_text())["workflow"]
    facts = {"template": "still", "workflow_sha256": graph_sha256(graph), "server": job.server}
    assert facts.items() <= task.result["provider_metadata"].items()
    assert "127.0.0.1" not in json.dumps(task.result["provider_metadata"])
    [body] = pool[job.server].calls("POST /prompt")
    assert body["prompt_id"] == str(job.id)
    assert body["prompt"]["3"]["inputs"]["filename_prefix"] == str(task.id)


def test_a_pool_on_the_lan_works_beside_fal(fake, pool, settings):
    """Proves that each provider is dialled in its own networks, with both of them configured."""
    entry = {"provider": "fal", "options": {"model": MODEL, "poll_seconds": 0.05}}
    settings.GENERATION_PROVIDERS = {**settings.GENERATION_PROVIDERS, IMAGE: entry}
    settings.WEBHOOKS = {**settings.WEBHOOKS, "ALLOW_NETWORKS": []}  # for tests: loopback
    told = {}
    for network in ("fal=127.0.0.1/32", "fal=10.0.0.0/8", ""):
        settings.PROVIDER_ALLOW_NETWORKS = ["comfyui=127.0.0.0/8", *filter(None, [network])]
        with remote_work():
            both = film(), begin(model=MODEL, image_params={})
            told[network] = [ended(task, task_type=task.task_type).error_code for task in both]
    assert told == {
        "fal=127.0.0.1/32": ["", ""],
        "fal=10.0.0.0/8": ["", "provider_rejected"],
        "": ["", "provider_rejected"],
    }


def test_a_film_with_sound(pool):
    """Proves that seconds become frames, and a film has the length that was asked for."""
    with remote_work():
        task = ended(film(duration_s=2))
    assert (task.status, task.result["media_type"]) == ("completed", "video/mp4")
    assert (task.result["duration"], task.result["fps"]) == (2.0, 24.0)
    assert task.result["codecs"] == ["h264", "aac"]


def test_a_picture_is_made_of_an_asset(pool):
    """Proves that an asset is uploaded to the server that works, and stands in the receipt."""
    file, content = asset()
    with remote_work():
        task = ended(begin(model="restyle", image_params={}, inputs={"image": {"asset": file.pk}}))
    assert (task.status, task.result["width"]) == ("completed", 512)
    server = pool[job_of(task).server]
    stored = server.state.place.folder / "input" / str(task.id) / f"{file.pk}.png"
    assert stored.read_bytes() == content
    [body] = server.calls("POST /prompt")
    assert body["prompt"]["1"]["inputs"]["image"] == f"{task.id}/{file.pk}.png"
    assert [row["asset_id"] for row in task.result["inputs"]] == [file.pk]


def test_a_lost_jobs_input_goes_to_the_other_server_too(pool, settings):
    """Proves that a job which starts anew elsewhere has its files there."""
    file, _ = asset()
    settings.COMFYUI_LOST_SECONDS = 0.5
    for each in pool.values():
        each.hold()
    with remote_work():
        task = begin(model="restyle", image_params={}, inputs={"image": {"asset": file.pk}})
        first = running(task)
        pool[first.server].kill()
        for each in pool.values():
            each.let_go()
        assert ended(task).status == "completed"
    assert job_of(task).server != first.server


def test_two_tasks_with_one_graph_have_files_of_their_own(pool, settings):
    """Proves that the same prompt and seed give two files, though ComfyUI caches its work."""
    settings.COMFYUI_URLS = settings.COMFYUI_URLS[:1]
    with remote_work():
        tasks = [begin(seed=1) for _ in range(2)]
        prefixes = {ended(task).status for task in tasks}
    assert prefixes == {"completed"}
    names = {path.name for path in (pool["gpu-a"].state.place.folder / "output").iterdir()}
    assert names == {f"{task.id}_00001_.png" for task in tasks}
    assert pool["gpu-a"].state.executed.count("ImageAddNoise") == 1


def test_a_restarted_server_loses_nothing(pool):
    """Proves that a job which its server forgot is made once more, under a new id."""
    for each in pool.values():
        each.hold()
    with remote_work():
        task = begin()
        first = running(task)
        pool[first.server].kill()
        pool[first.server].start()
        for each in pool.values():
            each.let_go()
        task = ended(task)
    assert (task.status, task.attempts) == ("completed", 0)
    assert job_of(task).id != first.id
    assert RemoteJob.objects.get(pk=first.id).outcome == "lost"
    assert RemoteJob.objects.filter(task=task).count() == 2


def test_a_dead_server_gives_its_job_to_another(pool, settings):
    """Proves that a silent server's job goes to another one, and is stopped when it is back."""
    settings.COMFYUI_LOST_SECONDS = 0.5
    for each in pool.values():
        each.hold()
    with remote_work():
        task = begin()
        first = running(task)
        dead = pool[first.server]
        dead.kill()
        for each in pool.values():
            each.let_go()
        task = ended(task)
        assert task.status == "completed"
        assert job_of(task).server != first.server
        assert RemoteJob.objects.get(pk=first.id).state == "stopping"
        dead.start()
        wait_until(lambda: RemoteJob.objects.get(pk=first.id).state == "ended", 40)
    assert task.result["provider_metadata"]["server"] == job_of(task).server


def test_tasks_pass_by_a_server_that_is_away(pool):
    """Proves that tasks of a pool whose one server is down are all made by the other."""
    pool["gpu-a"].kill()
    with remote_work():
        tasks = [ended(begin()) for _ in range(3)]
    assert [(task.status, task.attempts) for task in tasks] == [("completed", 0)] * 3
    assert {job_of(task).server for task in tasks} == {"gpu-b"}


def test_a_pool_that_is_away_is_waited_for(pool, settings, monkeypatch):
    """Proves that a task waits while the only server is restarted, and uses up no attempt."""
    monkeypatch.setattr(steps, "AWAY_SECONDS", 1.0)
    settings.COMFYUI_URLS = settings.COMFYUI_URLS[:1]
    pool["gpu-a"].kill()
    with remote_work():
        task = begin()
        wait_until(lambda: type(task).objects.get(pk=task.pk).waits_for, 30)
        pool["gpu-a"].start()
        task = ended(task, 60)
    assert (task.status, task.attempts) == ("completed", 0)


def test_a_pool_that_is_away_hands_on_in_a_chain(pool, settings, monkeypatch):
    """Proves that a task goes to the next provider when no server of the pool can be reached."""
    monkeypatch.setattr(steps, "AWAY_SECONDS", 1.0)
    entry = settings.GENERATION_PROVIDERS[IMAGE]
    settings.GENERATION_PROVIDERS = {IMAGE: [entry, "tests.support.providers.StillProvider"]}
    for each in pool.values():
        each.kill()
    with remote_work():
        task = ended(begin(), 60)
    assert (task.status, task.result["provider"]) == ("completed", "still")
    assert task.result["fallback_from"][0]["provider"] == "comfyui"


def test_a_lost_answer_is_not_paid_twice(pool):
    """Proves that a submit whose answer was lost is looked for, and its facts are still known."""
    for each in pool.values():
        each.state.is_silent_after_submit = True
    with remote_work():
        task = ended(begin(seed=5))
    assert (task.status, task.result["seed"], submits(pool)) == ("completed", 5, 1)
    [body] = [body for each in pool.values() for body in each.calls("POST /prompt")]
    assert task.result["seed"] == body["prompt"]["2"]["inputs"]["seed"]
    assert task.result["provider_metadata"]["template"] == "still"


def test_a_long_queue_is_waited_for(pool, settings):
    """Proves that work of others in a server's queue lets a task wait, and costs no attempt."""
    settings.COMFYUI_QUEUE_LIMIT = 1
    for each in pool.values():
        each.state.running = [0, "others", still(), {}, ["3"]]
    with remote_work():
        task = begin()
        wait_until(lambda: type(task).objects.get(pk=task.pk).waits_for, 30)
        assert submits(pool) == 0
        for each in pool.values():
            each.state.running = None
        task = ended(task, 60)
    assert (task.status, task.attempts) == ("completed", 0)


def test_each_server_gets_as_many_jobs_as_are_configured(pool, settings):
    """Proves that a server gets no more jobs at once than configured; the others wait with us."""
    settings.COMFYUI_CONCURRENCY = ["1", "gpu-b=2"]
    for each in pool.values():
        each.hold()
    with remote_work():
        tasks = [begin() for _ in range(5)]
        wait_until(lambda: submits(pool) == 3, 30)
        held = {name: each.state.remaining for name, each in pool.items()}
        for each in pool.values():
            each.let_go()
        assert {ended(task).status for task in tasks} == {"completed"}
    assert held == {"gpu-a": 1, "gpu-b": 2}


def test_a_cancel_interrupts_only_that_job(pool, settings):
    """Proves that a cancelled task's job is interrupted by its id, and the next one runs."""
    settings.COMFYUI_URLS = settings.COMFYUI_URLS[:1]
    comfy = pool["gpu-a"]
    comfy.hold()
    with remote_work():
        task, other = begin(), begin()
        job = running(task)
        running(other)
        comfy.runs()
        current = comfy.state.running[1]
        lifecycle.cancel(task.id if current == str(job.id) else other.id)
        wait_until(lambda: comfy.calls("POST /interrupt"), 30)
        comfy.let_go()
        left = other if current == str(job.id) else task
        assert ended(left).status == "completed"
    assert {"prompt_id": current} in comfy.calls("POST /interrupt")


def test_a_failure_tells_the_client_nothing_of_the_server(pool, settings, tmp_path):
    """Proves that a failed node is named to operators, without paths, and not to the client."""
    broken = still()
    broken["2"] = {"class_type": "LoadImage", "inputs": {"image": "no/such.png"}}
    write(tmp_path / "workflows", broken=template(broken, "3"))
    with remote_work():
        task = ended(begin(model="broken", image_params={}))
    assert (task.status, task.error_code, task.attempts) == ("failed", "render_failed", 3)
    note = job_of(task).note
    assert note.startswith("LoadImage (node 2): FileNotFoundError")
    assert "/home" not in note
    for word in ("LoadImage", "FileNotFound", "home"):
        assert word not in task.error + task.traceback


def test_a_refused_workflow_is_final(pool, tmp_path):
    """Proves that a workflow which a server refuses is not tried again, and operators see why."""
    write(tmp_path / "workflows", wide=template(still(width=20_000), "3"))
    with remote_work():
        task = ended(begin(model="wide", image_params={}))
    assert (task.status, task.error_code, task.attempts) == ("failed", "provider_rejected", 1)
    assert "EmptyImage (node 1) value_bigger_than_max" in job_of(task).note


def test_progress_comes_over_the_websocket(pool):
    """Proves that a job's nodes move its task's progress before it has ended."""
    for each in pool.values():
        each.state.seconds = 1.0
    with remote_work():
        task = begin()
        seen = []

        def is_over():
            task.refresh_from_db()
            seen.append(task.progress)
            return task.is_terminal

        wait_until(is_over, 40)
    between = {step for step in seen if 0.05 < step < 0.9}
    assert task.status == "completed"
    assert len(between) >= 2, sorted(set(seen))
