"""What do our answers look like? JSON Schemas for the API page; tests hold the answers to them.

Only names come from the registries. Nothing is computed from the code that makes the answers, so
an answer that was changed by accident does not fit its schema.
"""

from __future__ import annotations

import re
from typing import Any

from tasks_app.events import EVENT_TYPES
from tasks_app.failures import ASSET_ERRORS, ERROR_CODES
from tasks_app.models import SHOWN_STATES, AssetOrigin, Priority, TaskStatus
from tasks_app.task_types import TASK_TYPES
from webhooks_app.models import META_EVENTS, MessageStatus
from webhooks_app.notation import PROJECT_ID
from webhooks_app.operators import ping

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number", "minimum": 0}
SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
TIME: Schema = {"type": "string", "format": "date-time"}
ID: Schema = {"type": "string", "format": "uuid"}
STATUS: Schema = {"enum": list(TaskStatus.values)}
PRIORITY: Schema = {"enum": list(Priority.labels)}
TASK_TYPE: Schema = {"enum": list(TASK_TYPES)}
ANY_OBJECT: Schema = {"type": "object", "additionalProperties": True}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def or_null(schema: Schema) -> Schema:
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


def more_may_come(properties: Schema, optional: tuple[str, ...] = (), **more: Any) -> Schema:
    """Return the schema of an object to which later versions may add members."""
    closed = exactly(properties, optional, **more)
    return {name: value for name, value in closed.items() if name != "additionalProperties"}


_AMOUNT: Schema = TEXT | {"pattern": r"^[0-9]+\.[0-9]{2,6}$"}
_CURRENCY: Schema = TEXT | {"pattern": "^[A-Z]{3}$"}
MONEY: Schema = exactly(
    {"amount": _AMOUNT, "currency": _CURRENCY},
    description="A decimal as text, and an ISO 4217 code.",
)
_ALL_OF_A_PARAMETER = (
    *("pointer", "choices", "least", "most", "longest", "largest", "shapes", "languages"),
    *("only_with", "default", "note"),
)
_COST_SUM: Schema = {
    "currency": _CURRENCY,
    "amount": _AMOUNT,
    "unclear_amount": _AMOUNT | {"description": "Part of it that may not have been paid."},
    "jobs": COUNT | {"description": "Pieces of work that were booked."},
}
_SUBMISSION: Schema = {
    "task_id": ID,
    "project_id": TEXT,
    "task_type": TASK_TYPE,
    "status": STATUS,
    "priority": PRIORITY,
    "queue_position": {"type": "integer", "minimum": 1, "maximum": 1000},
    "estimated_duration": COUNT | {"description": "Seconds, from the history of this type."},
    "estimated_cost": ref("Money"),
    "created_at": TIME,
}
_LISTED_TASK: Schema = {
    "task_id": ID,
    "project_id": TEXT,
    "task_type": TASK_TYPE,
    "status": STATUS,
    "priority": PRIORITY,
    "progress": SHARE,
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
    "callback_auth": or_null(TEXT),
    "webhook_events": {"type": "array", "items": TEXT},
    "traceparent": or_null(TEXT | {"description": "The trace it belongs to (W3C Trace Context)."}),
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
#: The facts of a file; a result has those of its main file beside its other members.
_RECEIPT: Schema = {
    "media_url": TEXT | {"description": "Whoever has this address can fetch the file."},
    "payload_media_id": TEXT,
    "media_type": TEXT | {"description": "For example `video/mp4`."},
    "size_bytes": COUNT,
    "sha256": TEXT | {"description": "Of the whole file, in hex."},
    "width": COUNT | {"description": "Pixels."},
    "height": COUNT | {"description": "Pixels."},
    "duration": NUMBER | {"description": "Seconds."},
    "fps": NUMBER,
    "codecs": {"type": "array", "items": TEXT},
}
_NOT_OF_EVERY_FILE = ("width", "height", "duration", "fps")
#: What a caller with a key is told beside the status.
_READY_DETAILS: Schema = {
    "problems": {"type": "array", "items": TEXT},
    "database": TEXT,
    "redis": TEXT,
    "workers_alive": or_null(COUNT),
    "migrations_pending": COUNT,
    "oldest_due_seconds": NUMBER,
    "oldest_due_webhook_seconds": NUMBER,
    "oldest_free_webhook_seconds": NUMBER,
}

_ASSET: Schema = {
    "asset_id": TEXT | {"description": "Of a file that a task made: its `payload_media_id`."},
    "project_id": TEXT,
    "state": {"enum": SHOWN_STATES},
    "origin": {"enum": list(AssetOrigin.values)},
    "task_id": or_null(ID | {"description": "The task that made it."}),
    "role": or_null(TEXT | {"description": "What it is to that task."}),
    "media_url": or_null(TEXT),
    "media_type": or_null(TEXT | {"description": "By its content, whatever it was called."}),
    "size_bytes": or_null(COUNT),
    "sha256": or_null(TEXT),
    "width": or_null(COUNT),
    "height": or_null(COUNT),
    "duration": or_null(NUMBER),
    "fps": or_null(NUMBER),
    "codecs": {"type": "array", "items": TEXT},
    "source_url": or_null(TEXT | {"description": "Without what may be secret in it."}),
    "error_code": or_null({"enum": list(ASSET_ERRORS)}),
    "error": or_null(TEXT),
    "created_at": TIME,
    "expires_at": or_null(TIME | {"description": "Not before tasks that name it have ended."}),
}

COMPONENTS: dict[str, Schema] = {
    "Money": MONEY,
    "Submission": exactly(_SUBMISSION, optional=("estimated_cost",)),
    "Retry": exactly({**_SUBMISSION, "retry_of": ID}, optional=("estimated_cost",)),
    "Task": exactly(_ONE_TASK, optional=("metadata",)),
    "ListedTask": exactly(_LISTED_TASK, optional=("metadata",)),
    "TaskPage": exactly(
        {
            "results": {"type": "array", "items": ref("ListedTask")},
            "next_cursor": or_null(TEXT),
            "next": or_null(TEXT | {"description": "The address of the next page."}),
        }
    ),
    "Asset": exactly(_ASSET),
    "NewAsset": exactly({**_ASSET, "upload": ref("UploadForm")}, optional=("upload",)),
    "UploadForm": exactly(
        {"url": TEXT, "fields": {"type": "object", "additionalProperties": TEXT}},
        description="POST the file there as a form with these fields, then `completeAsset`.",
    ),
    "AssetPage": exactly(
        {
            "results": {"type": "array", "items": ref("Asset")},
            "next_cursor": or_null(TEXT),
            "next": or_null(TEXT),
        }
    ),
    "Result": more_may_come(
        {
            **_RECEIPT,
            "files": {"type": "array", "items": ref("ResultFile")},
            "inputs": {"type": "array", "items": ref("ResultInput")},
            "provider": TEXT,
            "model": TEXT,
            "fallback_from": {
                "type": "array",
                "items": exactly(
                    {"provider": TEXT, "error_code": ref("ErrorCode"), "attempts": COUNT}
                ),
                "description": "Providers before it in the chain that could not be had.",
            },
            "seed": or_null({"type": "integer"}),
            "cost": or_null(ref("Money")),
            "provider_metadata": ANY_OBJECT,
            "traceparent": TEXT,
        },
        optional=(*_NOT_OF_EVERY_FILE, "inputs", "fallback_from", "traceparent"),
        description="The main file, all files, and who made them.",
    ),
    "ResultInput": more_may_come(
        {"name": TEXT, "asset_id": TEXT, "sha256": TEXT},
        description="A file that it was made from.",
    ),
    "ResultFile": more_may_come(
        {"role": TEXT | {"description": "`primary` is the main file."}, **_RECEIPT},
        optional=_NOT_OF_EVERY_FILE,
        description="Where a file is, and its receipt.",
    ),
    "WebhookSummary": exactly(
        {
            "state": {
                "enum": ["none", *MessageStatus.values],
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
    "ProgressEvent": more_may_come(
        {
            "id": TEXT | {"description": "Rises; send it as Last-Event-ID to go on from here."},
            "data": {
                "type": "string",
                "contentMediaType": "application/json",
                "contentSchema": ref("Snapshot"),
            },
        },
        description="One server-sent event.",
    ),
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
    "Costs": exactly(
        {
            "project_id": TEXT,
            "month": TEXT | {"description": "For example `2026-11`, in UTC."},
            "totals": {
                "type": "array",
                "items": ref("CostTotal"),
                "description": "One for each currency.",
            },
            "by_model": {"type": "array", "items": ref("ModelCost")},
            "budget": or_null(ref("Budget")),
        }
    ),
    "CostTotal": exactly(_COST_SUM),
    "ModelCost": exactly({"provider": TEXT, "model": TEXT, **_COST_SUM}),
    "Budget": exactly(
        {**MONEY["properties"], "spent": _AMOUNT, "reserved": _AMOUNT, "left": _AMOUNT},
        description="Of this month; null for another month, and where none is set.",
    ),
    "TaskMetrics": exactly(
        {
            "project_id": or_null(TEXT),
            "counts": ref("TaskCounts"),
            "success_rate": or_null(SHARE),
            "by_type": {"type": "object", "additionalProperties": ref("TaskFigures")},
        }
    ),
    "Providers": exactly({"providers": {"type": "array", "items": ref("TaskTypeProvider")}}),
    "TaskTypeProvider": more_may_come(
        {
            "task_type": TASK_TYPE,
            "provider": TEXT,
            "models": {"type": "array", "items": ref("ProviderModel")},
        }
    ),
    "ProviderModel": more_may_come(
        {
            "model": or_null(TEXT) | {"description": "Null where the provider knows only one."},
            "is_default": {"type": "boolean"},
            "price": or_null(
                exactly({"unit": {"enum": ["second", "picture", "run"]}, **MONEY["properties"]})
            ),
            "parameters": {"type": "object", "additionalProperties": ref("ProviderParameter")},
            "inputs": {"type": "object", "additionalProperties": ref("ProviderInput")},
            "options": {"type": "object", "additionalProperties": ref("ProviderParameter")},
            "passes_options": {"type": "boolean"},
            "closed_options": {"type": "array", "items": TEXT},
        }
    ),
    "ProviderParameter": more_may_come(
        {
            "pointer": TEXT,
            "choices": {"type": "array", "items": ref("ParameterValue")},
            "least": {"type": "number"},
            "most": {"type": "number"},
            "longest": COUNT | {"description": "Characters."},
            "largest": TEXT | {"description": "Pixels of the longer and the shorter side."},
            "shapes": {"type": "array", "items": TEXT},
            "languages": {"type": "array", "items": TEXT},
            "only_with": exactly(
                {
                    "parameter": TEXT,
                    "choices": {"type": "array", "items": ref("ParameterValue")},
                }
            ),
            "default": ref("ParameterValue"),
            "note": TEXT,
        },
        _ALL_OF_A_PARAMETER,
    ),
    "ParameterValue": {"anyOf": [TEXT, {"type": "number"}, {"type": "boolean"}]},
    "ProviderInput": exactly(
        {
            "kinds": {"type": "array", "items": TEXT},
            "most": COUNT,
            "max_bytes": or_null(COUNT),
            "max_side": or_null(COUNT),
            "max_seconds": or_null(NUMBER),
        }
    ),
    "ErrorCode": {
        "type": "string",
        "description": f"`{'`, `'.join(ERROR_CODES)}`, or one of a provider's own.",
    },
    "TaskCounts": exactly({status: COUNT for status in STATUS["enum"]}),
    "TaskFigures": exactly(
        {
            "counts": ref("TaskCounts"),
            "success_rate": or_null(SHARE),
            "duration_seconds": or_null(ref("Durations")),
        }
    ),
    "Durations": exactly({"measured": COUNT, "mean": NUMBER, "p50": NUMBER, "p95": NUMBER}),
    "Health": exactly({"status": {"enum": ["ok"]}}),
    "Readiness": exactly(
        {"status": {"enum": ["ok", "degraded"]}, **_READY_DETAILS},
        optional=tuple(_READY_DETAILS),
    ),
    "FieldProblem": exactly(
        {
            "pointer": TEXT | {"description": "JSON pointer into the body."},
            "code": TEXT,
            "message": TEXT,
            "parameter": TEXT | {"description": "The query parameter or header at fault, if any."},
        },
        optional=("parameter",),
    ),
    "AssetForm": {
        "type": "object",
        "properties": {
            "file": {"type": "string", "format": "binary"},
            "project_id": {"type": "string", "pattern": f"^{PROJECT_ID}$"},
        },
        "required": ["file"],
    },
    "Problem": more_may_come(
        {
            "type": TEXT,
            "title": TEXT,
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "code": TEXT,
            "detail": TEXT,
            "instance": TEXT,
            "request_id": TEXT,
            "errors": {"type": "array", "items": ref("FieldProblem")},
            "budget_of": TEXT | {"description": "Of a 402: whose budget it is."},
            "left": ref("Money"),
            "estimated_cost": ref("Money"),
        },
        optional=("budget_of", "left", "estimated_cost"),
        description="An error, after RFC 9457. `code` is for programs, `detail` for people.",
    ),
}

_EVENT: Schema = {"task_id": ID, "project_id": TEXT}
_BESIDE: Schema = {"task_type": TASK_TYPE, "sequence": COUNT, "metadata": ANY_OBJECT}


def event_name(event_type: str) -> str:
    """Return the name of an event's body, of which generators make a class: TaskCompletedEvent."""
    return "".join(part.capitalize() for part in re.split("[._]", event_type)) + "Event"


def event_bodies() -> dict[str, Schema]:
    """Return the schema of each event's body, and of `EventBody`, which is any of them."""
    bodies = {
        event_name(name): more_may_come(
            {**_EVENT, "status": {"const": kind.status}, **kind.schema, **_BESIDE},
            optional=(*kind.optional, *_BESIDE),
            description=f"The body of a `{name}` webhook.",
        )
        for name, kind in EVENT_TYPES.items()
    }
    bodies[event_name(ping.PING)] = {
        **ping.SCHEMA,
        "description": "The body of a test event; see `pingEndpoint`.",
    }
    for name, meta in META_EVENTS.items():
        bodies[event_name(name)] = more_may_come(
            meta.schema["properties"], description=f"The body of a `{name}` webhook."
        )
    # A model, not an object with any members: of that, Java's generator makes no class.
    bodies["OtherEvent"] = more_may_come(
        {"project_id": TEXT}, description="The body of a type of event that is not known here."
    )
    any_of_them = {
        "anyOf": [ref(name) for name in bodies],
        "description": "The body as receivers get it. There may be more types of events one day.",
    }
    return {**bodies, "EventBody": any_of_them}
