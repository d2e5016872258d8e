"""How are tasks looked up and listed: by id, and in pages?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db.models import QuerySet

from tasks_app.access.authentication import Access, scoped
from tasks_app.models import Task, TaskStatus
from tasks_app.state import find
from tasks_app.task_types import TASK_TYPES
from webhooks_app.api.fields import Choice, Moment, Named, ProjectId
from webhooks_app.api.pages import PageQuery, TimeCursor
from webhooks_app.api.problems import not_found
from webhooks_app.api.read import read_uuid
from webhooks_app.egress import MAX_URL_LENGTH
from webhooks_app.outbox import who


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
    host = Named(
        who.read_place,
        required=False,
        max_length=MAX_URL_LENGTH,
        help_text="Where the callback goes: a host, host:port, origin or URL.",
    )
    request_id = Named(
        who.read_request_id,
        required=False,
        max_length=64,
        help_text="`X-Request-ID` of the submit.",
    )
    metadata = Named(
        who.read_metadata,
        required=False,
        max_length=2 * who.LONGEST_METADATA + 1,
        help_text="One member of the metadata, as `key=value`.",
    )


class AllTaskFilters(TaskFilters):
    """The query string of the list of all tasks."""

    project_id = ProjectId(required=False)


_LOOKUPS = {"created_after": "created_at__gt", "created_before": "created_at__lt"}


def page_query(queryset: QuerySet[Task], asked: Mapping[str, Any]) -> QuerySet[Task]:
    """Return the tasks that a query string selects, newest first, starting after its cursor."""
    conditions = {
        _LOOKUPS.get(name, name): value
        for name, value in asked.items()
        if name not in ("cursor", "limit", "host", "metadata")
    }
    if "host" in asked:
        queryset = find.with_host(queryset, who.read_place(asked["host"]))
    if "metadata" in asked:
        queryset = find.with_metadata(queryset, asked["metadata"])
    return queryset.filter(**conditions).defer("task_data", "traceback")
