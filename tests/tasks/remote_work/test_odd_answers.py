"""What becomes of work whose provider answers nonsense, or is programmed wrongly?"""

from datetime import timedelta

import orjson
import pytest
from django.utils import timezone

from tasks_app.models import RemoteJob, RemoteServer
from tasks_app.providers.remote.replicate import ReplicateProvider
from tasks_app.state import lifecycle
from tests.support.fake_provider import Reply
from tests.support.remote_work import (
    CANCEL,
    CREATE,
    GET,
    begin,
    ended,
    job_of,
    remote_work,
    use,
)
from tests.support.waiting import wait_until
from tests.tasks.remote_work.test_steps import callback

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("call", ["submit", "look_one"])
def test_a_fault_in_a_provider_ends_the_attempt(fake, monkeypatch, settings, call):
    """Proves that an exception which no provider may raise is not repeated until the deadline."""
    use()
    settings.TASK_RETRY_WAITS = []

    async def faulty(self, work, line):
        raise KeyError("status")

    monkeypatch.setattr(ReplicateProvider, call, faulty)
    with remote_work():
        task = ended(begin())
    assert (task.status, task.error_code) == ("failed", "internal_error")
    assert "KeyError" in task.traceback


def test_a_fault_in_a_stop_is_tried_again_and_not_for_ever(fake, monkeypatch):
    """Proves that a stop which crashes is repeated with waits, and given up after its time."""
    use()
    fake.script[GET] = [{"status": "processing"}]
    calls = []

    async def faulty(self, work, line):
        calls.append(work)
        raise KeyError("status")

    monkeypatch.setattr(ReplicateProvider, "stop", faulty)
    with remote_work():
        task = begin()
        wait_until(lambda: job_of(task).state == "running", 30)
        lifecycle.cancel(task.id)
        wait_until(lambda: len(calls) > 1, 30)
        RemoteJob.objects.filter(task=task).update(stop_owed_at="2020-01-01T00:00:00Z")
        wait_until(lambda: job_of(task).state == "ended", 30)
    assert job_of(task).outcome == "unstopped"


@pytest.mark.parametrize(
    "state",
    [
        {"status": "failed", "error": "bad \0 word"},
        {"status": "succeeded", "output": "data:image/png;base64,\0"},
        {"status": "succeeded", "output": ["https://127.0.0.1/\0"]},
    ],
)
def test_text_that_the_database_cannot_hold_ends_the_attempt(fake, settings, state):
    """Proves that a NUL in a provider's JSON does not make a step fail again and again."""
    use()
    settings.TASK_RETRY_WAITS = []
    fake.script[GET] = [state]
    with remote_work():
        task = ended(begin())
    assert (task.status, task.error_code) in [
        ("failed", "render_failed"),
        ("failed", "output_invalid"),
    ]


@pytest.mark.parametrize("wait", ["31536000", "9" * 60])
def test_no_provider_can_shut_itself_for_a_year(fake, wait):
    """Proves that a Retry-After which no task can wait for is cut to an hour."""
    use()
    fake.script[CREATE] = [Reply(429, headers={"retry-after": wait})]
    with remote_work():
        begin()
        wait_until(lambda: RemoteServer.objects.filter(busy_until__isnull=False), 30)
    server = RemoteServer.objects.get()
    assert server.busy_until < timezone.now() + timedelta(seconds=3700)


def test_a_task_does_not_wait_for_another_attempt_beyond_its_time(fake, settings):
    """Proves that a Retry-After ends at the task's deadline, where the task times out."""
    use()
    settings.TASK_RETRY_WAITS = [0.0]
    fake.script[CREATE] = [Reply(503, headers={"retry-after": "86400"})]
    with remote_work():
        task = ended(begin(timeout_seconds=2))
    assert (task.status, task.error_code) == ("failed", "timed_out")


def test_a_callback_with_a_nul_is_kept(fake):
    """Proves that the only copy of a Cog result is stored, whatever letters are in it."""
    use("cog")
    task = begin()
    body = orjson.dumps({"status": "failed", "error": "a \0 b"})
    assert callback(job_of(task), body).status_code == 204
    assert job_of(task).remote["called"]["status"] == "failed"


def test_the_id_of_a_submit_that_was_cancelled_meanwhile_is_stopped(fake):
    """Proves that work whose submit was open during the cancel does not run on unseen."""
    use()
    fake.script[CREATE] = [Reply(body=b'{"id": "p1", "status": "starting"}', delay=1.0)]
    with remote_work():
        task = begin()
        wait_until(lambda: fake.count(CREATE), 30)
        lifecycle.cancel(task.id)
        wait_until(lambda: job_of(task).state == "ended", 30)
    assert (fake.count(CANCEL), job_of(task).outcome) == (1, "stopped")
