"""Do tasks change state only in allowed ways, with their webhooks in the same transaction?"""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest
import structlog
from django.db import connection, connections

from tasks_app import events
from tasks_app.models import Task
from tasks_app.state import lifecycle
from tasks_app.state.idempotency import IdempotencyConflict
from tasks_app.state.submit import NotRetryable, Submit, retry
from tasks_app.state.submit import submit as submit_task
from tasks_app.upkeep import sweep
from webhooks_app.models import WebhookEvent, WebhookMessage

pytestmark = pytest.mark.django_db(transaction=True)

CALLBACK = "http://127.0.0.1:9/hook"


def submit(project_id: str = "p", **fields: Any) -> Task:
    """Submit an image task."""
    fields.setdefault("callback_url", CALLBACK)
    request = Submit(
        project_id=project_id, task_type="image_generation", task_data={"prompt": "x"}, **fields
    )
    return submit_task(request).task


def claim() -> Task:
    """Claim the best image task."""
    task = lifecycle.claim_next("image_generation")
    assert task is not None
    return task


def expire_lease(task: Task) -> None:
    """Make a task's lease expire now."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE tasks_app_task SET lease_expires_at = now() - interval '1 s' WHERE id = %s",
            [task.id],
        )


def terminal_body(task: Task) -> dict[str, Any]:
    """Return the JSON of the task's terminal event."""
    event = WebhookEvent.objects.get(subject=str(task.id), is_terminal=True)
    return orjson.loads(bytes(event.body))


def test_submit_answers_what_the_contract_names() -> None:
    """The 201 body carries the contract's keys, and positions count the queue."""
    first = submit_task(Submit("p", "image_generation", {"prompt": "x"})).response
    second = submit_task(Submit("p", "image_generation", {"prompt": "x"})).response
    assert list(first) == [
        *("task_id", "project_id", "task_type", "status", "priority"),
        *("queue_position", "estimated_duration", "created_at"),
    ]
    assert (first["queue_position"], second["queue_position"]) == (1, 2)
    assert first["status"] == "queued"
    assert first["priority"] == "normal"


def test_claim_prefers_idle_projects_then_priority_then_age() -> None:
    """A project with nothing running goes before one with work running, then priority decides."""
    for _ in range(3):
        submit("busy")
    late_high = submit("busy", priority=1)
    other = submit("other", priority=3)
    assert claim().id == late_high.id
    assert claim().id == other.id


def test_line_of_a_start_names_the_request_of_its_task(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whichever request's ticket came first, a task's log lines have its own request id."""
    task = submit(request_id="its-own")
    with structlog.contextvars.bound_contextvars(request_id="of-the-ticket"):
        claim()
    (line,) = [one for one in capsys.readouterr().err.splitlines() if "Task started" in one]
    assert f"Task started task_id={task.id} request_id=its-own" in line


def test_one_seat_is_shared_by_turns() -> None:
    """If nothing runs, a project's long queue of older tasks does not delay other projects."""
    for _ in range(5):
        submit("crowded", priority=1)
    lifecycle.complete(claim(), {}, [])
    submit("quiet")
    submit("quiet")
    order = []
    for _ in range(4):
        task = claim()
        order.append(task.project_id)
        lifecycle.complete(task, {}, [])
    assert order == ["quiet", "crowded", "quiet", "crowded"]


def test_completion_writes_result_event_and_message_together() -> None:
    """A completed task has exactly one terminal event and one message to its callback."""
    submit(metadata='{"b":1.0,"a":[1e2]}')
    result = {"fps": 24.0, "payload_media_id": "i", "media_url": "u"}
    task = lifecycle.complete(claim(), result, [])
    assert (task.status, task.run_token) == ("completed", None)
    message = WebhookMessage.objects.get()
    assert (message.url, message.status) == (CALLBACK, "pending")
    body = bytes(WebhookEvent.objects.get().body)
    assert b'"result":{"media_url":"u","payload_media_id":"i","fps":24.0}' in body
    assert body.endswith(b'"metadata":{"b":1.0,"a":[1e2]}}')
    assert list(orjson.loads(body))[:6] == [
        *("task_id", "project_id", "status", "result", "processing_time", "completed_at")
    ]


def test_failure_payload_has_the_contract_keys_and_no_secret() -> None:
    """A failed task has our own sentence, its code and our frames."""
    submit()
    lifecycle.fail(claim(), "render_failed", "Traceback (most recent call last):\nX")
    body = terminal_body(Task.objects.get())
    assert list(body)[:6] == ["task_id", "project_id", "status", "error", "traceback", "failed_at"]
    assert body["error_code"] == "render_failed"
    assert body["error"].startswith("Task execution failed")


def test_fenced_out_worker_writes_nothing() -> None:
    """A worker whose lease was taken can neither complete, fail nor report progress."""
    submit()
    old = claim()
    expire_lease(old)
    assert lifecycle.take_expired_leases() == 1
    new = claim()
    for write in (
        lambda: lifecycle.complete(old, {}, []),
        lambda: lifecycle.fail(old, "render_failed"),
        lambda: lifecycle.progress(old, 0.5, "step", is_event_due=False),
        lambda: lifecycle.retry_later(old, "render_failed", 1),
    ):
        with pytest.raises(lifecycle.LostClaim):
            write()
    assert not lifecycle.extend_lease(old)
    lifecycle.complete(new, {}, [])
    assert WebhookEvent.objects.count() == 1
    assert Task.objects.get().lost_count == 1


def test_task_that_loses_too_many_workers_fails(settings: Any) -> None:
    """Past the limit of lost workers the task fails with worker_lost and says so by webhook."""
    settings.TASK_LOST_LIMIT = 2
    submit()
    for _ in range(3):
        expire_lease(claim())
        lifecycle.take_expired_leases()
    task = Task.objects.get()
    assert (task.status, task.error_code) == ("failed", "worker_lost")
    assert terminal_body(task)["traceback"] == ""


def test_retry_later_waits_and_counts() -> None:
    """A retryable failure is requeued, is not due at once, and publishes nothing."""
    submit()
    lifecycle.retry_later(claim(), "render_failed", 30)
    assert lifecycle.claim_next("image_generation") is None
    task = Task.objects.get()
    assert (task.status, task.attempts) == ("queued", 1)
    assert not WebhookEvent.objects.exists()


def test_hand_back_counts_nothing() -> None:
    """A worker that shuts down requeues its task at once, without counting an attempt."""
    submit()
    lifecycle.hand_back(claim())
    task = Task.objects.get()
    assert (task.status, task.attempts, task.lost_count) == ("queued", 0, 0)
    assert claim().id == task.id


def test_cancel_is_final_and_tells_once() -> None:
    """Cancel ends a running task with one event; the worker is fenced out; again is refused."""
    submit()
    running = claim()
    lifecycle.cancel(running.id)
    assert not lifecycle.is_ours(running)
    with pytest.raises(lifecycle.AlreadyEnded):
        lifecycle.cancel(running.id)
    assert list(terminal_body(running))[:4] == ["task_id", "project_id", "status", "cancelled_at"]


def test_cancel_races_completion_with_one_winner() -> None:
    """The first update wins; there is one terminal event per task."""

    def race(task: Task) -> None:
        barrier = threading.Barrier(2)

        def run(act: Any) -> None:
            barrier.wait()
            try:
                act()
            except (lifecycle.LostClaim, lifecycle.AlreadyEnded):
                pass
            finally:
                connections.close_all()

        acts = [lambda: lifecycle.cancel(task.id), lambda: lifecycle.complete(task, {}, [])]
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(run, acts))

    for _ in range(20):
        submit()
        race(claim())
    assert WebhookEvent.objects.filter(is_terminal=True).count() == 20
    assert Task.objects.filter(status__in=["completed", "cancelled"]).count() == 20


def test_only_wanted_events_are_published_and_progress_is_coalesced() -> None:
    """Started and progress events are sent if asked for; a newer one supersedes a pending one."""
    submit(webhook_events=["task.completed", "task.started", "task.progress"])
    task = claim()
    lifecycle.progress(task, 0.3, "drawing", is_event_due=True)
    lifecycle.progress(task, 0.4, "drawing", is_event_due=False)
    lifecycle.progress(task, 0.6, "drawing", is_event_due=True)
    lifecycle.complete(task, {}, [])
    found = WebhookMessage.objects.order_by("id").values_list("event__event_type", "status")
    assert list(found) == [
        (events.STARTED, "pending"),
        (events.PROGRESS, "superseded"),
        (events.PROGRESS, "superseded"),
        (events.COMPLETED, "pending"),
    ]
    sequences = WebhookEvent.objects.order_by("id").values_list("sequence", flat=True)
    assert list(sequences) == [1, 2, 3, 4]


def test_progress_never_falls_within_a_run() -> None:
    """Whoever knows less of the work than what was stored before takes nothing back."""
    submit()
    task = claim()
    for fraction, stored in ((0.6, 0.6), (0.05, 0.6), (0.7, 0.7)):
        lifecycle.progress(task, fraction, "drawing", is_event_due=False)
        task.refresh_from_db()
        assert task.progress == stored


def test_terminal_event_exists_without_anyone_to_tell() -> None:
    """A task without a callback still leaves its event for the pull feed."""
    submit(callback_url="")
    lifecycle.complete(claim(), {}, [])
    assert WebhookEvent.objects.get().is_terminal
    assert not WebhookMessage.objects.exists()


def test_idempotency_key_holds_under_concurrency() -> None:
    """Fifty submits at once with one key make one task."""

    def one(_: int) -> uuid.UUID:
        try:
            return submit(idempotency_key="k", fingerprint="f").id
        finally:
            connections.close_all()

    with ThreadPoolExecutor(10) as pool:
        ids = set(pool.map(one, range(50)))
    assert len(ids) == Task.objects.count() == 1
    with pytest.raises(IdempotencyConflict):
        submit(idempotency_key="k", fingerprint="other")


def test_sweep_reports_a_terminal_task_without_its_message() -> None:
    """The invariant works: a lost message is counted."""
    submit()
    lifecycle.complete(claim(), {}, [])
    assert sweep.report_missing_messages() == 0
    WebhookMessage.objects.all().delete()
    assert sweep.report_missing_messages() == 1


def test_sweep_fails_a_task_that_outlives_its_deadline() -> None:
    """A task past its deadline is failed as timed_out, even if its worker ignores that."""
    submit(timeout_seconds=1)
    task = claim()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE tasks_app_task SET deadline = now() - interval '5 minutes'")
    assert lifecycle.fail_overdue() == 1
    task.refresh_from_db()
    assert (task.status, task.error_code) == ("failed", "timed_out")


def test_retry_links_a_new_task_to_the_old() -> None:
    """Retry makes a new task with the same input; a completed one is refused."""
    submit(metadata='{"a":1}')
    old = lifecycle.fail(claim(), "render_failed")
    new = retry(old).task
    assert (new.retry_of_id, new.metadata, new.callback_url) == (old.id, '{"a":1}', CALLBACK)
    done = lifecycle.complete(claim(), {}, [])
    with pytest.raises(NotRetryable):
        retry(done)
