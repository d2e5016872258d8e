"""How are tasks looked up and listed? By key, in pages, with their webhooks in one more query."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from django.db.models import QuerySet

from tasks_app.access.authentication import Access, scoped
from tasks_app.api.task_requests import moment
from tasks_app.models import Task, TaskStatus
from tasks_app.task_types import TASK_TYPES
from webhooks_app.api.fields import Choice, Moment, PageQuery, ProjectId, TimeCursor
from webhooks_app.api.problems import not_found
from webhooks_app.models import MessageStatus, WebhookMessage

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def find_task(access: Access, task_id: str) -> Task:
    """Return a task that the key may see.

    Raises:
        ApiProblem: 404, the same for absent tasks, those of others and ids that are none.
    """
    if not _UUID.fullmatch(task_id):
        raise not_found()
    task = scoped(Task.objects.all(), access).filter(pk=uuid.UUID(task_id)).first()
    if task is None:
        raise not_found()
    assert isinstance(task, Task)
    return task


class TaskFilters(PageQuery):
    """The query string of a project's list of tasks."""

    cursor = TimeCursor()
    status = Choice(TaskStatus.values, required=False)
    task_type = Choice(list(TASK_TYPES), required=False)
    created_after = Moment(required=False)
    created_before = Moment(required=False)


class AllTaskFilters(TaskFilters):
    """The query string of the list of all tasks."""

    project_id = ProjectId(required=False)


_LOOKUPS = {"created_after": "created_at__gt", "created_before": "created_at__lt"}


def page_query(queryset: QuerySet[Task], asked: Mapping[str, Any]) -> QuerySet[Task]:
    """Return the tasks that a query string selects, newest first, starting after its cursor."""
    conditions = {
        _LOOKUPS.get(name, name): value
        for name, value in asked.items()
        if name not in ("cursor", "limit")
    }
    return queryset.filter(**conditions).defer("task_data", "traceback", "remote_state")


NO_WEBHOOKS: Mapping[str, Any] = {
    "state": "none",
    "messages": 0,
    "attempts": 0,
    "last_status_code": None,
    "last_error": None,
    "next_attempt_at": None,
    "delivered_at": None,
}
#: The state that represents several messages: pending ones first, then failures.
_LOUDEST = (
    MessageStatus.PENDING,
    MessageStatus.DEAD,
    MessageStatus.DELIVERED,
    MessageStatus.CANCELLED,
    MessageStatus.SUPERSEDED,
)


def webhook_summaries(tasks: Sequence[Task]) -> dict[str, Mapping[str, Any]]:
    """Return the webhook summary of each task by its id; one query for all."""
    messages = WebhookMessage.objects.filter(event__subject__in=[str(task.id) for task in tasks])
    by_task: dict[str, list[Any]] = {}
    for row in messages.order_by("id").values(
        "event__subject",
        "status",
        "attempt_count",
        "last_status_code",
        "last_error_code",
        "next_attempt_at",
        "delivered_at",
    ):
        by_task.setdefault(row["event__subject"], []).append(row)
    return {
        str(task.id): _summary(by_task[str(task.id)]) if str(task.id) in by_task else NO_WEBHOOKS
        for task in tasks
    }


def _summary(rows: list[Any]) -> Mapping[str, Any]:
    states = {row["status"] for row in rows}
    state = next(state for state in _LOUDEST if state in states)
    last = next(row for row in reversed(rows) if row["status"] == state)
    due = [row["next_attempt_at"] for row in rows if row["next_attempt_at"]]
    delivered = [row["delivered_at"] for row in rows if row["delivered_at"]]
    return {
        "state": str(state),
        "messages": len(rows),
        "attempts": sum(row["attempt_count"] for row in rows),
        "last_status_code": last["last_status_code"],
        "last_error": last["last_error_code"] or None,
        "next_attempt_at": moment(min(due)) if due else None,
        "delivered_at": moment(max(delivered)) if delivered else None,
    }
