"""What does a webhook about a task say? Task -> (event type, bytes of the JSON payload).

The keys and their order are the contract with receivers; see docs/webhook-callbacks.md.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson

from tasks_app.models import Task, TaskStatus
from webhooks_app.conf import webhook_settings

STARTED = "task.started"
PROGRESS = "task.progress"
COMPLETED = "task.completed"
FAILED = "task.failed"
CANCELLED = "task.cancelled"
TERMINAL_EVENTS = (COMPLETED, FAILED, CANCELLED)
EVENT_TYPES = (*TERMINAL_EVENTS, STARTED, PROGRESS)

#: Order of a result's keys in the payload, the most important first; jsonb does not keep an order.
_RESULT_KEYS = (
    *("role", "media_url", "payload_media_id", "media_type", "size_bytes", "sha256"),
    *("width", "height", "duration", "fps", "codecs", "files"),
    *("provider", "model", "seed", "cost", "provider_metadata"),
)

_TERMINAL_EVENT = {
    TaskStatus.COMPLETED: COMPLETED,
    TaskStatus.FAILED: FAILED,
    TaskStatus.CANCELLED: CANCELLED,
}


def terminal_event(task: Task) -> str:
    """Return the type of the event that ends this task."""
    return _TERMINAL_EVENT[TaskStatus(task.status)]


def rfc3339(moment: datetime | None) -> str | None:
    """Return a UTC time as 2025-01-15T10:35:30Z."""
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def processing_time(task: Task) -> int:
    """Return whole seconds from the start of the last attempt to its end; 0 if never started."""
    if task.started_at is None or task.finished_at is None:
        return 0
    return max(0, int((task.finished_at - task.started_at).total_seconds()))


def result(task: Task) -> dict[str, Any] | None:
    """Return what was made, with its keys in the order of the payload."""
    if task.result is None:
        return None
    told = _in_order(task.result)
    if "files" in told:
        told["files"] = [_in_order(file) for file in told["files"]]
    return told


def _in_order(facts: dict[str, Any]) -> dict[str, Any]:
    return {key: facts[key] for key in _RESULT_KEYS if key in facts} | facts


def body(task: Task, event_type: str) -> bytes:
    """Return the final bytes of an event of ``task``, with its current ``event_sequence``."""
    content: dict[str, Any] = {
        "task_id": str(task.id),
        "project_id": task.project_id,
        "status": task.status,
        **_PARTS[event_type](task),
        "task_type": task.task_type,
        "sequence": task.event_sequence,
    }
    if task.metadata is not None:
        content["metadata"] = orjson.Fragment(task.metadata)
    return orjson.dumps(content)


def _completed(task: Task) -> dict[str, Any]:
    return {
        "result": result(task),
        "processing_time": processing_time(task),
        "completed_at": rfc3339(task.finished_at),
    }


def _failed(task: Task) -> dict[str, Any]:
    trace = {"traceback": task.traceback} if webhook_settings.TRACEBACK else {}
    return {
        "error": task.error,
        **trace,
        "failed_at": rfc3339(task.finished_at),
        "error_code": task.error_code,
    }


def _cancelled(task: Task) -> dict[str, Any]:
    return {"cancelled_at": rfc3339(task.finished_at)}


def _started(task: Task) -> dict[str, Any]:
    return {"started_at": rfc3339(task.started_at)}


def _progress(task: Task) -> dict[str, Any]:
    return {"progress": task.progress, "current_step": task.current_step}


_PARTS = {
    COMPLETED: _completed,
    FAILED: _failed,
    CANCELLED: _cancelled,
    STARTED: _started,
    PROGRESS: _progress,
}
