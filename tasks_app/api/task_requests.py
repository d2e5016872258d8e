"""Which requests about tasks are valid, and how is a task shown?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any

import orjson
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError

from tasks_app import events, providers
from tasks_app.api import task_data as schemas
from tasks_app.api.task_fields import (
    Choice,
    FreeObject,
    Given,
    Items,
    Members,
    StrictSerializer,
    Text,
    Whole,
    refuse,
)
from tasks_app.models import Priority, Task, TaskStatus
from tasks_app.task_types import TASK_TYPES
from webhooks_app.api.fields import PROJECT_ID, RetryPolicy
from webhooks_app.api.problems import FieldProblem, field_problems
from webhooks_app.egress import EgressDenied, check_url, origin_of

MAX_METADATA_BYTES = 16_384
MAX_TASK_DATA_BYTES = 65_536
LONGEST_TIMEOUT = max(task_type.max_timeout_seconds for task_type in TASK_TYPES.values())
_PRIORITIES = {label: value for value, label in Priority.choices}


def is_project_id(text: str) -> bool:
    """Say whether a text is a valid project id."""
    return re.fullmatch(PROJECT_ID, text) is not None


class CallbackUrl(Text):
    """A URL that the egress policy lets us call; taken exactly as sent, never trimmed."""

    def schema(self) -> dict[str, Any]:
        """Return the format."""
        return {"type": "string", "format": "uri", "maxLength": 2048}

    def run_validation(self, data: Any = serializers.empty) -> Any:
        """Return the URL."""
        if data is serializers.empty:
            return super().run_validation(data)
        if not isinstance(data, str):
            refuse("bad_type", "Must be a string.")
        try:
            check_url(data)
        except EgressDenied as denied:
            refuse(str(denied.code), denied.message)
        return data


class PriorityField(Choice):
    """high, normal or low; 1, 2 and 3 mean the same."""

    def to_internal_value(self, data: Any) -> Any:
        """Return the number."""
        value: Any = super().to_internal_value(data)
        return _PRIORITIES.get(value, value)


class SubmitRequest(StrictSerializer):
    """The body of ``POST tasks/submit``; ``task_data`` is the business of `schemas`."""

    project_id = Text(
        max_length=100, pattern=PROJECT_ID, shape="Use 1 to 100 letters, digits, '_' or '-'."
    )
    task_type = Choice(list(TASK_TYPES))
    callback_url = CallbackUrl(max_length=2048, required=False)
    task_data = FreeObject()
    metadata = FreeObject(required=False)
    priority = PriorityField(
        [*_PRIORITIES, *Priority.values],
        default=Priority.NORMAL,
        help_text="By default normal; 1, 2 and 3 mean the same as the words.",
    )
    timeout_seconds = Whole(1, LONGEST_TIMEOUT, required=False)
    webhook_events = Items(
        child=Choice(list(events.EVENT_TYPES)), most=len(events.EVENT_TYPES), required=False
    )
    retry_policy = RetryPolicy(required=False)

    def check(self, values: Members, data: Given, errors: Members) -> None:
        """Check the time-out against the type's maximum; remove duplicate events."""
        task_type = TASK_TYPES.get(values.get("task_type", ""))
        longest = task_type.max_timeout_seconds if task_type else LONGEST_TIMEOUT
        if values.get("timeout_seconds", 0) > longest:
            message = f"Must be from 1 to {longest} seconds."
            errors["timeout_seconds"] = [ErrorDetail(message, "out_of_range")]
        if "webhook_events" in values:
            values["webhook_events"] = list(dict.fromkeys(values["webhook_events"]))


@cache
def _submit_request() -> SubmitRequest:
    return SubmitRequest()


def read_submit(
    document: Any, raw: Mapping[str, str], callback_hosts: list[str]
) -> tuple[dict[str, Any], list[FieldProblem]]:
    """Validate a submit as a whole.

    Args:
        raw: the text of each top-level value as sent.
        callback_hosts: the only hosts that the key's callbacks may go to; empty for any.
    Returns: the validated fields, and everything that is wrong with the request.
    """
    try:
        values = _submit_request().run_validation(document)
        problems: list[FieldProblem] = []
    except ValidationError as error:
        values, problems = {}, field_problems(error.detail)
    known_type = document.get("task_type") if isinstance(document, Mapping) else None
    if isinstance(known_type, str) and known_type in TASK_TYPES:
        task_data = document.get("task_data")
        if isinstance(task_data, Mapping):
            values["task_data"], more = check_task_data(
                known_type, task_data, raw.get("task_data", "")
            )
            problems += more
    problems += _metadata_problems(document, raw) + _host_problems(values, callback_hosts)
    return values, problems


def check_task_data(
    task_type: str, task_data: Any, raw: str = ""
) -> tuple[dict[str, Any], list[FieldProblem]]:
    """Validate against the type's schema, then against its provider's own limits.

    Args:
        raw: the text that the client sent, for its size.
    Returns: the data with its defaults, and the problems with pointers from the body's root.
    """
    root = "/task_data"
    if len(raw.encode()) > MAX_TASK_DATA_BYTES:
        message = f"At most {MAX_TASK_DATA_BYTES} bytes."
        return {}, [{"pointer": root, "code": "too_long", "message": message}]
    serializer = schemas.serializer_for(TASK_TYPES[task_type].schema)
    try:
        clean: dict[str, Any] = serializer.run_validation(task_data)
    except ValidationError as error:
        return {}, field_problems(error.detail, root)
    return clean, _provider_problems(task_type, clean, root)


def _provider_problems(task_type: str, task_data: dict[str, Any], root: str) -> list[FieldProblem]:
    try:
        provider = providers.get_provider(task_type)
    except providers.UnknownProvider as error:
        return [{"pointer": "/task_type", "code": "unsupported_by_provider", "message": str(error)}]
    named = task_data.get("provider")
    if named is not None and named != provider.name:
        message = f'The provider of {task_type} is "{provider.name}".'
        return [{"pointer": f"{root}/provider", "code": "not_allowed", "message": message}]
    return [
        {
            "pointer": fault.pointer if fault.pointer.startswith(root) else root + fault.pointer,
            "code": fault.code,
            "message": fault.message,
        }
        for fault in provider.validate(task_type, task_data)
    ]


def _metadata_problems(document: Any, raw: Mapping[str, str]) -> list[FieldProblem]:
    text = raw.get("metadata", "")
    if len(text.encode()) <= MAX_METADATA_BYTES:
        return []
    message = f"At most {MAX_METADATA_BYTES} bytes."
    return [{"pointer": "/metadata", "code": "too_long", "message": message}]


def _host_problems(values: Mapping[str, Any], hosts: list[str]) -> list[FieldProblem]:
    url = values.get("callback_url")
    if not url or not hosts or origin_of(url).host in hosts:
        return []
    message = "This key's callbacks may not go to that host."
    return [{"pointer": "/callback_url", "code": "blocked_address", "message": message}]


def moment(value: datetime | None) -> str | None:
    """Return a time as RFC 3339 in UTC, ending in Z."""
    return None if value is None else value.isoformat().replace("+00:00", "Z")


def task_body(task: Task, webhooks: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Return a task as clients see it."""
    ended = {
        f"{status}_at": moment(task.finished_at) if task.status == status else None
        for status in (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED)
    }
    is_under_way = task.status in (TaskStatus.PROCESSING, TaskStatus.COMPLETED)
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
        "created_at": moment(task.created_at),
        "started_at": moment(task.started_at),
        "finished_at": moment(task.finished_at),
        **ended,
        "next_attempt_at": moment(task.available_at) if task.status == "queued" else None,
        "processing_time": events.processing_time(task) if task.is_terminal else None,
        "timeout_seconds": task.timeout_seconds,
        "callback_url": task.callback_url or None,
        "webhook_events": task.webhook_events,
        "retry_of": str(task.retry_of_id) if task.retry_of_id else None,
        "webhooks": webhooks,
        **more,
    }
    if task.metadata is not None:
        body["metadata"] = orjson.Fragment(task.metadata)
    return body
