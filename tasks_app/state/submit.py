"""How does a request become a stored task? One transaction, and then a hint to the workers.

A retry on request also begins here, as a new task; every other change of a task's state is in
`lifecycle`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import orjson
import structlog
from django.conf import settings
from django.db import transaction

from tasks_app import events, metrics, tickets
from tasks_app.models import WAITS_FOR_INPUTS, ApiKey, Priority, Task, TaskStatus
from tasks_app.providers.prices import Money
from tasks_app.state import costs, estimates, idempotency, remote_jobs, statements
from tasks_app.state.inputs import InputValue, bind, values_of
from tasks_app.state.quota import Quota
from tasks_app.task_types import TASK_TYPES
from webhooks_app import traces
from webhooks_app.crash_points import faultpoint
from webhooks_app.notation import rfc3339
from webhooks_app.outbox import who

logger = structlog.get_logger(__name__)
_quota = Quota()
#: The most members of metadata that a task can be found by.
MOST_FOUND_BY = 50
_deep_queues = estimates.DeepQueues()


class QueueFull(Exception):
    """The project has reached its quota of queued tasks."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"The project already has {limit} queued tasks.")
        self.limit = limit


class NotRetryable(Exception):
    """Only failed and cancelled tasks can be retried."""

    def __init__(self, task: Task) -> None:
        super().__init__(
            f"The task is {task.status}; only failed or cancelled ones can be retried."
        )
        self.task = task


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
    callback_auth: str = ""
    api_key: ApiKey | None = None
    retry_of: Task | None = None
    inputs: Sequence[InputValue] = ()
    idempotency_key: str | None = None
    fingerprint: str = ""
    request_id: str = ""
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class Submission:
    """The result of a submit: the answer's body, and whether it is a repeated answer."""

    task: Task
    response: dict[str, Any]
    is_replayed: bool = False


def submit(request: Submit) -> Submission:
    """Store the task durably; the ticket sent afterwards is only a hint.

    Raises:
        IdempotencyConflict: the key was used for another request.
        QueueFull: the project has reached its quota of queued tasks.
        BudgetExhausted: the project or the key has no budget left for it this month.
        BadInputs: one of its inputs cannot be used.
        QuotaExceeded: the project has no room for what its inputs' URLs name.
    """
    if request.idempotency_key and (earlier := _earlier(request)):
        return earlier
    project_id, limit = request.project_id, settings.QUEUE_LIMIT_PER_PROJECT
    if _quota.is_full(project_id, limit, lambda: statements.queued_count(project_id, limit)):
        raise QueueFull(limit)
    task, cost = _new_task(request), _cost(request)
    if request.idempotency_key or request.inputs or cost is not None:
        stored = _store(request, task, cost)
        if stored is None:  # another request with the same key has just committed
            return submit(request)
        response = stored
    else:  # one statement is a transaction of its own
        faultpoint("submit.before_commit")
        response = _answer(task, _insert(task), cost)
    metrics.task_submitted(task)
    told = traces.log_fields(task.traceparent)
    logger.info("Task submitted", task_id=str(task.id), task_type=task.task_type, **told)
    faultpoint("submit.after_commit")
    is_due = task.available_at < WAITS_FOR_INPUTS
    tickets.send_ticket(task.task_type if is_due else tickets.FETCH, str(task.id))
    faultpoint("submit.after_enqueue")
    return Submission(task, response)


def _store(request: Submit, task: Task, cost: Money | None) -> dict[str, Any] | None:
    """Store a task with its inputs, its key and its cost; None where another request was first."""
    with transaction.atomic():
        if cost is not None and (refused := costs.reserve(task, cost)):
            if request.idempotency_key and _earlier(request):
                return None  # this very request has taken the last of the budget
            raise refused
        response = _answer(task, _insert(task), cost)
        if request.inputs and not bind(task, request.inputs):
            statements.wait_for_inputs(task)
        is_first = not request.idempotency_key or idempotency.insert(
            _scope(request.project_id),
            request.idempotency_key,
            request.fingerprint,
            response,
            task_id=task.id,
        )
        transaction.set_rollback(not is_first)
        faultpoint("submit.before_commit")
    return response if is_first else None


def _cost(request: Submit) -> Money | None:
    """Return what the task is expected to cost; 0 where a retry gets what was paid for late."""
    cost = costs.estimate(request.task_type, request.task_data)
    if cost and request.retry_of and remote_jobs.late_files(request.retry_of.pk):
        return Money(Decimal(0), cost.currency)
    return cost


def _earlier(request: Submit) -> Submission | None:
    assert request.idempotency_key
    return taken_before(request.project_id, request.idempotency_key, request.fingerprint)


def taken_before(project_id: str, key: str, fingerprint: str) -> Submission | None:
    """Return the stored answer of the same request within IDEMPOTENCY_HOURS, None for a new one.

    Raises:
        IdempotencyConflict: the key was used for another request.
    """
    row = idempotency.earlier(_scope(project_id), key, fingerprint)
    if row is None:
        return None
    assert row.task is not None, "the scope is one of tasks"
    return Submission(row.task, row.response, is_replayed=True)


def _scope(project_id: str) -> str:
    """Return the scope within which an Idempotency-Key is unique."""
    return f"project:{project_id}"


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
        metadata_values=_found_by(request.metadata),
        callback_url=request.callback_url,
        webhook_events=list(wanted),
        retry_policy=policy,
        callback_auth=request.callback_auth,
        priority=request.priority,
        timeout_seconds=request.timeout_seconds or task_type.timeout_seconds,
        api_key=request.api_key,
        retry_of=request.retry_of,
        request_id=request.request_id,
        traceparent=request.traceparent,
    )


def _found_by(metadata: str | None) -> dict[str, str] | None:
    """Return the members of metadata that a task is found by: the short scalar ones, as text."""
    members = orjson.loads(metadata).items() if metadata else ()
    texts = {
        key: value if isinstance(value, str) else orjson.dumps(value).decode()
        for key, value in members
        if value is not None and not isinstance(value, dict | list)
    }
    short = {
        key: text for key, text in texts.items() if max(len(key), len(text)) <= who.LONGEST_METADATA
    }
    return dict(list(short.items())[:MOST_FOUND_BY]) or None


def _insert(task: Task) -> int:
    """Store the row; return its place in the queue, at most ``POSITION_LIMIT``."""
    if _deep_queues.is_deep(task):
        statements.insert(task)
        return estimates.POSITION_LIMIT
    position = statements.insert_and_rank(task, estimates.POSITION_LIMIT + estimates.DEEP_BEYOND)
    _deep_queues.note(task, position)
    return min(position, estimates.POSITION_LIMIT)


def _answer(task: Task, queue_position: int, cost: Money | None) -> dict[str, Any]:
    """Return the body of the 201."""
    told = {} if cost is None else {"estimated_cost": cost.told()}
    return {
        "task_id": str(task.id),
        "project_id": task.project_id,
        "task_type": task.task_type,
        "status": task.status,
        "priority": Priority(task.priority).label,
        "queue_position": queue_position,
        "estimated_duration": estimates.estimated_duration(task.task_type),
        **told,
        "created_at": rfc3339(task.created_at),
    }


def retry(
    task: Task,
    *,
    api_key: ApiKey | None = None,
    idempotency_key: str | None = None,
    fingerprint: str = "",
    request_id: str = "",
    traceparent: str = "",
) -> Submission:
    """Submit a new task with the same input, linked to the old one, in the trace of its request.

    Raises:
        NotRetryable: the task neither failed nor was cancelled.
        IdempotencyConflict, QueueFull, BudgetExhausted, BadInputs, QuotaExceeded: as `submit`;
            what was a URL is fetched anew.
    """
    if task.status not in (TaskStatus.FAILED, TaskStatus.CANCELLED):
        raise NotRetryable(task)
    return submit(
        Submit(
            inputs=values_of(task.task_data),
            project_id=task.project_id,
            task_type=task.task_type,
            task_data=task.task_data,
            callback_url=task.callback_url,
            metadata=task.metadata,
            priority=task.priority,
            timeout_seconds=task.timeout_seconds,
            webhook_events=task.webhook_events,
            retry_policy=task.retry_policy,
            callback_auth=task.callback_auth,
            api_key=api_key,
            retry_of=task,
            idempotency_key=idempotency_key,
            fingerprint=fingerprint,
            request_id=request_id,
            traceparent=traceparent,
        )
    )
