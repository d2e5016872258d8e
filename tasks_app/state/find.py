"""Which tasks does somebody mean, and how do their webhooks stand?

`outbox.who` reads the words.
Lists of the API and searches of the admin share it. Each form has an index behind it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import reduce
from operator import or_
from typing import Any, TypeVar

from django.db.models import Model, Q, QuerySet

from tasks_app.models import CALLBACK_HOST, Task, TaskInput
from webhooks_app.models import (
    WAITS_FOR_PREDECESSOR,
    MessageStatus,
    WebhookDestination,
    WebhookEvent,
    WebhookMessage,
)
from webhooks_app.notation import DEFAULT_PORTS, UUID_TEXT, rfc3339
from webhooks_app.outbox import who
from webhooks_app.outbox.who import Ids, Kind, Meaning, Place

_ASSET_ID = re.compile("[0-9a-f]{16,32}")
Row = TypeVar("Row", bound=Model)
#: The state that represents several messages: pending ones first, then failures.
_LOUDEST = (
    MessageStatus.PENDING,
    MessageStatus.DEAD,
    MessageStatus.DELIVERED,
    MessageStatus.REPLAYED,
    MessageStatus.SET_ASIDE,
    MessageStatus.CANCELLED,
    MessageStatus.SUPERSEDED,
)
#: The most hosts that are searched for one beginning.
MAX_HOSTS = 50
#: The most tasks that are named by one id's beginning, or by messages in one state.
MAX_TASKS = 300


def with_host(tasks: QuerySet[Task], place: Place) -> QuerySet[Task]:
    """Filter tasks by where their callback goes."""
    return tasks.alias(callback_host=CALLBACK_HOST).filter(_host_condition(place))


def with_metadata(tasks: QuerySet[Task], asked: str) -> QuerySet[Task]:
    """Filter tasks by one ``key=value`` of their metadata."""
    return tasks.filter(who.metadata_condition(Task, "metadata_values", asked))


def search_tasks(tasks: QuerySet[Any], term: str) -> QuerySet[Any]:
    """Filter tasks by what the term names; these functions raise `InvalidFilter`."""
    found = [condition for meaning in who.meanings(term) for condition in _conditions(meaning)]
    rows: QuerySet[Any] = tasks.alias(callback_host=CALLBACK_HOST)
    if len(found) > 1:
        # Each by an index of its own; together they would be too much for the planner.
        found = [condition for condition in found if rows.order_by().filter(condition).exists()]
    return rows.filter(reduce(or_, found)) if found else rows.none()


def search_by_task(rows: QuerySet[Row], term: str, own: str = "") -> QuerySet[Row]:
    """Filter what belongs to tasks: by its own id, if there is an ``own``, or by its tasks."""
    tasks = search_tasks(Task.objects.all(), term).order_by("-created_at")
    named = Q(task__in=list(tasks.values_list("pk", flat=True)[:MAX_TASKS]))
    for meaning in who.meanings(term) if own else ():
        if isinstance(meaning.value, Ids):
            named |= meaning.value.within(own)
    return rows.filter(named)


def search_assets(assets: QuerySet[Any], term: str) -> QuerySet[Any]:
    """Filter assets by their own id, by project, or by the tasks that are made from them."""
    if _ASSET_ID.fullmatch(term.strip()):
        own = assets.filter(pk=term.strip())
        if own.exists():
            return own
    read = who.meanings(term)
    projects = [meaning.value for meaning in read if meaning.kind == Kind.PROJECT]
    tasks = search_tasks(Task.objects.all(), term).order_by("-created_at")
    used = TaskInput.objects.filter(task__in=list(tasks.values_list("pk", flat=True)[:MAX_TASKS]))
    files = Q(pk__in=list(used.values_list("file", flat=True)))
    return assets.filter(files | Q(project_id__in=projects))


def search_costs(costs: QuerySet[Any], term: str) -> QuerySet[Any]:
    """Filter the ledger by what the term names: a project, or tasks. It outlives both."""
    named = []
    for meaning in who.meanings(term):
        if meaning.kind == Kind.PROJECT:
            named.append(Q(project_id=meaning.value))
        elif isinstance(meaning.value, Ids):
            named.append(meaning.value.within("task_id"))
        else:
            tasks = Task.objects.alias(callback_host=CALLBACK_HOST).order_by("-created_at")
            found = tasks.filter(*_conditions(meaning)).values_list("pk", flat=True)
            named.append(Q(task_id__in=list(found[:MAX_TASKS])))
    return costs.filter(reduce(or_, named))


def with_webhook(tasks: QuerySet[Row], status: str) -> QuerySet[Row]:
    """Filter tasks to those of the newest messages in one state."""
    messages = WebhookMessage.objects.filter(status=status).order_by("-id")
    subjects = messages.values_list("event__subject", flat=True)[:MAX_TASKS]
    return tasks.filter(pk__in=_task_ids(subjects))


def _conditions(meaning: Meaning) -> list[Q]:
    if meaning.kind == Kind.TASK:
        return [meaning.value.within("pk")] if isinstance(meaning.value, Ids) else []
    if meaning.kind == Kind.PROJECT:
        return [Q(project_id=meaning.value)]
    if meaning.kind == Kind.REQUEST:
        return [Q(request_id=meaning.value) & ~Q(request_id="")]
    if meaning.kind == Kind.HOST:
        return [_host_condition(meaning.value)]
    if meaning.kind == Kind.METADATA:
        return [who.metadata_condition(Task, "metadata_values", meaning.value)]
    return [Q(pk__in=_task_ids(_subjects(meaning)))]


def _subjects(meaning: Meaning) -> Iterable[str]:
    """Return the subjects of messages, by a message's number or its event's id."""
    events = WebhookEvent.objects.values_list("subject", flat=True)
    if meaning.kind == Kind.ROW:
        return events.filter(messages=meaning.value)
    return events.filter(who.event_id_condition(meaning.value, "event_id"))[:MAX_TASKS]


def _task_ids(subjects: Iterable[str]) -> list[str]:
    """Return the subjects that are ids of tasks: pings have others."""
    return [text for text in dict.fromkeys(subjects) if re.fullmatch(UUID_TEXT, text)]


def _host_condition(place: Place) -> Q:
    """Return the condition on ``callback_host``, which the query must have as an alias."""
    hosts = {place.host}
    if place.is_beginning:
        known = WebhookDestination.objects.filter(place.condition).values_list("host", flat=True)
        hosts.update(known.distinct()[:MAX_HOSTS])
    names = sorted(f"[{host}]" if ":" in host else host for host in hosts)
    found = ~Q(callback_url="") & Q(callback_host__in=names)
    if not place.scheme and not place.port:
        return found
    origins = []
    for scheme, default in DEFAULT_PORTS.items():
        if place.scheme in ("", scheme):
            # The scheme's own port need not be named.
            port = f"(:{place.port})" + ("?" if place.port == default else "")
            origins.append(f"{scheme}://{re.escape(names[0])}{port}")
    return found & Q(callback_url__iregex=f"^({'|'.join(origins)})([/?]|$)")


def webhooks_of(tasks: Sequence[Task]) -> dict[str, dict[str, Any]]:
    """Return the summary of each task's webhooks by its id; one query for all."""
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
    return {str(task.id): _summary(by_task.get(str(task.id), [])) for task in tasks}


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    states = {row["status"] for row in rows}
    state = next((state for state in _LOUDEST if state in states), "none")
    last: dict[str, Any] = next((row for row in reversed(rows) if row["status"] == state), {})
    times = [row["next_attempt_at"] for row in rows if row["next_attempt_at"]]
    due = [time for time in times if time < WAITS_FOR_PREDECESSOR]
    delivered = [row["delivered_at"] for row in rows if row["delivered_at"]]
    return {
        "state": str(state),
        "messages": len(rows),
        "attempts": sum(row["attempt_count"] for row in rows),
        "last_status_code": last.get("last_status_code"),
        "last_error": last.get("last_error_code") or None,
        "next_attempt_at": _moment(min(due)) if due else None,
        "delivered_at": _moment(max(delivered)) if delivered else None,
    }


def _moment(value: datetime | None) -> str | None:
    return None if value is None else rfc3339(value)
