"""How is a task shown to a client? There is one way, of which lists and streams show a part."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson

from tasks_app import events
from tasks_app.models import WAITS_FOR_INPUTS, Priority, Task, TaskStatus
from tasks_app.state import estimates, find
from webhooks_app.notation import rfc3339

#: What a stream of progress shows of a task.
_SNAPSHOT = (
    "task_id",
    "status",
    "progress",
    "current_step",
    "started_at",
    "finished_at",
    "result",
    "error",
    "error_code",
)


def one_task(task: Task) -> dict[str, Any]:
    """Return the body for one task, with values that are too expensive for a list."""
    is_queued = task.status == TaskStatus.QUEUED
    retries = task.retries.order_by("created_at").values_list("id", flat=True)
    return {
        **many_tasks([task])[0],
        "queue_position": estimates.queue_position(task) if is_queued else None,
        "estimated_duration": estimates.estimated_duration(task.task_type),
        "retried_by": [str(task_id) for task_id in retries],
    }


def many_tasks(tasks: Sequence[Task]) -> list[dict[str, Any]]:
    """Return the tasks of a list; one query for the webhooks of all."""
    webhooks = find.webhooks_of(tasks)
    return [{**_members(task), "webhooks": webhooks[str(task.id)]} for task in tasks]


def snapshot(task: Task) -> dict[str, Any]:
    """Return the part of a task that its stream of events shows."""
    members = _members(task)
    return {name: members[name] for name in _SNAPSHOT}


def _members(task: Task) -> dict[str, Any]:
    """Return a task as clients see it, but for what other tables say of it."""
    ended = {
        f"{status}_at": _moment(task.finished_at) if task.status == status else None
        for status in (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED)
    }
    is_under_way = task.status in (TaskStatus.PROCESSING, TaskStatus.COMPLETED)
    is_due_once = task.status == "queued" and task.available_at < WAITS_FOR_INPUTS
    body = {
        "task_id": str(task.id),
        "project_id": task.project_id,
        "task_type": task.task_type,
        "status": task.status,
        "priority": Priority(task.priority).label,
        "progress": task.progress,
        "current_step": task.current_step,
        "result": events.result(task),
        "error": task.error or None,
        "error_code": task.error_code or None,
        # The model counts failed attempts; clients expect the number of all attempts.
        "attempts": task.attempts + is_under_way,
        "created_at": _moment(task.created_at),
        "started_at": _moment(task.started_at),
        "finished_at": _moment(task.finished_at),
        **ended,
        "next_attempt_at": _moment(task.available_at) if is_due_once else None,
        "processing_time": events.processing_time(task) if task.is_terminal else None,
        "timeout_seconds": task.timeout_seconds,
        "callback_url": task.callback_url or None,
        "callback_auth": task.callback_auth or None,
        "webhook_events": task.webhook_events,
        "traceparent": task.traceparent or None,
        "retry_of": str(task.retry_of_id) if task.retry_of_id else None,
    }
    if task.metadata is not None:
        body["metadata"] = orjson.Fragment(task.metadata)
    return body


def _moment(value: datetime | None) -> str | None:
    return None if value is None else rfc3339(value)
