"""How does a task change its state? Every change is here, and only here.

Each is one conditional UPDATE from a known state, fenced by ``run_token`` where a worker
writes; a terminal state and the webhooks it owes are one transaction. The database's
clock is the only clock.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import structlog
from django.conf import settings
from django.db import transaction

from tasks_app import estimates, events, failures, metrics, rows, wake
from tasks_app.models import ApiKey, IdempotencyKey, MediaFile, Priority, Task, TaskStatus
from tasks_app.task_types import TASK_TYPES
from webhooks_app import outbox
from webhooks_app.faults import faultpoint

logger = structlog.get_logger(__name__)


class IdempotencyConflict(Exception):
    """The Idempotency-Key was used before, for another request."""


class QueueFull(Exception):
    """The project has as many queued tasks as it may have."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"The project already has {limit} queued tasks.")
        self.limit = limit


class AlreadyEnded(Exception):
    """The task is in a terminal state."""

    def __init__(self, task: Task) -> None:
        super().__init__(f"The task is already {task.status}.")
        self.task = task


class NotRetryable(Exception):
    """Only failed and cancelled tasks can be retried."""

    def __init__(self, task: Task) -> None:
        super().__init__(
            f"The task is {task.status}; only failed or cancelled ones can be retried."
        )
        self.task = task


class LostClaim(Exception):
    """The task is no longer ours: cancelled, or given to another worker."""


@dataclass(frozen=True, slots=True)
class Submit:
    """A validated request for one task. ``metadata`` is JSON text exactly as sent."""

    project_id: str
    task_type: str
    task_data: dict[str, Any]
    callback_url: str = ""
    metadata: str | None = None
    priority: int = Priority.NORMAL
    timeout_seconds: int | None = None
    webhook_events: Sequence[str] | None = None
    retry_policy: str | Sequence[float] | None = None
    api_key: ApiKey | None = None
    retry_of: Task | None = None
    idempotency_key: str | None = None
    fingerprint: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Submission:
    """What became of a submit: the task, the answer's body, and whether it is a repeat."""

    task: Task
    response: dict[str, Any]
    is_replayed: bool = False


def submit(request: Submit) -> Submission:
    """Store the task, durably; the ticket that follows is only a hint.

    Raises:
        IdempotencyConflict: the key stands for another request.
        QueueFull: the project's quota of queued tasks is used up.
    """
    if request.idempotency_key and (earlier := _earlier(request)):
        return earlier
    task = _new_task(request)
    try:
        with transaction.atomic():
            rows.lock_quota(task.project_id, settings.QUEUE_LIMIT_PER_PROJECT, QueueFull)
            rows.insert(task)
            response = submission_answer(task)
            if request.idempotency_key:
                _remember(request, task, response)
            faultpoint("submit.before_commit")
    except _RepeatedKey:
        repeat = _earlier(request)
        if repeat is None:
            raise
        return repeat
    metrics.task_submitted(task)
    logger.info("Task submitted", task_id=str(task.id), task_type=task.task_type)
    faultpoint("submit.after_commit")
    wake.send_ticket(task.task_type, str(task.id))
    faultpoint("submit.after_enqueue")
    return Submission(task, response)


def submission_answer(task: Task) -> dict[str, Any]:
    """Return the body of the 201."""
    return {
        "task_id": str(task.id),
        "project_id": task.project_id,
        "task_type": task.task_type,
        "status": task.status,
        "priority": Priority(task.priority).label,
        "queue_position": estimates.queue_position(task),
        "estimated_duration": estimates.estimated_duration(task.task_type),
        "created_at": task.created_at.isoformat().replace("+00:00", "Z"),
    }


class _RepeatedKey(Exception):
    """Another request with the same Idempotency-Key was committed first."""


def _scope(request: Submit) -> str:
    return f"project:{request.project_id}"


def _earlier(request: Submit) -> Submission | None:
    row = (
        IdempotencyKey.objects.select_related("task")
        .filter(scope=_scope(request), key=request.idempotency_key)
        .extra(where=["tasks_app_idempotencykey.created_at > now() - interval '24 hours'"])
        .first()
    )
    if row is None:
        return None
    if row.fingerprint != request.fingerprint:
        raise IdempotencyConflict
    return Submission(row.task, row.response, is_replayed=True)


def _remember(request: Submit, task: Task, response: dict[str, Any]) -> None:
    if not rows.insert_idempotency_key(
        _scope(request), request.idempotency_key or "", request.fingerprint, task.id, response
    ):
        raise _RepeatedKey


def _new_task(request: Submit) -> Task:
    task_type = TASK_TYPES[request.task_type]
    wanted = events.TERMINAL_EVENTS if request.webhook_events is None else request.webhook_events
    policy = request.retry_policy
    if policy is None and request.api_key is not None:
        policy = request.api_key.retry_policy
    return Task(
        project_id=request.project_id,
        task_type=request.task_type,
        task_data=request.task_data,
        metadata=request.metadata,
        callback_url=request.callback_url,
        webhook_events=list(wanted),
        retry_policy=policy,
        priority=request.priority,
        timeout_seconds=request.timeout_seconds or task_type.timeout_seconds,
        api_key=request.api_key,
        retry_of=request.retry_of,
        request_id=request.request_id,
    )


def retry(task: Task, *, api_key: ApiKey | None = None, request_id: str = "") -> Submission:
    """Submit a new task with the same input, linked to the old one.

    Raises:
        NotRetryable: unless the task failed or was cancelled.
    """
    if task.status not in (TaskStatus.FAILED, TaskStatus.CANCELLED):
        raise NotRetryable(task)
    return submit(
        Submit(
            project_id=task.project_id,
            task_type=task.task_type,
            task_data=task.task_data,
            callback_url=task.callback_url,
            metadata=task.metadata,
            priority=task.priority,
            timeout_seconds=task.timeout_seconds,
            webhook_events=task.webhook_events,
            retry_policy=task.retry_policy,
            api_key=api_key,
            retry_of=task,
            request_id=request_id,
        )
    )


def cancel(task_id: uuid.UUID | str) -> Task:
    """Cancel a queued or running task; whoever's conditional update hits the row wins.

    Raises:
        Task.DoesNotExist: there is no such task.
        AlreadyEnded: it had ended before.
    """
    with transaction.atomic():
        task = rows.update_returning(
            "status = 'cancelled', finished_at = now(), run_token = NULL, lease_expires_at = NULL,"
            " event_sequence = event_sequence + 1, version = version + 1",
            "id = %s AND status IN ('queued', 'processing')",
            [task_id],
        )
        if task is not None:
            _publish(task, events.CANCELLED)
            faultpoint("cancel.before_commit")
    if task is None:
        raise AlreadyEnded(Task.objects.get(pk=task_id))
    metrics.task_ended(task)
    faultpoint("cancel.after_commit")
    logger.info("Task cancelled", task_id=str(task.id))
    return task


# -- the worker's side ----------------------------------------------------------------


def claim_next(task_type: str) -> Task | None:
    """Take the best queued task of a type under a fresh token and lease.

    Best: of the project with the fewest running, then by priority, then by age.
    """
    token = uuid.uuid4()
    with transaction.atomic():
        task = rows.claim(task_type, token, settings.TASK_LEASE_SECONDS)
        if task is not None and _is_wanted(task, events.STARTED):
            task = rows.next_sequence(task)
            _publish(task, events.STARTED)
        if task is not None:
            faultpoint("claim.before_commit")
    if task is not None:
        faultpoint("claim.after_commit")
        metrics.task_started(task)
        logger.info("Task started", task_id=str(task.id), task_type=task_type)
    return task


def extend_lease(task: Task) -> bool:
    """Push the lease's end away; False means the task is not ours any more."""
    return rows.update_fenced(
        task,
        "lease_expires_at = now() + make_interval(secs => %s)",
        [settings.TASK_LEASE_SECONDS],
    )


def is_ours(task: Task) -> bool:
    """Tell whether the claim still stands."""
    return Task.objects.filter(pk=task.pk, run_token=task.run_token).exists()


def progress(task: Task, fraction: float, step: str, *, is_event_due: bool) -> None:
    """Store how far the work is, and tell subscribers when it is time to.

    Raises:
        LostClaim: the task is not ours any more.
    """
    with transaction.atomic():
        is_wanted = is_event_due and _is_wanted(task, events.PROGRESS)
        updated = rows.update_returning(
            "progress = %s, current_step = %s, version = version + 1,"
            " event_sequence = event_sequence + %s",
            "id = %s AND run_token = %s",
            [fraction, step[:200], int(is_wanted), task.id, task.run_token],
        )
        if updated is None:
            raise LostClaim
        if is_wanted:
            outbox.supersede(str(task.id), events.PROGRESS)
            _publish(updated, events.PROGRESS)
        faultpoint("progress.before_commit")


def save_remote(task: Task, state: dict[str, Any]) -> None:
    """Make a provider's state durable before it is used.

    Raises:
        LostClaim: the task is not ours any more.
    """
    if not rows.update_fenced(task, "remote_state = %s::jsonb", [orjson.dumps(state).decode()]):
        raise LostClaim


def complete(task: Task, result: dict[str, Any], files: Sequence[MediaFile]) -> Task:
    """End a task well: result, files, event and messages in one transaction.

    Raises:
        LostClaim: the task is not ours any more; nothing was written.
    """
    return _finish(
        task,
        "status = 'completed', progress = 1, current_step = '', result = %s::jsonb",
        [orjson.dumps(result).decode()],
        events.COMPLETED,
        before_publish=lambda: MediaFile.objects.bulk_create(files),
    )


def fail(task: Task, error_code: str, traceback: str = "") -> Task:
    """End a task badly, for good.

    Raises:
        LostClaim: the task is not ours any more; nothing was written.
    """
    return _finish(
        task,
        "status = 'failed', error_code = %s, error = %s, traceback = %s, attempts = attempts + 1",
        [error_code, failures.sentence(error_code), traceback[: failures.TRACEBACK_LIMIT]],
        events.FAILED,
    )


def _finish(
    task: Task,
    assignments: str,
    values: list[Any],
    event_type: str,
    *,
    before_publish: Callable[[], object] | None = None,
) -> Task:
    with transaction.atomic():
        finished = rows.update_returning(
            assignments + ", finished_at = now(), run_token = NULL, lease_expires_at = NULL,"
            " event_sequence = event_sequence + 1, version = version + 1",
            "id = %s AND run_token = %s",
            [*values, task.id, task.run_token],
        )
        if finished is None:
            raise LostClaim
        if before_publish:
            before_publish()
        _publish(finished, event_type)
        faultpoint("finish.before_commit")
    faultpoint("finish.after_commit")
    metrics.task_ended(finished)
    logger.info("Task ended", task_id=str(task.id), status=finished.status)
    return finished


def retry_later(task: Task, error_code: str, wait_seconds: float) -> None:
    """Put a task whose attempt failed back into the queue, due after ``wait_seconds``.

    Raises:
        LostClaim: the task is not ours any more.
    """
    if not rows.update_fenced(
        task,
        "status = 'queued', run_token = NULL, lease_expires_at = NULL, attempts = attempts + 1,"
        " error_code = %s, version = version + 1, progress = 0,"
        " available_at = now() + make_interval(secs => %s)",
        [error_code, wait_seconds],
    ):
        raise LostClaim
    faultpoint("retry.after_requeue")
    metrics.attempt_failed(task, error_code)
    logger.warning("Task attempt failed", task_id=str(task.id), error_code=error_code)


def hand_back(task: Task) -> None:
    """Put a task back at once with nothing counted, since this worker is shutting down."""
    rows.update_fenced(
        task,
        "status = 'queued', run_token = NULL, lease_expires_at = NULL, version = version + 1,"
        " progress = 0, available_at = now()",
        [],
    )
    faultpoint("handback.after_update")


def take_expired_leases() -> int:
    """Give tasks of lost workers back to the queue, or fail them when too many were lost."""
    taken = 0
    for task in rows.requeue_expired(settings.TASK_LOST_LIMIT):
        metrics.worker_lost(task)
        logger.warning("Worker lost", task_id=str(task.id), lost_count=task.lost_count)
        taken += 1
    for task in rows.expired_for_good(settings.TASK_LOST_LIMIT):
        _fail_unless_lost(task, "worker_lost")
        taken += 1
    return taken


def fail_overdue(grace_seconds: float = 60.0) -> int:
    """End tasks whose worker lives but did not stop them at their deadline."""
    overdue = rows.overdue(grace_seconds)
    for task in overdue:
        _fail_unless_lost(task, "timed_out")
    return len(overdue)


def _fail_unless_lost(task: Task, error_code: str) -> None:
    try:
        fail(task, error_code)
    except LostClaim:
        logger.info("Task ended by another hand", task_id=str(task.id))


def _is_wanted(task: Task, event_type: str) -> bool:
    is_asked = bool(task.callback_url) and event_type in task.webhook_events
    return is_asked or outbox.has_subscriber(task.project_id, event_type)


def _publish(task: Task, event_type: str) -> None:
    targets = []
    if task.callback_url and event_type in task.webhook_events:
        targets.append(outbox.Target(task.callback_url, task.retry_policy))
    is_terminal = event_type in events.TERMINAL_EVENTS
    if is_terminal:
        outbox.supersede(str(task.id), events.PROGRESS)
    outbox.publish(
        scope=task.project_id,
        subject=str(task.id),
        sequence=task.event_sequence,
        event_type=event_type,
        body=events.body(task, event_type),
        is_terminal=is_terminal,
        targets=targets,
        request_id=task.request_id,
    )


def types_due() -> list[str]:
    """Return the task types that have something due in the queue."""
    return [name for name in TASK_TYPES if rows.due_count(name, 1)]
