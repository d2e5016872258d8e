"""Does the worker run a claimed task to its end, whatever the provider does?"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.files.storage import FileSystemStorage, default_storage
from django.db import connections

from tasks_app import redis_gate, tickets
from tasks_app.models import MediaFile, Task
from tasks_app.providers import get_provider
from tasks_app.providers.base import Context, Job, Result
from tasks_app.state import lifecycle
from tasks_app.state.submit import Submit
from tasks_app.state.submit import submit as submit_task
from tasks_app.task_types import TASK_TYPES
from tasks_app.tickets import stopping
from tasks_app.work import claim_watch, run, seats
from tests.support import factories
from tests.support.providers import StillProvider
from tests.support.waiting import wait_until
from webhooks_app.models import WebhookEvent

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _not_stopping() -> Iterator[None]:
    """Restore the process-wide flag."""
    yield
    stopping.clear()


def use(settings: Any, **options: Any) -> None:
    """Configure the scripted provider."""
    settings.GENERATION_PROVIDERS = {
        "image_generation": {
            "provider": "tests.support.providers.StillProvider",
            "options": options,
        }
    }


def submit(**fields: Any) -> Task:
    """Submit an image task."""
    request = Submit("p", "image_generation", {"prompt": "x"}, **fields)
    return submit_task(request).task


def test_completed_task_has_stored_probed_files(settings: Any) -> None:
    """The result names a stored file with its real size and hash."""
    use(settings)
    task = submit()
    run.run_next("image_generation")
    task.refresh_from_db()
    assert task.status == "completed"
    file = MediaFile.objects.get()
    assert default_storage.size(file.path) == file.size_bytes == task.result["size_bytes"]
    assert task.result["payload_media_id"] == file.id
    assert task.result["provider"] == "still"
    assert file.link_token in task.result["media_url"]


def test_one_ticket_serves_the_short_tasks_behind_it(settings: Any) -> None:
    """One ticket runs three short tasks; if another type is due, its ticket is sent instead."""
    use(settings)
    tasks = [submit() for _ in range(3)]
    run.run_next("image_generation")
    assert {Task.objects.get(pk=task.pk).status for task in tasks} == {"completed"}
    factories.make_task(task_type="audio_generation")
    tasks = [submit() for _ in range(2)]
    redis_gate.client().flushdb()
    run.run_next("image_generation")
    states = sorted(Task.objects.get(pk=task.pk).status for task in tasks)
    assert states == ["completed", "queued"]
    assert tickets.waiting_tickets(TASK_TYPES["audio_generation"].queue) == 1
    assert tickets.waiting_tickets(TASK_TYPES["image_generation"].queue) == 1
    redis_gate.client().flushdb()


def test_a_seat_that_was_not_needed_sends_a_new_ticket(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a seat was not needed after all, a ticket that found none is sent again at once."""
    use(settings)
    monkeypatch.setattr(seats, "slots", threading.BoundedSemaphore(1))

    def look_while_another_comes(task_type: str, **_: Any) -> None:
        submit()
        redis_gate.client().flushdb()
        run.run_next(task_type)

    monkeypatch.setattr(run, "_claim", look_while_another_comes)
    run.run_next("image_generation")
    assert tickets.waiting_tickets(TASK_TYPES["image_generation"].queue) == 1
    redis_gate.client().flushdb()


def test_retryable_failure_is_tried_three_times(settings: Any) -> None:
    """Three attempts, then one failed event, whose text carries nothing of the exception."""
    settings.TASK_RETRY_WAITS = [0.0, 0.0]
    use(settings, fail_code="render_failed")
    task = submit()
    for _ in range(4):
        run.run_next("image_generation")
    task.refresh_from_db()
    assert (task.status, task.attempts, task.error_code) == ("failed", 3, "render_failed")
    assert "secret-canary-text" not in task.error + task.traceback
    assert 'File "tests/support/providers.py"' in task.traceback
    assert WebhookEvent.objects.count() == 1


def test_second_attempt_may_succeed(settings: Any) -> None:
    """A temporary failure costs an attempt, not the task."""
    settings.TASK_RETRY_WAITS = [0.0, 0.0]
    use(settings, fail_code="render_failed", failures=1)
    task = submit()
    run.run_next("image_generation")
    run.run_next("image_generation")
    task.refresh_from_db()
    assert (task.status, task.attempts) == ("completed", 1)


def test_permanent_failure_ends_at_once(settings: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A refusal is not retried, and the log has the provider's message."""
    use(settings, fail_code="content_refused")
    task = submit()
    run.run_next("image_generation")
    task.refresh_from_db()
    assert (task.status, task.attempts) == ("failed", 1)
    (line,) = [one for one in capsys.readouterr().err.splitlines() if "Attempt failed" in one]
    assert "error_code=content_refused reason='a scripted failure" in line
    assert f"task_id={task.pk}" in line


def test_deadline_ends_in_timed_out(settings: Any) -> None:
    """Work that takes longer than timeout_seconds fails for good, without retry or traceback."""
    use(settings, seconds=30)
    task = submit(timeout_seconds=1)
    run.run_next("image_generation")
    task.refresh_from_db()
    assert (task.status, task.error_code, task.attempts) == ("failed", "timed_out", 1)
    assert task.traceback == ""


def test_shutdown_hands_the_task_back(settings: Any) -> None:
    """A stopping worker requeues its task without counting an attempt, and claims nothing more."""
    use(settings, seconds=30)
    task = submit()
    claimed = lifecycle.claim_next("image_generation")
    assert claimed is not None
    stopping.set()
    provider = get_provider("image_generation")
    seat = seats.take_seat(provider)
    assert seat is not None
    run._run(claimed, provider, seat)
    seat.free()
    run.run_next("image_generation")
    task.refresh_from_db()
    assert (task.status, task.attempts, task.lost_count) == ("queued", 0, 0)


def test_cancelled_task_stops_its_work_within_two_seconds(settings: Any) -> None:
    """Cancel is noticed by the next look of the watch, work stops, its files are discarded."""
    use(settings, seconds=30)
    task = submit()

    def work() -> None:
        try:
            run.run_next("image_generation")
        finally:
            connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: Task.objects.get(pk=task.pk).status == "processing")
    lifecycle.cancel(task.id)
    # The work itself takes 30 s; a busy machine may be late with the look that ends it.
    thread.join(timeout=20)
    assert not thread.is_alive()
    assert claim_watch.WATCH_SECONDS <= 1
    assert not MediaFile.objects.exists()


class CountingProvider(StillProvider):
    """Record how many attempts run at once."""

    lock = threading.Lock()
    working = most = begun = 0

    def __init__(self, is_local: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.is_local = is_local

    def generate(self, job: Job, context: Context) -> Result:
        """Count around the work."""
        cls = CountingProvider
        with cls.lock:
            cls.working += 1
            cls.begun += 1
            cls.most = max(cls.most, cls.working)
        try:
            return super().generate(job, context)
        finally:
            with cls.lock:
                cls.working -= 1


def run_at_once(settings: Any, count: int, **options: Any) -> int:
    """Run ``count`` tasks in as many threads; return how many ran at the same time."""
    path = f"{__name__}.CountingProvider"
    settings.GENERATION_PROVIDERS = {"image_generation": {"provider": path, "options": options}}
    CountingProvider.most = CountingProvider.begun = 0
    for _ in range(count):
        submit()

    def work() -> None:
        try:
            run.run_next("image_generation")
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    return CountingProvider.most


def test_local_renders_never_exceed_the_slots(settings: Any) -> None:
    """More threads than slots render at most RENDER_SLOTS at once."""
    slots = settings.RENDER_SLOTS
    assert run_at_once(settings, slots + 2, seconds=1.0) == slots


def test_remote_provider_needs_no_slot(settings: Any) -> None:
    """Waiting for a remote provider takes no render seat."""
    count = settings.RENDER_SLOTS + 2
    assert run_at_once(settings, count, is_local=False, seconds=1.5) == count


class StoreWhileOthersRender(FileSystemStorage):
    """Store a file only after another render has begun."""

    def _save(self, name: str, content: Any) -> str:
        wait_until(lambda: CountingProvider.begun >= 2, timeout=30, message="another render began")
        return super()._save(name, content)


def test_a_seat_is_free_as_soon_as_the_render_is_done(
    settings: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one seat the next render begins while the files of the last are being stored."""
    monkeypatch.setattr(seats, "SEAT_SECONDS", 30)  # no ticket is turned away, however slow
    backend = f"{__name__}.StoreWhileOthersRender"
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {"BACKEND": backend, "OPTIONS": {"location": tmp_path}},
    }
    taken = [seats.slots.acquire(blocking=False) for _ in range(settings.RENDER_SLOTS - 1)]
    try:
        assert run_at_once(settings, 2) == 1
    finally:
        for _ in taken:
            seats.slots.release()
    assert Task.objects.filter(status="completed").count() == 2


def test_a_ticket_waits_a_moment_for_a_seat(settings: Any) -> None:
    """A seat that becomes free just after the ticket came is used by it."""
    use(settings)
    task = submit()
    for _ in range(settings.RENDER_SLOTS):
        assert seats.slots.acquire(blocking=False)
    leaving = threading.Timer(seats.SEAT_SECONDS / 5, seats.slots.release)
    leaving.start()
    try:
        run.run_next("image_generation")
    finally:
        leaving.join()
        for _ in range(settings.RENDER_SLOTS - 1):
            seats.slots.release()
    task.refresh_from_db()
    assert task.status == "completed"


@pytest.mark.parametrize(
    "provider",
    ["tests.support.providers.StillProvider", "tasks_app.providers.previz.provider.PrevizProvider"],
)
def test_no_slot_is_a_no_op(settings: Any, provider: str) -> None:
    """With every render seat taken a ticket does nothing and the task stays queued."""
    settings.GENERATION_PROVIDERS = {"image_generation": provider}
    task = submit()
    taken = [seats.slots.acquire(blocking=False) for _ in range(settings.RENDER_SLOTS)]
    try:
        assert all(taken)
        run.run_next("image_generation")
    finally:
        for _ in taken:
            seats.slots.release()
    task.refresh_from_db()
    assert task.status == "queued"


def test_heartbeat_keeps_a_task_that_lasts_longer_than_its_lease(settings: Any) -> None:
    """While the worker lives the sweep does not requeue its task, however long it runs."""
    import threading

    from django.db import connections

    settings.TASK_LEASE_SECONDS = 0.6
    use(settings, seconds=1.5)
    task = submit()

    def work() -> None:
        try:
            run.run_next("image_generation")
        finally:
            connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    taken = 0
    while thread.is_alive():
        taken += lifecycle.take_expired_leases()
        thread.join(0.05)
    task.refresh_from_db()
    assert (taken, task.status, task.lost_count) == (0, "completed", 0)
