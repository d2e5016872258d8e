"""What becomes of remote work whose configuration, files or replies are gone when it goes on?"""

from datetime import timedelta

import psycopg
import pytest
from django.core.files.storage import default_storage
from django.db import OperationalError
from django.db.models.functions import Now
from django.utils import timezone

from tasks_app.models import MediaFile, RemoteJob, Task
from tasks_app.providers.remote.client import Server
from tasks_app.providers.remote.cog import CogProvider
from tasks_app.providers.remote.replicate import ReplicateProvider
from tasks_app.state import lifecycle, remote, remote_jobs
from tasks_app.upkeep.sweep import report_astray
from tests.support.fake_provider import Reply, png
from tests.support.remote_work import (
    CREATE,
    GET,
    TYPE,
    begin,
    ended,
    job_of,
    remote_work,
    use,
)
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def done(fake):
    return {"status": "succeeded", "output": [f"{fake.url}/out.png"]}


def test_tasks_that_wait_for_a_provider_go_to_its_successor(fake):
    """Proves that a task is not left to its deadline when its provider is taken out."""
    use(concurrency=0)
    task = begin()
    task.refresh_from_db()
    assert (task.status, task.waits_for[:9]) == ("queued", "replicate")
    use("openai")
    with remote_work():
        assert ended(task).status == "completed"
    assert fake.count("POST /v1/images/generations") == 1


def test_a_job_that_was_never_sent_goes_to_the_successor(fake):
    """Proves that work which nobody has seen yet uses up no attempt when its provider is out."""
    use()
    task = begin()
    use("openai")
    with remote_work():
        task = ended(task)
    assert (task.status, task.attempts, fake.count(CREATE)) == ("completed", 0, 0)


def test_a_stop_ends_although_its_provider_was_taken_out(fake, settings):
    """Proves that a stop which nobody can carry out is given up after its time, and says so."""
    use()
    task = begin()
    RemoteJob.objects.filter(task=task).update(state="running", remote={"id": "p1"}, asked_at=Now())
    lifecycle.cancel(task.id)
    RemoteJob.objects.filter(task=task).update(stop_owed_at="2020-01-01T00:00:00Z")
    settings.GENERATION_PROVIDERS = {TYPE: "previz"}
    with remote_work():
        wait_until(lambda: job_of(task).state == "ended", 30)
    assert job_of(task).outcome == "unstopped"


def test_results_wait_for_a_server_that_was_taken_out(fake, monkeypatch):
    """Proves that paid work is not made anew because its server's label is not configured."""
    use()
    fake.script[GET] = [done(fake)]
    fake.script["GET /out.png"] = [Reply(503)]
    with remote_work():
        task = begin()
        wait_until(lambda: job_of(task).state == "ready", 30)
    monkeypatch.setattr(ReplicateProvider, "servers", lambda self, model: [])
    RemoteJob.objects.filter(task=task).update(next_look_at=Now(), note="")
    with remote_work():
        wait_until(lambda: "not configured" in job_of(task).note, 30)
    task.refresh_from_db()
    assert (task.status, task.attempts, job_of(task).state) == ("processing", 0, "ready")


def test_a_submit_that_may_be_paid_is_not_forgotten_while_its_server_is_away(fake, monkeypatch):
    """Proves that a job which may be on a server is not sent to another one as if it were not."""
    use("cog")
    both = [
        Server(label, url, {}, ()) for label, url in (("a", "http://127.0.0.1:9"), ("b", fake.url))
    ]
    monkeypatch.setattr(CogProvider, "servers", lambda self, model: both)

    async def look(self, works, line):  # as providers do that ask once for all jobs
        return {work.job_id: await self.look_one(work, line) for work in works}

    monkeypatch.setattr(CogProvider, "look", look)
    task = begin()
    RemoteJob.objects.filter(task=task).update(asked_at=Now(), server="a")
    with remote_work():
        wait_until(lambda: job_of(task).note or job_of(task).server != "a", 30)
    assert (job_of(task).server, job_of(task).state) == ("a", "submitting")
    assert fake.count("PUT /predictions/") == 0


def test_late_work_without_a_result_is_downloaded_once(fake):
    """Proves that what is no picture is not fetched again each minute for a day."""
    use()
    task = begin()
    fake.script[GET] = [done(fake)]
    fake.script["GET /out.png"] = [Reply(body=b"<html>")]
    RemoteJob.objects.filter(task=task).update(state="running", remote={"id": "p1"}, asked_at=Now())
    remote.time_out(job_of(task))
    with remote_work():
        wait_until(lambda: fake.count("GET /out.png"), 30)
        wait_until(lambda: job_of(task).state == "ended", 30)
    assert (job_of(task).outcome, fake.count("GET /out.png")) == ("stopped", 1)


def test_an_id_that_came_at_a_stop_survives_an_outage(fake, monkeypatch):
    """Proves that a stopping worker tries again to store what a paid submit answered."""
    use()
    fake.script[CREATE] = [Reply(body=b'{"id": "p1", "status": "starting"}', delay=1.0)]
    real, failures = remote_jobs.runs, []

    def failing(*arguments):
        if not failures:
            failures.append(1)
            raise OperationalError("lost") from psycopg.OperationalError("lost")
        real(*arguments)

    monkeypatch.setattr(remote_jobs, "runs", failing)
    with remote_work():
        task = begin()
        wait_until(lambda: fake.count(CREATE), 30)
    job = job_of(task)
    assert (failures, job.state, job.remote) == ([1], "running", {"id": "p1"})


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_wrong_clock_of_a_worker_changes_no_deadline(fake, monkeypatch, hours):
    """Proves that a task times out by the database's clock, without looks in between."""
    use(poll_seconds=600)
    fake.script[GET] = [{"status": "processing"}]
    task = begin(timeout_seconds=3)
    real = timezone.now
    monkeypatch.setattr(timezone, "now", lambda: real() + timedelta(hours=hours))
    with remote_work():
        wait_until(lambda: job_of(task).state != "submitting", 30)
        assert job_of(task).state == "running"
        task = ended(task)
    assert (task.error_code, fake.count(CREATE)) == ("timed_out", 1)
    assert fake.count(GET) <= 1


def test_the_sweep_reports_tasks_and_work_that_do_not_fit(fake):
    """Proves that a task nobody looks after, and work of an ended task, are found and reported."""
    use()
    with remote_work():
        ended(begin())
    kept = begin()
    assert report_astray() == 0
    unseen, over = begin(), begin()
    RemoteJob.objects.filter(task=unseen).update(state="ended", outcome="failed")
    Task.objects.filter(pk=over.pk).update(status="failed", finished_at=Now())
    assert set(remote.astray()) == {unseen.pk, over.pk}
    assert report_astray() == 2
    lifecycle.cancel(kept.id)
    assert report_astray() == 2


@pytest.mark.parametrize("is_late", [False, True])
def test_files_stay_when_only_the_reply_to_their_commit_was_lost(fake, monkeypatch, is_late):
    """Proves that a completed task, or a late result, keeps files whose commit gave no reply."""
    use()
    fake.script[GET] = [done(fake)]
    module, name = (remote, "keep_late") if is_late else (lifecycle, "complete")
    real = getattr(module, name)
    replies = []

    def lossy(*arguments):
        real(*arguments)
        if not replies.append(1) and len(replies) == 1:
            raise OperationalError("lost") from psycopg.OperationalError("lost")

    monkeypatch.setattr(module, name, lossy)
    task = begin()
    if is_late:
        RemoteJob.objects.filter(task=task).update(
            state="running", remote={"id": "p1"}, asked_at=Now()
        )
        remote.time_out(job_of(task))
    with remote_work():
        wait_until(lambda: job_of(task).state == "ended" and replies, 30)
    (file,) = MediaFile.objects.filter(role="primary")
    with default_storage.open(file.path) as content:
        assert content.read() == png()
