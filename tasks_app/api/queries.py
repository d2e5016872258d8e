"""How are tasks looked up and listed: by id, and in pages?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db.models import QuerySet

from tasks_app.access.authentication import Access, scoped
from tasks_app.models import Task, TaskStatus
from tasks_app.task_types import TASK_TYPES
from webhooks_app.api.fields import Choice, Moment, ProjectId
from webhooks_app.api.pages import PageQuery, TimeCursor
from webhooks_app.api.problems import not_found
from webhooks_app.api.read import read_uuid


def find_task(access: Access, task_id: str) -> Task:
    """Return a task that the key may see.

    Raises:
        ApiProblem: 404, the same for absent tasks, those of others and ids that are none.
    """
    task = scoped(Task.objects.all(), access).filter(pk=read_uuid(task_id)).first()
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
    return queryset.filter(**conditions).defer("task_data", "traceback")
