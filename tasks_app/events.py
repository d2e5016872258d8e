"""What does a webhook about a task say? Task -> (event type, bytes of the JSON payload).

The keys and their order are the contract with receivers; see docs/webhook-callbacks.md. No model
is loaded here, since the settings list the event types.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson
from django.conf import settings

from webhooks_app.notation import rfc3339

if TYPE_CHECKING:
    from tasks_app.models import Task

Schema = dict[str, Any]

STARTED = "task.started"
PROGRESS = "task.progress"
COMPLETED = "task.completed"
FAILED = "task.failed"
CANCELLED = "task.cancelled"

#: Order of a result's keys in the payload, the most important first; jsonb does not keep an order.
_RESULT_KEYS = (
    *("role", "media_url", "payload_media_id", "media_type", "size_bytes", "sha256"),
    *("width", "height", "duration", "fps", "codecs", "files"),
    *("provider", "model", "fallback_from", "seed", "cost", "provider_metadata", "traceparent"),
)


def _second(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment, "seconds")


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
        **EVENT_TYPES[event_type].body(task),
        "task_type": task.task_type,
        "sequence": task.event_sequence,
    }
    if task.metadata is not None:
        content["metadata"] = orjson.Fragment(task.metadata)
    return orjson.dumps(content)


def _failed(task: Task) -> dict[str, Any]:
    trace = {"traceback": task.traceback} if settings.TASK_EVENT_TRACEBACK else {}
    return {
        "error": task.error,
        **trace,
        "failed_at": _second(task.finished_at),
        "error_code": task.error_code,
    }


_TIME: Schema = {"type": "string", "format": "date-time"}
_TEXT: Schema = {"type": "string"}


@dataclass(frozen=True)
class EventType:
    """A kind of event.

    ``status``: that of the task when it happens; a terminal event ends the task. ``body``: the
    members that are the event's own, beside those of every event. ``schema``: the JSON Schemas of
    these members. ``example``: values of them, and of metadata where it is shown. ``optional``:
    members that a receiver may not count on.
    """

    name: str
    status: str
    is_terminal: bool
    body: Callable[[Task], dict[str, Any]]
    schema: dict[str, Schema]
    example: dict[str, Any]
    optional: tuple[str, ...] = ()


_FILE = {
    "media_url": "https://media.ft.tc/video.mp4",
    "payload_media_id": "64f1b2c3a8d9e0f1",
    "media_type": "video/mp4",
    "size_bytes": 1048576,
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "width": 1920,
    "height": 1080,
    "duration": 7.0,
    "fps": 24.0,
    "codecs": ["h264", "aac"],
}
_METADATA = {"metadata": {"userId": "user-123", "testResultId": "result-456"}}
#: What the service sends: subscriptions, the admin's filters and the API page read it.
EVENT_TYPES: dict[str, EventType] = {
    event_type.name: event_type
    for event_type in (
        EventType(
            COMPLETED,
            status="completed",
            is_terminal=True,
            body=lambda task: {
                "result": result(task),
                "processing_time": processing_time(task),
                "completed_at": _second(task.finished_at),
            },
            schema={
                "result": {"$ref": "#/components/schemas/Result"},
                "processing_time": {"type": "integer", "minimum": 0},
                "completed_at": _TIME,
            },
            example={
                "result": {
                    **_FILE,
                    "files": [{"role": "primary", **_FILE}],
                    "provider": "previz",
                    "model": "previz-1",
                    "seed": 42,
                    "cost": None,
                    "provider_metadata": {},
                },
                "processing_time": 315,
                "completed_at": "2025-01-15T10:35:30Z",
                **_METADATA,
            },
        ),
        EventType(
            FAILED,
            status="failed",
            is_terminal=True,
            body=_failed,
            schema={
                "error": _TEXT,
                "traceback": _TEXT,
                "failed_at": _TIME,
                "error_code": {"$ref": "#/components/schemas/ErrorCode"},
            },
            example={
                "error": "Task execution failed",
                "traceback": "Traceback...",
                "failed_at": "2025-01-15T10:35:30Z",
                **_METADATA,
            },
            optional=("traceback", "error_code"),
        ),
        EventType(
            CANCELLED,
            status="cancelled",
            is_terminal=True,
            body=lambda task: {"cancelled_at": _second(task.finished_at)},
            schema={"cancelled_at": _TIME},
            example={"cancelled_at": "2025-01-15T10:35:30Z", **_METADATA},
        ),
        EventType(
            STARTED,
            status="processing",
            is_terminal=False,
            body=lambda task: {"started_at": _second(task.started_at)},
            schema={"started_at": _TIME},
            example={"started_at": "2025-01-15T10:30:15Z"},
        ),
        EventType(
            PROGRESS,
            status="processing",
            is_terminal=False,
            body=lambda task: {"progress": task.progress, "current_step": task.current_step},
            schema={
                "progress": {"type": "number", "minimum": 0, "maximum": 1},
                "current_step": _TEXT,
            },
            example={"progress": 0.4, "current_step": "rendering: shot 2"},
        ),
    )
}
TERMINAL_EVENTS = tuple(name for name, kind in EVENT_TYPES.items() if kind.is_terminal)
