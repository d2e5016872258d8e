"""Does work on a real Cog server come back? Its result comes in a call, and it is asked nothing.

Cog and its model are from packages; the callback comes through the web server of production.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db.models.functions import Now

from tasks_app.models import RemoteJob, Task
from tasks_app.providers.remote import cog as cog_provider
from tasks_app.state import lifecycle
from tasks_app.state.submit import Submit, submit
from tasks_app.work import run
from tests.support.killed_worker import KilledWorkers, end_leases
from tests.support.remote_work import TYPE, ended, job_of, remote_work
from tests.support.server import WebServer
from tests.support.servers.cog import CogServer
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.long, pytest.mark.django_db(transaction=True)]

LEFT_TO_ITSELF = "http://127.0.0.1:9"
MOST_BYTES = 8 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CogServer]:
    """One Cog server for all tests of the module."""
    with CogServer(tmp_path_factory.mktemp("cog")) as server:
        yield server


@pytest.fixture(scope="module")
def web(server: CogServer, django_db_setup: None, django_db_blocker: Any) -> Iterator[WebServer]:
    """The web server that Cog calls."""
    here = environment(server) | {"PROVIDER_CALLBACK_MAX_BYTES": str(MOST_BYTES)}
    with django_db_blocker.unblock(), WebServer(processes=1, **here) as web:
        yield web


@pytest.fixture
def cog(server: CogServer, web: WebServer, settings: Any) -> CogServer:
    """The Cog server, idle, and this process set up to use it."""
    server.hold()
    wait_until(lambda: server.health() == "READY", 30, server.log)
    settings.GENERATION_PROVIDERS = json.loads(environment(server)["GENERATION_PROVIDERS"])
    settings.COG_BASE_URL, settings.PROVIDER_ALLOW_NETWORKS = server.url, ["127.0.0.0/8"]
    settings.PROVIDER_CALLBACK_URL = web.url
    settings.TASK_RETRY_WAITS = [0.0, 0.0]
    return server


def environment(server: CogServer) -> dict[str, str]:
    """Return the configuration for processes of their own."""
    entry = {"provider": "cog", "options": {"model": "noise", "poll_seconds": 0.1}}
    return {
        "GENERATION_PROVIDERS": json.dumps({TYPE: entry}),
        "COG_BASE_URL": server.url,
        "PROVIDER_ALLOW_NETWORKS": "127.0.0.0/8",
        "TASK_RETRY_WAITS": "0,0",
    }


def begin(prompt: str, side: int = 8, **how: Any) -> Task:
    """Submit a task and give it to Cog."""
    said = {"image_data": {"prompt": prompt}, "options": {"side": side}}
    task = submit(Submit("p", TYPE, said, **how)).task
    run.run_next(TYPE)
    return task


def in_state(task: Task, state: str) -> None:
    wait_until(lambda: job_of(task).state == state, 30, lambda: str(vars(job_of(task))))


def test_the_result_comes_in_the_call(cog: CogServer) -> None:
    """Proves that a picture of five mebibytes comes back over HTTP, was run once and is right."""
    with remote_work():
        task = ended(begin("large", side=1322))
    assert (task.status, task.result["width"], cog.runs("large")) == ("completed", 1322, 1)
    assert task.result["size_bytes"] > 5 << 20
    job = job_of(task)
    assert (job.outcome, job.outputs, list(job.remote)) == ("completed", [], ["id"])


def test_a_result_longer_than_allowed_is_made_once(cog: CogServer) -> None:
    """Proves that a callback above the limit ends its task with the reason, and is not repeated."""
    with remote_work():
        task = ended(begin("too large", side=1600))
    assert (task.error_code, cog.runs("too large")) == ("output_invalid", 1)
    assert "PROVIDER_CALLBACK_MAX_BYTES" in job_of(task).note


def test_a_busy_server_is_waited_for(cog: CogServer) -> None:
    """Proves that a second job, turned away with 409, waits and uses no attempt."""
    with remote_work():
        first = begin("wait first")
        wait_until(lambda: cog.runs("wait first"), 30)
        second = begin("second")
        wait_until(lambda: Task.objects.get(pk=second.pk).status == "queued", 30)
        assert not RemoteJob.objects.filter(task=second).exists()
        cog.let_go()
        tasks = [ended(first), ended(second)]
    assert [(task.status, task.attempts) for task in tasks] == [("completed", 0)] * 2
    assert [cog.runs("wait first"), cog.runs("second")] == [1, 1]


def test_a_cancel_ends_the_run(cog: CogServer) -> None:
    """Proves that the model stops when its task is cancelled."""
    with remote_work():
        task = begin("wait cancel")
        wait_until(lambda: cog.runs("wait cancel"), 30)
        in_state(task, "running")
        lifecycle.cancel(task.id)
        in_state(task, "ended")
        wait_until(lambda: cog.health() == "READY", 30)
    assert (job_of(task).outcome, cog.runs("wait cancel")) == ("stopped", 1)


def test_a_failure_inside_a_good_answer_is_one(cog: CogServer) -> None:
    """Proves that "failed" in a callback ends an attempt, whose words are for operators."""
    with remote_work():
        task = ended(begin("fail"))
    assert (task.status, task.error_code, task.attempts) == ("failed", "render_failed", 3)
    assert "no such colour" in job_of(task).note
    assert "no such colour" not in task.error
    assert cog.runs("fail") == 3


def test_kill_9_in_the_middle_costs_no_second_run(
    cog: CogServer, settings: Any, tmp_path: Path
) -> None:
    """Proves that a worker killed with its connection ends nothing: the next gets the result."""
    task = submit(Submit("p", TYPE, {"image_data": {"prompt": "wait killed"}})).task
    names = ("GENERATION_PROVIDERS", "COG_BASE_URL", "PROVIDER_ALLOW_NETWORKS")
    here = {name: getattr(settings, name) for name in (*names, "PROVIDER_CALLBACK_URL")}
    runs = RemoteJob.objects.filter(task=task, state="running")
    with KilledWorkers(tmp_path / "log") as workers:
        workers.killed_at(TYPE, "never", here, lambda: wait_until(runs.exists, 60, cog.log))
    cog.let_go()
    wait_until(lambda: "called" in job_of(task).remote, 30)
    end_leases(task)
    with remote_work():
        task = ended(task)
    assert (task.status, task.attempts, cog.runs("wait killed")) == ("completed", 0, 1)


def test_a_dropped_connection_cancels_nothing(cog: CogServer) -> None:
    """Proves that work which was begun goes on when nobody is connected to the server any more."""
    with remote_work():
        task = begin("wait alone")
        wait_until(lambda: cog.runs("wait alone"), 30)
        in_state(task, "running")
    assert cog.health() == "BUSY"  # the loop has closed all its connections
    cog.let_go()
    wait_until(lambda: "called" in job_of(task).remote, 30)
    with remote_work():
        assert ended(task).status == "completed"
    assert cog.runs("wait alone") == 1


def test_a_lost_callback_costs_a_second_run(
    cog: CogServer, settings: Any, web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proves that work whose result was lost on its way is done once more, and only then."""
    monkeypatch.setattr(cog_provider, "CALLBACK_SECONDS", 0.5)
    settings.PROVIDER_CALLBACK_URL = LEFT_TO_ITSELF
    with remote_work():
        task = begin("lost")
        wait_until(lambda: cog.runs("lost") == 1, 30)
        settings.PROVIDER_CALLBACK_URL = web.url
        task = ended(task)
    assert (task.status, task.attempts, cog.runs("lost")) == ("completed", 0, 2)
    assert set(RemoteJob.objects.filter(task=task).values_list("outcome", flat=True)) == {
        *("lost", "completed")
    }


def test_a_killed_server_costs_a_second_run(
    cog: CogServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proves that work which died with its server is started again when the server is back."""
    monkeypatch.setattr(cog_provider, "CALLBACK_SECONDS", 0.5)
    with remote_work():
        task = begin("wait server")
        wait_until(lambda: cog.runs("wait server"), 30)
        in_state(task, "running")
        cog.kill()
        cog.let_go()
        cog.start()
        task = ended(task)
    assert (task.status, task.attempts, cog.runs("wait server")) == ("completed", 0, 2)


def test_a_crash_in_the_submit_is_found_by_our_id(cog: CogServer, web: WebServer) -> None:
    """Proves that work whose submit's answer was lost is found, while it runs, by our own id."""
    task = begin("wait found")
    job = job_of(task)
    call = f"{web.url}/api/v1/providers/cog/callback/{job.callback_token}"
    body = {"input": {"prompt": "wait found"}, "webhook": call}
    request = urllib.request.Request(
        f"{cog.url}/predictions/{job.id}",
        json.dumps({**body, "webhook_events_filter": ["completed"]}).encode(),
        {"Content-Type": "application/json", "Prefer": "respond-async"},
        method="PUT",
    )
    urllib.request.urlopen(request, timeout=10).close()
    RemoteJob.objects.filter(pk=job.pk).update(asked_at=Now())  # as the killed process left it
    with remote_work():
        in_state(task, "running")
        cog.let_go()
        task = ended(task)
    assert (task.status, cog.runs("wait found")) == ("completed", 1)
