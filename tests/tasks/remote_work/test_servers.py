"""How do servers stand, for operators and Prometheus, and what do a pause and the command do?"""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks_app import metrics, remote_servers
from tasks_app.models import RemoteServer
from tasks_app.state import lifecycle
from tests import ROOT
from tests.support import crowd, factories
from tests.support.fake_provider import Reply
from tests.support.remote_work import CANCEL, CREATE, GET, begin, ended, job_of, remote_work, use
from tests.support.waiting import wait_until
from webhooks_app.models import OperatorAction

db = pytest.mark.django_db
committed = pytest.mark.django_db(transaction=True)
WHO: dict[str, str] = {"actor": "mara", "reason": "a test"}
RUNNING = {"status": "processing"}


def figures() -> dict[tuple[str, tuple[str, ...]], float]:
    """Return the database's figures by name and label values."""
    return {
        (sample.name.removeprefix("movies_remote_"), tuple(sample.labels.values())): sample.value
        for family in remote_servers.database_gauges()
        for sample in family.samples
    }


def command(*arguments: str) -> str:
    """Run the command and return what it wrote."""
    out = StringIO()
    call_command("remote_work", *arguments, stdout=out)
    return out.getvalue()


@committed
def test_a_pause_drains_and_a_resume_wakes(fake: Any) -> None:
    """A server that was never used can be paused; what runs goes on, and the rest waits for it."""
    use()
    fake.script[GET] = [RUNNING]
    with remote_work():
        wait_until(lambda: RemoteServer.objects.exists(), 30)
        first = begin()
        wait_until(lambda: remote_servers.loads()[place()].jobs["running"] == 1, 30)
        assert remote_servers.pause(*place(), **WHO)
        second = begin()
        second.refresh_from_db()
        assert (second.status, fake.count(CREATE)) == ("queued", 1)
        assert figures()["waiting_tasks", ("replicate",)] == 1
        assert figures()["server_paused", place()] == 1
        fake.script[GET] = [{"status": "succeeded", "output": [f"{fake.url}/out.png"]}]
        assert ended(first).status == "completed"
        assert remote_servers.resume(*place(), **WHO)
        assert ended(second).status == "completed"


def place() -> tuple[str, str]:
    """Return the name of the configured server."""
    return next(iter(remote_servers.configured()))


@committed
def test_a_stop_that_fails_says_why(fake: Any) -> None:
    """While a stop is owed, its job's note holds the provider's own words."""
    use()
    fake.script[GET] = [RUNNING]
    fake.script[CANCEL] = [Reply(401, b'{"detail": "the key was changed"}')]
    with remote_work():
        task = begin()
        wait_until(lambda: job_of(task).state == "running", 30)
        lifecycle.cancel(task.pk)
        wait_until(lambda: "the key was changed" in job_of(task).note, 30)
    assert remote_servers.loads()[place()].stops_owed == 1


@committed
def test_each_end_is_counted_once(fake: Any) -> None:
    """A job that completes, and one that is stopped before its submit, raise one figure each."""
    use()

    def counted(outcome: str) -> float:
        return metrics.remote_jobs_ended.labels(*place(), outcome)._value.get()

    before = {outcome: counted(outcome) for outcome in ("completed", "stopped")}
    with remote_work():
        assert ended(begin()).status == "completed"
    assert counted("completed") - before["completed"] == 1
    lifecycle.cancel(begin().pk)  # no loop runs, so nothing was sent
    assert counted("stopped") - before["stopped"] == 1
    assert counted("completed") - before["completed"] == 1


@db
def test_figures_say_what_is_owed_and_who_is_silent() -> None:
    """Stops that were told are not owed; only running jobs can be silent; labels are ours."""
    use()
    now = timezone.now()
    factories.make_remote_server("replicate", "replicate", busy_until=now + timedelta(minutes=1))
    for minutes in (3, 12):
        factories.make_remote_job("stopping", stop_owed_at=now - timedelta(minutes=minutes))
    long_ago = now - timedelta(hours=2)
    factories.make_remote_job("stopping", stop_owed_at=long_ago, stop_told_at=now)
    for minutes in (6, 20):
        factories.make_remote_job("running", seen_at=now - timedelta(minutes=minutes))
    factories.make_remote_job("ready", seen_at=now)
    factories.make_remote_job("running", provider="canary", server="canary", seen_at=long_ago)
    factories.make_task(waits_for="canary:x")
    found = figures()
    here = ("replicate", "replicate")
    assert {state: found["jobs", (*here, state)] for state in remote_servers.UNFINISHED} == {
        "submitting": 0,
        "running": 2,
        "ready": 1,
        "stopping": 3,
    }
    assert found["stops_owed", here] == 2
    assert 719 <= found["stop_oldest_seconds", here] < 780
    assert 359 <= found["server_silent_seconds", here] < 420
    assert (found["server_busy", here], found["server_paused", here]) == (1, 0)
    assert found["jobs", ("other", "other", "running")] == 1
    assert found["server_silent_seconds", ("other", "other")] >= 7199
    assert found["waiting_tasks", ("other",)] == 1
    assert "canary" not in str(found)


@db
def test_a_quiet_server_has_figures_too() -> None:
    """Every series of a configured server exists before its first job, with the value 0."""
    use()
    found = figures()
    assert found["server_silent_seconds", ("replicate", "replicate")] == 0
    assert found["waiting_tasks", ("replicate",)] == 0
    assert not RemoteServer.objects.exists(), "a scrape writes nothing"


@db
def test_a_wrong_configuration_breaks_no_page(settings: Any) -> None:
    """A provider that cannot be loaded is the business of `check`; the others are still shown."""
    use()
    settings.GENERATION_PROVIDERS |= {
        "audio_generation": "nowhere.Provider",
        "video_generation": {"provider": "fal", "options": {"nonsense": 1}},
    }
    assert set(remote_servers.configured()) == {("replicate", "replicate")}


@db
def test_figures_do_not_read_the_history() -> None:
    """Among many ended jobs and tasks, only those that have not ended are read."""
    use()
    crowd.fill(20_000)
    factories.make_remote_job()
    with CaptureQueriesContext(connection) as captured:
        figures()
    assert len(captured) == 3
    for query in captured:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN {query['sql']}")
            plan = "\n".join(row[0] for row in cursor.fetchall())
        assert "Seq Scan on tasks_app_remotejob" not in plan
        assert "Seq Scan on tasks_app_task" not in plan


# -- the command -------------------------------------------------------------------------------


@db
def test_the_command_shows_servers_and_stops() -> None:
    """Each server and each owed stop has a line, with what an operator needs to act on it."""
    use()
    assert "replicate/replicate" in command()
    assert "No stop is owed." in command()
    factories.make_remote_server(is_paused=True, learned_limit=3, last_error="it is\x1b[31m full")
    job = factories.make_remote_job(
        "stopping", note="503", stop_owed_at=timezone.now() - timedelta(minutes=12)
    )
    factories.make_remote_job("ended", outcome="unclear", note="cut off")
    text = command()
    server = next(line for line in text.splitlines() if line.startswith("replicate/replicate"))
    assert server.split()[:5] == ["replicate/replicate", "paused", "1", "-/3", "1"]
    assert "\x1b" not in text
    stop = text.splitlines()[-1]
    assert all(word in stop for word in ("id there p1", "12 min", "cancelled", str(job.task_id)))
    assert "cut off" in command("--unclear")
    assert "cut off" not in text


@db
def test_the_command_pauses_with_a_reason_and_only_what_there_is() -> None:
    """It records who and why, does nothing twice, and makes no row of an unknown name."""
    use()
    name = "replicate/replicate"
    for arguments, code in (
        (("--pause", name), 2),
        (("--pause", name, "--reason", " "), 2),
        (("--reason", "x"), 2),
        (("--pause", "replicate/nonesuch", "--reason", "x"), 3),
        (("--resume", "", "--reason", "x"), 3),
        (("--pause", "replicate", "--reason", "x"), 3),
        (("--pause", "a\x00/b\udcff", "--reason", "x"), 2),
        (("--pause", name, "--reason", "new driver \udcff"), 2),
    ):
        with pytest.raises(CommandError) as refused:
            command(*arguments)
        assert refused.value.returncode == code, arguments
    assert not RemoteServer.objects.exists()
    assert command("--pause", name, "--reason", "new driver") == f"{name} is paused.\n"
    assert "already" in command("--pause", name, "--reason", "x")
    assert command("--resume", name, "--reason", "it is in") == f"{name} is resumed.\n"
    done = OperatorAction.objects.order_by("id").values_list("action", "target", "reason")
    assert list(done) == [
        ("remote_server.pause", name, "new driver"),
        ("remote_server.resume", name, "it is in"),
    ]
    assert OperatorAction.objects.filter(actor__startswith="command ").count() == 2


@committed
def test_a_closed_pipe_is_no_error() -> None:
    """`manage.py remote_work | head` ends quietly when nobody reads on."""
    factories.make_remote_server()
    reading, writing = os.pipe()
    os.close(reading)
    name = connection.settings_dict["NAME"]
    done = subprocess.run(
        [sys.executable, "manage.py", "remote_work"],
        cwd=ROOT,
        env={
            **os.environ,
            "DATABASE_URL": os.environ["DATABASE_URL"].replace("/movies?", f"/{name}?"),
        },
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")
