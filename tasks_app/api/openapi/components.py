"""What do our answers look like? JSON Schemas for the API page; tests hold the answers to them.

Plain data: only the names come from the registries, nothing is computed from the code that makes
the answers, so a change of an answer that nobody meant shows up as a difference.
"""

from __future__ import annotations

from typing import Any

from tasks_app.events import EventType
from tasks_app.failures import ERROR_CODES
from tasks_app.models import Priority, TaskStatus
from tasks_app.task_types import TASK_TYPES

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number", "minimum": 0}
TIME: Schema = {"type": "string", "format": "date-time"}
ID: Schema = {"type": "string", "format": "uuid"}
STATUS: Schema = {"enum": list(TaskStatus.values)}
PRIORITY: Schema = {"enum": list(Priority.labels)}
TASK_TYPE: Schema = {"enum": list(TASK_TYPES)}
ANY_OBJECT: Schema = {"type": "object", "additionalProperties": True}


def ref(name: str) -> Schema:
    """Return a reference to one of the components below."""
    return {"$ref": f"#/components/schemas/{name}"}


def or_null(schema: Schema) -> Schema:
    """Return the schema of a value that may be absent."""
    return {"anyOf": [schema, {"type": "null"}]}


def exactly(properties: Schema, optional: tuple[str, ...] = (), **more: Any) -> Schema:
    """Return the schema of an object with these members and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
        **more,
    }


_SUBMISSION: Schema = {
    "task_id": ID,
    "project_id": TEXT,
    "task_type": TASK_TYPE,
    "status": STATUS,
    "priority": PRIORITY,
    "queue_position": {"type": "integer", "minimum": 1, "maximum": 1000},
    "estimated_duration": COUNT | {"description": "Seconds, from the history of this type."},
    "created_at": TIME,
}
_LISTED_TASK: Schema = {
    "task_id": ID,
    "project_id": TEXT,
    "task_type": TASK_TYPE,
    "status": STATUS,
    "priority": PRIORITY,
    "progress": {"type": "number", "minimum": 0, "maximum": 1},
    "current_step": TEXT,
    "result": or_null(ref("Result")),
    "error": or_null(TEXT),
    "error_code": or_null(ref("ErrorCode")),
    "attempts": COUNT,
    "created_at": TIME,
    "started_at": or_null(TIME),
    "finished_at": or_null(TIME),
    "completed_at": or_null(TIME),
    "failed_at": or_null(TIME),
    "cancelled_at": or_null(TIME),
    "next_attempt_at": or_null(TIME),
    "processing_time": or_null(COUNT | {"description": "Whole seconds of the last attempt."}),
    "timeout_seconds": COUNT,
    "callback_url": or_null(TEXT),
    "webhook_events": {"type": "array", "items": TEXT},
    "retry_of": or_null(ID),
    "webhooks": ref("WebhookSummary"),
    "metadata": ANY_OBJECT | {"description": "Exactly as sent; absent when none was."},
}
_ONE_TASK: Schema = {
    **_LISTED_TASK,
    "queue_position": or_null(_SUBMISSION["queue_position"]),
    "estimated_duration": _SUBMISSION["estimated_duration"],
    "retried_by": {"type": "array", "items": ID},
}
_COUNTS: Schema = exactly({status: COUNT for status in STATUS["enum"]})
_RATE: Schema = or_null({"type": "number", "minimum": 0, "maximum": 1})
_DURATIONS: Schema = exactly({"measured": COUNT, "mean": NUMBER, "p50": NUMBER, "p95": NUMBER})
_FIGURES: Schema = exactly(
    {"counts": _COUNTS, "success_rate": _RATE, "duration_seconds": or_null(_DURATIONS)}
)
_FIELD_PROBLEM: Schema = exactly(
    {
        "pointer": TEXT | {"description": "JSON pointer into the body."},
        "code": TEXT,
        "message": TEXT,
        "parameter": TEXT | {"description": "The query parameter or header at fault, if any."},
    },
    optional=("parameter",),
)

COMPONENTS: dict[str, Schema] = {
    "Submission": exactly(_SUBMISSION),
    "Retry": exactly({**_SUBMISSION, "retry_of": ID}),
    "Task": exactly(_ONE_TASK, optional=("metadata",)),
    "ListedTask": exactly(_LISTED_TASK, optional=("metadata",)),
    "TaskPage": exactly(
        {
            "results": {"type": "array", "items": ref("ListedTask")},
            "next_cursor": or_null(TEXT),
            "next": or_null(TEXT | {"description": "The address of the next page."}),
        }
    ),
    "Result": {
        "type": "object",
        "properties": {"media_url": TEXT, "payload_media_id": TEXT},
        "required": ["media_url", "payload_media_id"],
        "description": "Where the file is, and its receipt: size, sha256, length, codecs, files.",
    },
    "WebhookSummary": exactly(
        {
            "state": {
                "enum": ["none", "pending", "dead", "delivered", "cancelled", "superseded"],
                "description": "Of several messages the one that most needs attention.",
            },
            "messages": COUNT,
            "attempts": COUNT,
            "last_status_code": or_null(COUNT),
            "last_error": or_null(TEXT),
            "next_attempt_at": or_null(TIME),
            "delivered_at": or_null(TIME),
        }
    ),
    "ProgressEvent": {
        "type": "object",
        "description": "One server-sent event.",
        "properties": {
            "id": TEXT | {"description": "Rises; send it as Last-Event-ID to go on from here."},
            "data": {
                "type": "string",
                "contentMediaType": "application/json",
                "contentSchema": ref("Snapshot"),
            },
        },
        "required": ["id", "data"],
    },
    "Snapshot": exactly(
        {
            name: _LISTED_TASK[name]
            for name in (
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
        }
    ),
    "TaskMetrics": exactly(
        {
            "project_id": or_null(TEXT),
            "counts": _COUNTS,
            "success_rate": _RATE,
            "by_type": {"type": "object", "additionalProperties": _FIGURES},
        }
    ),
    "ErrorCode": {
        "type": "string",
        "description": f"`{'`, `'.join(ERROR_CODES)}`, or one of a provider's own.",
    },
    "Health": exactly({"status": {"enum": ["ok"]}}),
    "Readiness": exactly(
        {
            "status": {"enum": ["ok", "degraded"]},
            "problems": {"type": "array", "items": TEXT},
            "database": TEXT,
            "redis": TEXT,
            "workers_alive": or_null(COUNT),
            "migrations_pending": COUNT,
            "oldest_due_seconds": NUMBER,
            "oldest_due_webhook_seconds": NUMBER,
        },
        optional=(
            "problems",
            "database",
            "redis",
            "workers_alive",
            "migrations_pending",
            "oldest_due_seconds",
            "oldest_due_webhook_seconds",
        ),
    ),
    "Problem": {
        "type": "object",
        "description": "An error, after RFC 9457. `code` is for programs, `detail` for people.",
        "properties": {
            "type": TEXT,
            "title": TEXT,
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "code": TEXT,
            "detail": TEXT,
            "instance": TEXT,
            "request_id": TEXT,
            "errors": {"type": "array", "items": _FIELD_PROBLEM},
        },
        "required": [
            "type",
            "title",
            "status",
            "code",
            "detail",
            "instance",
            "request_id",
            "errors",
        ],
    },
}

_EVENT: Schema = {"task_id": ID, "project_id": TEXT}
_BESIDE: Schema = {"task_type": TASK_TYPE, "sequence": COUNT, "metadata": ANY_OBJECT}


def event_body(event_type: EventType) -> Schema:
    """Return the schema of one webhook's body; members may be added, none goes away."""
    own: Schema = {"status": {"const": event_type.status}, **event_type.schema}
    required = [*_EVENT, *(name for name in own if name not in event_type.optional)]
    return {"type": "object", "properties": {**_EVENT, **own, **_BESIDE}, "required": required}
