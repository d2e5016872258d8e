"""How are tasks looked up and listed: by key, in pages, with their webhooks in one query more?"""

from __future__ import annotations

import base64
import binascii
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
from django.db.models import Q, QuerySet
from django.http import QueryDict
from django.utils.dateparse import parse_datetime

from tasks_app.authentication import Access, scoped
from tasks_app.fields import did_you_mean
from tasks_app.models import Task, TaskStatus
from tasks_app.serializers import is_project_id, moment
from tasks_app.task_types import TASK_TYPES
from webhooks_app.models import MessageStatus, WebhookMessage
from webhooks_app.problems import FieldProblem, invalid, not_found

PAGE_SIZE = 25
MAX_PAGE_SIZE = 100
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


@dataclass
class Page:
    """One page of a list: what the query string asked for."""

    filters: Q
    size: int
    after: tuple[datetime, uuid.UUID] | None


@dataclass
class _Query:
    """A query string under examination; collects every fault."""

    given: QueryDict
    problems: list[FieldProblem] = field(default_factory=list)

    def fault(self, name: str, code: str, message: str) -> None:
        problem: FieldProblem = {"pointer": "", "code": code, "message": message, "parameter": name}
        self.problems.append(problem)

    def one_of(self, name: str, known: Sequence[str]) -> str | None:
        value = self.given.get(name)
        if value is not None and value not in known:
            hint = did_you_mean(value[:100], known)
            self.fault(name, "not_allowed", f"Must be one of: {', '.join(known)}.{hint}")
            return None
        return value

    def time(self, name: str) -> datetime | None:
        value = self.given.get(name)
        if value is None:
            return None
        try:
            moment = parse_datetime(value)
            if moment is not None:
                # Without a zone it is UTC; converting also finds years that UTC cannot hold.
                return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
        except (ValueError, OverflowError):
            pass
        self.fault(name, "bad_format", "Use RFC 3339, for example 2025-01-15T10:35:30Z.")
        return None

    def whole(self, name: str, least: int, most: int, default: int) -> int:
        value = self.given.get(name)
        if value is None:
            return default
        if not re.fullmatch(r"-?[0-9]{1,9}", value, re.ASCII):
            self.fault(name, "bad_type", "Must be a whole number.")
        elif not least <= int(value) <= most:
            self.fault(name, "out_of_range", f"Must be from {least} to {most}.")
        else:
            return int(value)
        return default

    def only(self, known: Iterable[str]) -> None:
        names = list(known)
        for name in self.given:
            if name not in names:
                hint = did_you_mean(name[:100], names)
                self.fault(name[:100], "unknown_field", f"There is no such parameter.{hint}")
            elif len(self.given.getlist(name)) > 1:
                self.fault(name, "bad_format", "Give it once.")


def read_page(given: QueryDict, *, is_of_project: bool = False) -> Page:
    """Read the query string of a list.

    Raises:
        ApiProblem: 422 with everything that is wrong with it.
    """
    query = _Query(given)
    names = ["status", "task_type", "created_after", "created_before", "cursor", "limit"]
    query.only(names if is_of_project else [*names, "project_id"])
    filters = Q()
    for name, known in (("status", TaskStatus.values), ("task_type", list(TASK_TYPES))):
        if (value := query.one_of(name, known)) is not None:
            filters &= Q(**{name: value})
    if not is_of_project and (project := given.get("project_id")) is not None:
        if not is_project_id(project):
            query.fault("project_id", "bad_format", "Use letters, digits, '_' or '-'.")
        filters &= Q(project_id=project)
    if (after := query.time("created_after")) is not None:
        filters &= Q(created_at__gt=after)
    if (before := query.time("created_before")) is not None:
        filters &= Q(created_at__lt=before)
    size = query.whole("limit", 1, MAX_PAGE_SIZE, PAGE_SIZE)
    cursor = _read_cursor(query)
    if query.problems:
        raise invalid(query.problems)
    return Page(filters, size, cursor)


def _read_cursor(query: _Query) -> tuple[datetime, uuid.UUID] | None:
    text = query.given.get("cursor")
    if text is None:
        return None
    try:
        created, task_id = orjson.loads(base64.urlsafe_b64decode(text.encode("ascii")))
        return datetime.fromisoformat(created).astimezone(UTC), uuid.UUID(task_id)
    except (ValueError, TypeError, AttributeError, OverflowError, binascii.Error):
        query.fault("cursor", "bad_format", "Take the cursor from next_cursor of the page before.")
        return None


def cursor_of(task: Task) -> str:
    """Return the place just after this task in a list."""
    place = orjson.dumps([moment(task.created_at), str(task.id)])
    return base64.urlsafe_b64encode(place).decode()


def page_query(queryset: QuerySet[Task], page: Page) -> QuerySet[Task]:
    """Return the tasks from a page's place on."""
    queryset = queryset.filter(page.filters).order_by("-created_at", "-id")
    if page.after is not None:
        created_at, task_id = page.after
        # The first condition is implied by the second and is what the index can use.
        queryset = queryset.filter(created_at__lte=created_at).exclude(
            created_at=created_at, id__gte=task_id
        )
    return queryset.defer("task_data", "traceback", "remote_state")


def read_tasks(queryset: QuerySet[Task], page: Page) -> tuple[list[Task], str | None]:
    """Return one page, newest first, and the cursor of the next one.

    A page is found by its place in the index, so page 10,000 costs what page 1 does, and tasks
    that arrive meanwhile shift nothing.
    """
    tasks = list(page_query(queryset, page)[: page.size + 1])
    if len(tasks) <= page.size:
        return tasks, None
    tasks = tasks[: page.size]
    return tasks, cursor_of(tasks[-1])


NO_WEBHOOKS: Mapping[str, Any] = {
    "state": "none",
    "messages": 0,
    "attempts": 0,
    "last_status_code": None,
    "last_error": None,
    "next_attempt_at": None,
    "delivered_at": None,
}
#: Which state speaks for several messages: what is still owed first, then what went wrong.
_LOUDEST = (
    MessageStatus.PENDING,
    MessageStatus.DEAD,
    MessageStatus.DELIVERED,
    MessageStatus.CANCELLED,
    MessageStatus.SUPERSEDED,
)


def webhook_summaries(tasks: Sequence[Task]) -> dict[str, Mapping[str, Any]]:
    """Return, by task id, how the telling of each task's events goes; one query for all."""
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
