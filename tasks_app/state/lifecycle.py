"""How does a task change its state? Every change is here, and only here.

Each change is one conditional UPDATE from a known state, with ``run_token`` as fencing token where
a worker writes. A terminal state and its webhook messages are written in one transaction. Only the
database's clock is used. How a task begins is in `submit`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any

import orjson
import structlog
from django.conf import settings
from django.db import transaction

from tasks_app import events, failures, metrics, providers
from tasks_app.failures import TRACEBACK_LIMIT
from tasks_app.models import WAITS_FOR_INPUTS, MediaFile, Task
from tasks_app.providers.base import Provider, ProviderError
from tasks_app.state import costs, projects, remote_jobs, statements
from tasks_app.task_types import TASK_TYPES
from webhooks_app import outbox, traces
from webhooks_app.crash_points import faultpoint

logger = structlog.get_logger(__name__)

#: Failures after which another provider may do better.
FALLBACK_CODES = ("provider_unavailable", "provider_auth")


class AlreadyEnded(Exception):
    """The task is in a terminal state."""

    def __init__(self, task: Task) -> None:
        super().__init__(f"The task is already {task.status}.")
        self.task = task


class LostClaim(Exception):
    """This worker has lost the task: it was cancelled, or given to another worker."""


def cancel(task_id: uuid.UUID | str) -> Task:
    """Cancel a queued or running task. Of two concurrent changes the first UPDATE wins.

    Raises:
        Task.DoesNotExist: there is no such task.
        AlreadyEnded: the task has ended.
    """
    with transaction.atomic():
        task = statements.update_returning(
            "status = 'cancelled', finished_at = now(), run_token = NULL, lease_expires_at = NULL,"
            " event_sequence = event_sequence + 1, version = version + 1",
            "id = %s AND status IN ('queued', 'processing')",
            [task_id],
        )
        if task is not None:
            if task.remote_provider:
                remote_jobs.owe_stop(task.id, "cancelled")
            _publish(task, events.CANCELLED)
            faultpoint("cancel.before_commit")
    if task is None:
        raise AlreadyEnded(Task.objects.get(pk=task_id))
    metrics.task_ended(task)
    faultpoint("cancel.after_commit")
    logger.info("Task cancelled", **_ids(task))
    return task


# -- the worker's side ----------------------------------------------------------------


def claim_next(task_type: str, *, is_begun: bool = True) -> Task | None:
    """Claim the best queued task of a type, with a new token and lease.

    Best: of the project with the fewest running tasks, then by priority, then by age.

    Args:
        is_begun: its work begins at once; else `tell_started` says so when it does.
    """
    token = uuid.uuid4()
    with transaction.atomic():
        task = statements.claim(task_type, token, settings.TASK_LEASE_SECONDS)
        if task is not None and is_begun:
            task = tell_started(task)
        if task is not None:
            faultpoint("claim.before_commit")
    if task is not None:
        faultpoint("claim.after_commit")
        metrics.task_started(task)
        # The task's own ids: the ticket may belong to another request.
        ids = {**_ids(task), "request_id": task.request_id}
        logger.info("Task started", **ids, task_type=task_type)
    return task


def tell_started(task: Task) -> Task:
    """Publish that a task's work begins, if anybody wants to know; in the claim's transaction."""
    if _is_wanted(task, events.STARTED):
        task = statements.next_sequence(task)
        _publish(task, events.STARTED)
    return task


def begin_here(task: Task) -> Task:
    """Tell that a claimed task's work begins on this machine, where that was not known before.

    Raises:
        LostClaim: this worker has lost the task.
    """
    with transaction.atomic():
        ours = Task.objects.select_for_update().filter(pk=task.pk, run_token=task.run_token)
        if not ours.exists():
            raise LostClaim
        return tell_started(task)


def extend_lease(task: Task) -> bool:
    """Extend the task's lease; False when this worker has lost the task."""
    return statements.update_fenced(
        task,
        "lease_expires_at = now() + make_interval(secs => %s)",
        [settings.TASK_LEASE_SECONDS],
    )


def is_ours(task: Task) -> bool:
    """Say whether this worker still has the task."""
    return Task.objects.filter(pk=task.pk, run_token=task.run_token).exists()


def has_ended(task: Task) -> bool:
    """Say whether the task is in a terminal state, whoever ended it."""
    return Task.objects.filter(pk=task.pk, finished_at__isnull=False).exists()


def progress(task: Task, fraction: float, step: str, *, is_event_due: bool) -> None:
    """Store the progress, which never falls, and publish it if the interval has passed.

    Raises:
        LostClaim: this worker has lost the task.
    """
    with transaction.atomic():
        is_wanted = is_event_due and _is_wanted(task, events.PROGRESS)
        updated = statements.update_returning(
            "progress = greatest(progress, %s), current_step = %s, version = version + 1,"
            " event_sequence = event_sequence + %s",
            statements.OURS,
            [fraction, step[:200], int(is_wanted), task.id, task.run_token],
        )
        if updated is None:
            raise LostClaim
        if is_wanted:
            _publish(updated, events.PROGRESS)
        faultpoint("progress.before_commit")


def complete(task: Task, result: dict[str, Any], files: Sequence[MediaFile]) -> Task:
    """End a task as completed: result, files, event and messages in one transaction.

    Raises:
        LostClaim: this worker has lost the task; nothing was written.
    """

    if task.fallback_from:
        result = {**result, "fallback_from": task.fallback_from}
    if task.traceparent:
        result = {**result, "traceparent": task.traceparent}

    def store_it(job_id: uuid.UUID | None) -> None:
        MediaFile.objects.bulk_create(files)
        costs.book_result(task, result, job_id)

    return _finish(
        task,
        "status = 'completed', progress = 1, current_step = '', error_code = '',"
        " result = %s::jsonb",
        [orjson.dumps(result).decode()],
        events.COMPLETED,
        before_publish=store_it,
    )


def fail(task: Task, error_code: str, traceback: str = "", told: str = "") -> Task:
    """End a task as failed.

    Args:
        told: what clients are told beside the code's sentence.

    Raises:
        LostClaim: this worker has lost the task; nothing was written.
    """
    return _finish(
        task,
        "status = 'failed', error_code = %s, error = %s, traceback = %s, attempts = attempts + 1",
        [error_code, _sentence(error_code, told), traceback[:TRACEBACK_LIMIT]],
        events.FAILED,
    )


def _sentence(error_code: str, told: str) -> str:
    return f"{failures.error_code(error_code).sentence} {told}".rstrip()


def _finish(
    task: Task,
    assignments: str,
    values: list[Any],
    event_type: str,
    *,
    before_publish: Callable[[uuid.UUID | None], object] | None = None,
) -> Task:
    with transaction.atomic():
        finished = statements.update_returning(
            assignments + ", finished_at = now(), run_token = NULL, lease_expires_at = NULL,"
            " event_sequence = event_sequence + 1, version = version + 1",
            statements.OURS,
            [*values, task.id, task.run_token],
        )
        if finished is None:
            raise LostClaim
        job_id = None
        if finished.remote_provider and finished.status == "completed":
            job_id = remote_jobs.complete(task.id)
        elif finished.remote_provider:
            remote_jobs.owe_stop(task.id, finished.error_code)
        if before_publish:
            before_publish(job_id)
        faultpoint("finish.before_publish")
        _publish(finished, event_type)
        faultpoint("finish.before_commit")
    faultpoint("finish.after_commit")
    metrics.task_ended(finished)
    logger.info("Task ended", **_ids(finished), status=finished.status)
    return finished


def fail_waiting(task_id: uuid.UUID, error_code: str) -> None:
    """End a task that waits for its inputs; does nothing if it does not wait any more."""
    _fail_queued(task_id, error_code, "", "available_at >= %s", [WAITS_FOR_INPUTS])


def fail_stranded(task_id: uuid.UUID, told: str) -> None:
    """End a queued task that nobody can begin, if its time is over."""
    _fail_queued(task_id, "provider_unavailable", told, statements.TIME_IS_OVER, [])


def _fail_queued(
    task_id: uuid.UUID, error_code: str, told: str, condition: str, values: list[Any]
) -> None:
    with transaction.atomic():
        failed = statements.update_returning(
            "status = 'failed', error_code = %s, error = %s, current_step = '',"
            " finished_at = now(), event_sequence = event_sequence + 1, version = version + 1",
            f"id = %s AND status = 'queued' AND {condition}",
            [error_code, _sentence(error_code, told), task_id, *values],
        )
        if failed is not None:
            _publish(failed, events.FAILED)
    if failed is not None:
        metrics.task_ended(failed)
        logger.info("Task ended", **_ids(failed), status=failed.status)


def retry_later(task: Task, error_code: str, wait_seconds: float) -> None:
    """Put a task whose attempt failed back into the queue, due after ``wait_seconds``.

    Raises:
        LostClaim: this worker has lost the task.
    """
    if not statements.update_fenced(
        task,
        "status = 'queued', run_token = NULL, lease_expires_at = NULL, attempts = attempts + 1,"
        " remote_provider = '', error_code = %s, version = version + 1, progress = 0,"
        # At its deadline it is claimed to be timed out, however long a provider wants it to wait.
        " available_at = least(now() + make_interval(secs => %s),"
        "   CASE WHEN deadline IS NOT NULL THEN greatest(deadline, now()) END)",
        [error_code, wait_seconds],
    ):
        raise LostClaim
    faultpoint("retry.after_requeue")
    metrics.attempt_failed(task, error_code)
    logger.warning("Task attempt failed", **_ids(task), error_code=error_code)


def end_attempt(task: Task, error: ProviderError) -> None:
    """Try a task again later, or fail it when the error is permanent or no attempt is left.

    Raises:
        LostClaim: this worker has lost the task.
    """
    waits = settings.TASK_RETRY_WAITS
    # The next provider of a chain has all attempts.
    tried = task.attempts - sum(each["attempts"] for each in task.fallback_from)
    # The time limit of the task is final; a time-out inside the provider is not.
    if error.retryable and error.code != "timed_out" and tried < len(waits):
        retry_later(task, error.code, error.retry_after or waits[tried])
    elif following := _providers_left(task, error):
        fall_back(task, following, error.code, tried + 1)
    else:
        # The traceback is for receivers; a time-out is not an error in our code.
        is_ours = error.code != "timed_out"
        frames = (error.traceback_text or failures.own_frames(error)) if is_ours else ""
        fail(task, error.code, frames, error.told)


def _providers_left(task: Task, error: ProviderError) -> list[Provider]:
    """Return the failed provider and those after it, none where the task has to fail.

    Only what could not even begin goes on to the next: nothing is ever paid for twice.
    """
    if error.code not in FALLBACK_CODES or "provider" in task.task_data:
        return []
    left = providers.get_providers(task.task_type)[len(task.fallback_from) :]
    return left if len(left) > 1 and not remote_jobs.was_begun(task.id) else []


def fall_back(task: Task, left: Sequence[Provider], error_code: str, attempts: int) -> None:
    """Give a task to the next provider of its chain, with all attempts; its receipt will say it.

    What is reserved for it from now on is what it is expected to cost there.

    Raises:
        LostClaim: this worker has lost the task.
    """
    failed = {"provider": left[0].name, "error_code": error_code, "attempts": attempts}
    cost = costs.estimate(task.task_type, task.task_data, left[1])
    reserved = [cost.amount, cost.currency] if cost else [None, ""]
    if not statements.update_fenced(
        task,
        "status = 'queued', run_token = NULL, lease_expires_at = NULL, attempts = attempts + 1,"
        " remote_provider = '', error_code = %s, version = version + 1, progress = 0,"
        " available_at = now(), fallback_from = fallback_from || %s::jsonb,"
        " reserved_amount = %s, reserved_currency = %s",
        [error_code, orjson.dumps([failed]).decode(), *reserved],
    ):
        raise LostClaim
    metrics.attempt_failed(task, error_code)
    logger.warning("Task goes to the next provider", **_ids(task), to=left[1].name, **failed)


def hand_back(task: Task) -> None:
    """Put a task back into the queue without counting the attempt, as this worker is stopping."""
    statements.update_fenced(
        task,
        "status = 'queued', run_token = NULL, lease_expires_at = NULL, version = version + 1,"
        " progress = 0, available_at = now()",
        [],
    )
    faultpoint("handback.after_update")


def take_expired_leases() -> int:
    """Requeue the tasks of lost workers, or fail them when too many workers were lost."""
    taken = 0
    for task in statements.requeue_expired(settings.TASK_LOST_LIMIT):
        metrics.worker_lost(task)
        logger.warning("Worker lost", **_ids(task), lost_count=task.lost_count)
        taken += 1
    for task in statements.expired_for_good(settings.TASK_LOST_LIMIT):
        _fail_unless_lost(task, "worker_lost")
        taken += 1
    return taken


def fail_overdue(grace_seconds: float = 60.0) -> int:
    """End tasks whose worker is alive but did not stop them at their deadline."""
    overdue = statements.overdue(grace_seconds)
    for task in overdue:
        _fail_unless_lost(task, "timed_out")
    return len(overdue)


def _fail_unless_lost(task: Task, error_code: str) -> None:
    try:
        fail(task, error_code)
    except LostClaim:
        logger.info("Task ended by another hand", **_ids(task))


def _ids(task: Task) -> dict[str, str]:
    """Return what a log line about a task names."""
    return {"task_id": str(task.id), **traces.log_fields(task.traceparent)}


def _is_wanted(task: Task, event_type: str) -> bool:
    is_asked = bool(task.callback_url) and event_type in task.webhook_events
    return is_asked or outbox.has_subscriber(task.project_id, event_type)


def _publish(task: Task, event_type: str) -> None:
    targets = []
    if task.callback_url and event_type in task.webhook_events:
        targets.append(
            outbox.Target(task.callback_url, task.retry_policy, callback_auth=task.callback_auth)
        )
    is_terminal = event_type in events.TERMINAL_EVENTS
    outbox.publish(
        scope=task.project_id,
        subject=str(task.id),
        sequence=task.event_sequence,
        event_type=event_type,
        body=events.body(task, event_type),
        is_terminal=is_terminal,
        targets=targets,
        supersedes=events.PROGRESS if is_terminal or event_type == events.PROGRESS else "",
        request_id=task.request_id,
        traceparent=task.traceparent,
        metadata=task.metadata_values,
        default_auth=lambda: projects.auth_defaults(task),
    )


def types_due(since_seconds: float = 0.0) -> list[str]:
    """Return the task types with queued tasks that have been due for at least so long."""
    return statements.types_due(list(TASK_TYPES), since_seconds)
