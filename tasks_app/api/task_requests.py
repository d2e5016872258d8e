"""What may a client ask us to do? The body of a submit, read as a whole."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rest_framework.exceptions import ErrorDetail, ValidationError

from tasks_app import events, providers
from tasks_app.api.task_data import serializer_for
from tasks_app.api.task_fields import PriorityField
from tasks_app.api.task_inputs import input_problems, without_alias
from tasks_app.models import Priority
from tasks_app.task_types import TASK_TYPES
from webhooks_app.api.access import host_problems
from webhooks_app.api.credentials import CredentialName, not_bound
from webhooks_app.api.fields import (
    CallbackUrl,
    Choice,
    FreeObject,
    Items,
    ProjectId,
    RetryPolicy,
    Whole,
)
from webhooks_app.api.problems import FieldProblem, field_problems
from webhooks_app.api.read import Given, Members, StrictObject
from webhooks_app.operators.credentials import NotBound, check_usable

MAX_METADATA_BYTES = 16_384
MAX_TASK_DATA_BYTES = 65_536
_ROOT = "/task_data"
LONGEST_TIMEOUT = max(task_type.max_timeout_seconds for task_type in TASK_TYPES.values())


class SubmitRequest(StrictObject):
    """The body of ``POST tasks/submit``; ``task_data`` is the business of `task_data`."""

    project_id = ProjectId()
    task_type = Choice(list(TASK_TYPES))
    callback_url = CallbackUrl(required=False)
    task_data = FreeObject()
    metadata = FreeObject(required=False)
    priority = PriorityField(
        default=Priority.NORMAL,
        help_text="By default normal; 1, 2 and 3 mean the same as the words.",
    )
    timeout_seconds = Whole(1, LONGEST_TIMEOUT, required=False)
    webhook_events = Items(
        child=Choice(list(events.EVENT_TYPES)), most=len(events.EVENT_TYPES), required=False
    )
    retry_policy = RetryPolicy(required=False)
    callback_auth = CredentialName(
        required=False, help_text="The project's credential that the callbacks carry, by name."
    )

    def check(self, values: Members, data: Given, errors: Members) -> None:
        """Check the time-out against the type's maximum; remove duplicate events."""
        task_type = TASK_TYPES.get(values.get("task_type", ""))
        longest = task_type.max_timeout_seconds if task_type else LONGEST_TIMEOUT
        if values.get("timeout_seconds", 0) > longest:
            message = f"Must be from 1 to {longest} seconds."
            errors["timeout_seconds"] = [ErrorDetail(message, "out_of_range")]
        if "webhook_events" in values:
            values["webhook_events"] = list(dict.fromkeys(values["webhook_events"]))


_SUBMIT = SubmitRequest()


def read_submit(
    document: Any, raw: Mapping[str, str], callback_hosts: list[str], scope: str | None
) -> tuple[dict[str, Any], list[FieldProblem]]:
    """Validate a submit as a whole.

    Args:
        raw: the text of each top-level value as sent.
        callback_hosts: the only hosts that the key's callbacks may go to; empty for any.
        scope: the only project whose files the key may see; None for all.
    Returns: the validated fields, and everything that is wrong with the request.
    """
    try:
        values = _SUBMIT.run_validation(document)
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
            is_ours = "project_id" in values and scope in (None, values["project_id"])
            if is_ours and not more:
                problems += _of_inputs(values, known_type)
    problems += _too_long("/metadata", raw.get("metadata", ""), MAX_METADATA_BYTES)
    if url := values.get("callback_url"):
        problems += host_problems(callback_hosts, url, "/callback_url")
    if "callback_auth" in values and scope in (None, values.get("project_id")):
        problems += _of_auth(values)
    return values, problems


def _of_auth(values: dict[str, Any]) -> list[FieldProblem]:
    """Return what is wrong with the credential that a task names."""
    if "project_id" not in values:  # which is a problem already
        return []
    if "callback_url" not in values:
        message = "It is for the requests to a callback_url; give one that may be called."
        return [{"pointer": "/callback_auth", "code": "not_allowed", "message": message}]
    try:
        check_usable(values["project_id"], values["callback_auth"], values["callback_url"])
    except NotBound as refused:
        return [not_bound(refused)]
    return []


def _of_inputs(values: dict[str, Any], task_type: str) -> list[FieldProblem]:
    """Put the reference images of a scene among the inputs; return what is wrong with those."""
    is_alias = "reference_images" in (values["task_data"].get("scene_data") or {})
    values["task_data"] = without_alias(values["task_data"])
    return input_problems(values["project_id"], task_type, values["task_data"], is_alias=is_alias)


def check_task_data(
    task_type: str, task_data: Any, raw: str = ""
) -> tuple[dict[str, Any], list[FieldProblem]]:
    """Validate against the type's schema, then against its provider's own limits.

    Args:
        raw: the text that the client sent, for its size.
    Returns: what the client said, and the problems with pointers from the body's root.
    """
    if problems := _too_long(_ROOT, raw, MAX_TASK_DATA_BYTES):
        return {}, problems
    serializer = serializer_for(TASK_TYPES[task_type].schema)
    try:
        clean: dict[str, Any] = serializer.run_validation(task_data)
    except ValidationError as error:
        return {}, field_problems(error.detail, _ROOT)
    problems = _provider_problems(task_type, clean)
    if "prompt" in task_data:  # which was moved, but the client knows it where it was
        for problem in problems:
            if re.fullmatch(f"{_ROOT}/\\w+_data/prompt", problem["pointer"]):
                problem["pointer"] = f"{_ROOT}/prompt"
    return clean, problems


def _provider_problems(task_type: str, task_data: dict[str, Any]) -> list[FieldProblem]:
    try:
        chain = providers.get_providers(task_type)
    except providers.UnknownProvider as error:
        return [{"pointer": "/task_type", "code": "unsupported_by_provider", "message": str(error)}]
    named = task_data.get("provider")
    if named is not None and named != chain[0].name:
        message = f'The provider of {task_type} is "{chain[0].name}".'
        return [{"pointer": f"{_ROOT}/provider", "code": "not_allowed", "message": message}]
    found: list[FieldProblem] = []
    for provider in chain if named is None else chain[:1]:  # a named one has nobody after it
        by = "" if provider is chain[0] else f" ({provider.name} may have to stand in.)"
        known = {(problem["pointer"], problem["code"]) for problem in found}
        for fault in provider.validate(task_type, task_data):
            pointer = _ROOT + fault.pointer.removeprefix(_ROOT)
            if (pointer, fault.code) not in known:
                message = fault.message + by
                found.append({"pointer": pointer, "code": fault.code, "message": message})
    return found


def _too_long(pointer: str, text: str, most: int) -> list[FieldProblem]:
    if len(text.encode()) <= most:
        return []
    return [{"pointer": pointer, "code": "too_long", "message": f"At most {most} bytes."}]
