"""Are the bytes of every webhook exactly those of the contract?"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from tasks_app import events
from tasks_app.models import Task

STARTED = datetime(2025, 1, 15, 10, 30, 14, 999_999, tzinfo=UTC)
ENDED = datetime(2025, 1, 15, 10, 35, 30, 1, tzinfo=UTC)
METADATA = '{"userId": "user-123", "testResultId":"result-456","n":1.0}'
HEAD = b'{"task_id":"7d9f1b0e-6a3c-4a5e-9b70-0f3f6f2f7c11","project_id":"test_project",'
TAIL = b'"task_type":"video_generation","sequence":3'
GOLDEN: list[tuple[str, dict[str, Any], bytes]] = [
    (
        "task.completed",
        {
            # As jsonb gives it back: shorter keys first.
            "result": {
                "fps": 24.0,
                "files": [
                    {"role": "primary", "codecs": ["h264"], "media_url": "https://m/1/p.mp4"}
                ],
                "width": 1920,
                "unforeseen": True,
                "media_url": "https://m/1/p.mp4",
                "payload_media_id": "64f1b2c3a8d9e0f1",
            },
            "metadata": METADATA,
        },
        b'"status":"completed","result":{"media_url":"https://m/1/p.mp4",'
        b'"payload_media_id":"64f1b2c3a8d9e0f1","width":1920,"fps":24.0,'
        b'"files":[{"role":"primary","media_url":"https://m/1/p.mp4","codecs":["h264"]}],'
        b'"unforeseen":true},"processing_time":315,"completed_at":"2025-01-15T10:35:30Z",'
        + TAIL
        + b',"metadata":{"userId": "user-123", "testResultId":"result-456","n":1.0}}',
    ),
    (
        "task.failed",
        {
            "error": "Task execution failed",
            "traceback": "Traceback...",
            "error_code": "internal_error",
            "metadata": METADATA,
        },
        b'"status":"failed","error":"Task execution failed","traceback":"Traceback...",'
        b'"failed_at":"2025-01-15T10:35:30Z","error_code":"internal_error",'
        + TAIL
        + b',"metadata":{"userId": "user-123", "testResultId":"result-456","n":1.0}}',
    ),
    (
        "task.cancelled",
        {},
        b'"status":"cancelled","cancelled_at":"2025-01-15T10:35:30Z",' + TAIL + b"}",
    ),
    (
        "task.started",
        {},
        b'"status":"processing","started_at":"2025-01-15T10:30:14Z",' + TAIL + b"}",
    ),
    (
        "task.progress",
        {"progress": 0.25, "current_step": "rendering: frame 19"},
        b'"status":"processing","progress":0.25,"current_step":"rendering: frame 19",'
        + TAIL
        + b"}",
    ),
]


def a_task(event_type: str, **fields: Any) -> Task:
    """Return a task, not stored, in the state of that event."""
    word = event_type.removeprefix("task.")
    is_over = event_type in events.TERMINAL_EVENTS
    fields.setdefault("finished_at", ENDED if is_over else None)
    return Task(
        id=uuid.UUID("7d9f1b0e-6a3c-4a5e-9b70-0f3f6f2f7c11"),
        project_id="test_project",
        task_type="video_generation",
        status=word if is_over else "processing",
        event_sequence=3,
        **{"started_at": STARTED, "metadata": None, **fields},
    )


@pytest.mark.parametrize(("event_type", "fields", "rest"), GOLDEN, ids=[row[0] for row in GOLDEN])
def test_bytes_are_those_of_the_contract(
    event_type: str, fields: dict[str, Any], rest: bytes
) -> None:
    """Keys, their order, the forms of times and numbers, and metadata untouched."""
    assert events.body(a_task(event_type, **fields), event_type) == HEAD + rest


def test_every_event_type_has_its_golden_bytes() -> None:
    """Every event has an expected form here; a new event must be added."""
    assert {row[0] for row in GOLDEN} == set(events.EVENT_TYPES)


def test_traceback_can_be_left_out(settings: Any) -> None:
    """WEBHOOK_TRACEBACK=off takes the key away, and nothing else."""
    settings.TASK_EVENT_TRACEBACK = False
    body = events.body(a_task("task.failed", error="E", traceback="T"), "task.failed")
    assert body.startswith(HEAD + b'"status":"failed","error":"E","failed_at":')
    assert b"traceback" not in body


def test_what_never_started_took_no_time() -> None:
    """The processing time is whole seconds of the last attempt, 0 without one."""
    assert events.processing_time(a_task("task.completed")) == 315
    assert events.processing_time(a_task("task.cancelled", started_at=None)) == 0
