"""Which files is a task made from, and what if they are not there yet?

A task that names an asset which is still to be fetched is ``queued``, but not due: `settle` makes
it due when the last of its inputs is ready, or ends it when one has failed.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from django.db import connection
from django.db.models import Exists, OuterRef

from tasks_app import tickets
from tasks_app.models import (
    WAITS_FOR_INPUTS,
    AssetState,
    MediaFile,
    Task,
    TaskInput,
    TaskStatus,
)
from tasks_app.state import assets, lifecycle

logger = structlog.get_logger(__name__)

ERROR_CODE = "input_failed"
#: Tasks that one call ends because an input has failed.
FAILED_AT_ONCE = 100
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class InputValue:
    """What a client names as an input: an asset, a URL, or a file of another task.

    ``pointer``: where it stands in the request's body.
    """

    pointer: str
    name: str
    position: int
    asset: str = ""
    url: str = ""
    task: str = ""
    role: str = ""


@dataclass(frozen=True, slots=True)
class InputProblem:
    """Why a value cannot be an input."""

    pointer: str
    code: str
    message: str


class BadInputs(Exception):
    """Some of the inputs cannot be used."""

    def __init__(self, problems: list[InputProblem]) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = problems


def values_of(task_data: dict[str, Any], root: str = "/task_data") -> list[InputValue]:
    """Return the inputs that a validated ``task_data`` names."""
    found = []
    for name, given in (task_data.get("inputs") or {}).items():
        is_list = isinstance(given, list)
        for position, value in enumerate(given if is_list else [given]):
            pointer = f"{root}/inputs/{name}" + (f"/{position}" if is_list else "")
            found.append(InputValue(pointer, name, position, **value))
    return found


def look_up(
    project_id: str, values: Sequence[InputValue], *, is_final: bool = False
) -> tuple[dict[str, MediaFile], list[InputProblem]]:
    """Find the files that values name; nothing is found for a URL.

    Args:
        is_final: lock the files, so that none is deleted before the transaction ends.

    Returns: the file of each value by its pointer, and what is wrong.
    """
    wanted = {value.pointer: _file_id(project_id, value) for value in values if not value.url}
    ids = {file_id for file_id in wanted.values() if isinstance(file_id, str)}
    if is_final:
        _lock(ids)
    by_id = {row.pk: row for row in MediaFile.objects.filter(pk__in=ids, project_id=project_id)}
    others = {row.same_as for row in by_id.values() if row.same_as} - by_id.keys()
    for row in MediaFile.objects.filter(pk__in=others):
        by_id[row.pk] = row
    found: dict[str, MediaFile] = {}
    problems: list[InputProblem] = []
    for pointer, file_id in wanted.items():
        file = by_id.get(file_id) if isinstance(file_id, str) else None
        if file is not None and file.same_as:
            file = by_id.get(file.same_as)
        problem = file_id if isinstance(file_id, InputProblem) else _problem(pointer, file)
        if problem is not None:
            problems.append(problem)
        elif file is not None:
            found[pointer] = file
    return found, problems


def _lock(ids: set[str]) -> None:
    """Let nobody change these files before the transaction ends; in one order for all."""
    with connection.cursor() as cursor:
        lock = "SELECT id FROM tasks_app_mediafile WHERE id = ANY(%s) ORDER BY id FOR SHARE"
        cursor.execute(lock, [list(ids)])


def _file_id(project_id: str, value: InputValue) -> str | InputProblem:
    if value.asset:
        return value.asset
    unknown = InputProblem(value.pointer, "unknown_asset", "There is no such task.")
    if not _UUID.fullmatch(value.task):
        return unknown
    task = Task.objects.filter(pk=value.task, project_id=project_id).only("status").first()
    if task is None:
        return unknown
    if task.status != TaskStatus.COMPLETED:
        message = f"That task is {task.status}; it has no files yet."
        return InputProblem(value.pointer, "not_ready", message)
    role = value.role or "primary"
    file = MediaFile.objects.filter(task_id=task.pk, role=role).values_list("pk", flat=True).first()
    message = f'That task has no file "{role}".'
    return file or InputProblem(value.pointer, "unknown_asset", message)


def _problem(pointer: str, file: MediaFile | None) -> InputProblem | None:
    if file is None or file.state == AssetState.DELETING:
        return InputProblem(pointer, "unknown_asset", "There is no such asset in this project.")
    if file.state == AssetState.FAILED:
        message = f"This asset could not be fetched: {file.error_code}."
        return InputProblem(pointer, "asset_failed", message)
    return None


def bind(task: Task, values: Sequence[InputValue]) -> bool:
    """Store the inputs of a new task, in its own transaction; say whether all are ready.

    Raises:
        BadInputs: one cannot be used (any more).
        QuotaExceeded: too many URLs wait to be fetched.
    """
    found, problems = look_up(task.project_id, values, is_final=True)
    if problems:
        raise BadInputs(problems)
    by_url: dict[str, MediaFile] = {}
    rows = []
    for value in values:
        if value.url:
            if value.url not in by_url:
                by_url[value.url] = assets.insert_pending(task.project_id, value.url)
            file = by_url[value.url]
        else:
            file = found[value.pointer]
        rows.append(TaskInput(task=task, name=value.name, position=value.position, file=file))
    TaskInput.objects.bulk_create(rows)
    return all(row.file.state == AssetState.READY for row in rows)


_RELEASE = """
UPDATE tasks_app_task task SET available_at = now(), current_step = '', version = version + 1
WHERE status = 'queued' AND available_at >= %s
  AND (%s::text IS NULL
       OR id IN (SELECT task_id FROM tasks_app_taskinput WHERE file_id = %s))
  AND NOT EXISTS (
    SELECT 1 FROM tasks_app_taskinput input JOIN tasks_app_mediafile file ON file.id = input.file_id
    WHERE input.task_id = task.id AND file.state <> 'ready')
RETURNING id, task_type
"""


def settle(file_id: str | None = None) -> int:
    """Make tasks due whose inputs are all ready, and fail those with one that cannot be had.

    Args:
        file_id: only tasks that name this file, or that waited for it when it turned out to be
            another one; the sweep asks for all.

    Returns: how many tasks wait no longer.
    """
    if file_id is not None:
        same_as = MediaFile.objects.filter(pk=file_id).values_list("same_as", flat=True).first()
        file_id = same_as or file_id
    with connection.cursor() as cursor:
        cursor.execute(_RELEASE, [WAITS_FOR_INPUTS, file_id, file_id])
        released: list[tuple[uuid.UUID, str]] = cursor.fetchall()
    for task_id, task_type in released:
        logger.info("Task has its inputs", task_id=str(task_id))
        tickets.send_ticket(task_type, str(task_id))
    lost = TaskInput.objects.filter(task_id=OuterRef("pk")).exclude(
        file__state__in=[AssetState.PENDING, AssetState.READY]
    )
    waiting = Task.objects.filter(status=TaskStatus.QUEUED, available_at__gte=WAITS_FOR_INPUTS)
    if file_id is not None:
        waiting = waiting.filter(inputs__file_id=file_id)
    failed = list(waiting.filter(Exists(lost)).values_list("pk", flat=True)[:FAILED_AT_ONCE])
    for task_id in failed:
        lifecycle.fail_waiting(task_id, ERROR_CODE)
    return len(released) + len(failed)
