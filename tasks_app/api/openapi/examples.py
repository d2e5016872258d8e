"""What does each request, answer and webhook look like, filled in? Examples for the API page.

A test holds them to the schemas. A request works as it stands, apart from its ids and addresses.
"""

from __future__ import annotations

from typing import Any

from tasks_app.events import COMPLETED, EVENT_TYPES, EventType

_TASK_ID = "3c16b863-5c2e-4bea-b2d5-cf8ea1e629df"
_METADATA = {"userId": "user-123", "testResultId": "result-456"}
_REASON = "the receiver was down from 14:00 to 14:20"

#: Operation -> the JSON document to send.
REQUESTS: dict[str, Any] = {
    "createAsset": {
        "project_id": "test_project",
        "url": "https://your-app.com/storyboards/scene-7.png",
    },
    "createEndpoint": {
        "project_id": "test_project",
        "url": "https://your-app.com/api/webhooks/everything",
        "event_types": ["task.completed", "task.failed"],
        "description": "the studio's dashboard",
        "filter": {
            "all": [
                {"path": "/metadata/userId", "op": "prefix", "value": "user-"},
                {"not": {"path": "/task_type", "op": "in", "value": ["audio_generation"]}},
            ]
        },
        "ordered": True,
        "retry_policy": "durable",
    },
    "replaceEndpoint": {
        "url": "https://your-app.com/api/webhooks/everything",
        "event_types": ["task.completed", "task.failed", "task.cancelled"],
        "is_enabled": True,
    },
    "changeEndpoint": {"is_enabled": False},
    "dryRunEndpoint": {
        "body": {"status": "completed", "metadata": _METADATA},
        "event_type": "task.completed",
        "filter": {"path": "/metadata/userId", "op": "eq", "value": "user-124"},
    },
    "createCredential": {
        "project_id": "test_project",
        "name": "our-gateway",
        "kind": "bearer",
        "origins": ["https://your-app.com"],
        "token": "zQ7mD1n0wXkS4tYb",
    },
    "changeCredential": {"token": "bY4tSkXw0n1DmQ7z"},
    "testCredential": {"url": "https://your-app.com/api/webhooks/task-complete"},
    "acknowledgeEvents": {"ids": ["msg_2f1c0d3b4a59687786a5b4c3d2e1f001"]},
    "replayMessage": {"reason": _REASON},
    "startReplay": {
        "filter": {"status": "dead", "host": "your-app.com", "since": "2025-01-15T14:00:00Z"},
        "rate": 50,
        "reason": _REASON,
        "dry_run": True,
    },
    "setMessageAside": {"reason": "the customer has left"},
    "setMessagesAside": {
        "filter": {"host": "your-app.com", "error_code": "dns"},
        "reason": "the customer has left",
    },
    "changeDestinations": {
        "action": "pause",
        "host": "https://your-app.com",
        "seconds": 1800,
        "reason": "they deploy",
        "dry_run": True,
    },
    "pauseDestination": {"seconds": 1800, "reason": "they deploy"},
    "resumeDestination": {"reason": "it is back"},
    "disableDestination": {"reason": "the customer has left"},
    "enableDestination": {"reason": "the customer is back"},
    "muteDestination": {"seconds": 43200, "reason": "they know, and mend it tomorrow"},
    "unmuteDestination": {"reason": "it is mended"},
    "rotateSigningSecret": {"project_id": "test_project", "overlap_seconds": 86400},
}

_SUBMISSION = {
    "task_id": _TASK_ID,
    "project_id": "test_project",
    "task_type": "video_generation",
    "status": "queued",
    "priority": "normal",
    "queue_position": 1,
    "estimated_duration": 40,
    "created_at": "2025-01-15T10:30:00Z",
}
_COST = {"estimated_cost": {"amount": "0.70", "currency": "USD"}}
_TASK = {
    **_SUBMISSION,
    "status": "completed",
    "queue_position": None,
    "progress": 1.0,
    "current_step": "done",
    "result": EVENT_TYPES[COMPLETED].example["result"],
    "error": None,
    "error_code": None,
    "attempts": 1,
    "started_at": "2025-01-15T10:30:15Z",
    "finished_at": "2025-01-15T10:35:30Z",
    "completed_at": "2025-01-15T10:35:30Z",
    "failed_at": None,
    "cancelled_at": None,
    "next_attempt_at": None,
    "processing_time": 315,
    "timeout_seconds": 1800,
    "callback_url": "https://your-app.com/api/webhooks/task-complete",
    "callback_auth": "our-gateway",
    "webhook_events": ["task.completed", "task.failed", "task.cancelled"],
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "retry_of": None,
    "webhooks": {
        "state": "delivered",
        "messages": 1,
        "attempts": 2,
        "last_status_code": 200,
        "last_error": None,
        "next_attempt_at": None,
        "delivered_at": "2025-01-15T10:35:31Z",
    },
    "metadata": _METADATA,
    "retried_by": [],
}
_ASSET = {
    "asset_id": "64f1b2c3a8d9e0f1",
    "project_id": "test_project",
    "state": "ready",
    "origin": "upload",
    "task_id": None,
    "role": None,
    "media_url": "https://media.ft.tc/media/64f1b2c3a8d9e0f1/5d41402abc4b2a76b9719d911017c592/a.png",
    "media_type": "image/png",
    "size_bytes": 482113,
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "width": 1920,
    "height": 1080,
    "duration": None,
    "fps": None,
    "codecs": ["png"],
    "source_url": None,
    "error_code": None,
    "error": None,
    "created_at": "2025-01-15T10:20:00Z",
    "expires_at": "2025-02-14T10:20:00Z",
}
#: Component -> a value of it.
ANSWERS: dict[str, Any] = {
    "Submission": _SUBMISSION | _COST,
    "Retry": _SUBMISSION | _COST | {"retry_of": "9f0a9156-9a3a-4f8b-9296-09d846a72adb"},
    "Task": _TASK,
    "Costs": {
        "project_id": "test_project",
        "month": "2025-01",
        "totals": [
            {"currency": "USD", "amount": "12.60", "unclear_amount": "0.70", "jobs": 18},
        ],
        "by_model": [
            {
                "provider": "replicate",
                "model": "owner/film-model",
                "currency": "USD",
                "amount": "12.60",
                "unclear_amount": "0.70",
                "jobs": 18,
            },
        ],
        "budget": {
            "amount": "100.00",
            "currency": "USD",
            "spent": "12.60",
            "reserved": "1.40",
            "left": "86.00",
        },
    },
    "Asset": _ASSET,
    "NewAsset": _ASSET,
    "Secret": {
        "project_id": "test_project",
        "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "previous": [],
    },
    "Acknowledged": {"acknowledged": 1, "cancelled_messages": 0},
    "Problem": {
        "type": "urn:problem:invalid",
        "title": "The request is not valid",
        "status": 422,
        "code": "invalid",
        "detail": "1 field is not valid.",
        "instance": "/api/v1/tasks/submit",
        "request_id": "c92831d3cfc249e58737ac0ed43e20e4",
        "errors": [
            {
                "pointer": "/task_typ",
                "code": "unknown_field",
                "message": 'There is no such field. Did you mean "task_type"?',
            }
        ],
    },
}


NO_BUDGET = {
    "type": "urn:problem:budget_exhausted",
    "title": "Payment Required",
    "status": 402,
    "code": "budget_exhausted",
    "detail": "The project's budget for this month has 0.40 USD left, and this task is expected to "
    "cost 0.70 USD.",
    "instance": "/api/v1/tasks/submit",
    "request_id": "c92831d3cfc249e58737ac0ed43e20e4",
    "errors": [],
    "budget_of": "project",
    "left": {"amount": "0.40", "currency": "USD"},
    "estimated_cost": {"amount": "0.70", "currency": "USD"},
}


def event_example(event_type: EventType) -> dict[str, Any]:
    """Return an example of the body of this event's webhook."""
    ids = {"task_id": _TASK_ID, "project_id": "test_project"}
    return {**ids, "status": event_type.status, **event_type.example}
