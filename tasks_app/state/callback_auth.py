"""Which credential do callbacks carry whose task names none, and which of ours name one?

The key's default comes first, then the project's. Both are remembered for a moment, since nearly
every event asks and hardly any installation changes them.
"""

from __future__ import annotations

import time
from typing import Any

from django.db.models import Q, QuerySet

from tasks_app.models import ApiKey, Project, Task, TaskStatus

REMEMBERED_SECONDS = 5.0
MOST_REMEMBERED = 10_000

#: (project, key) -> until when the answer may be used, and the answer.
_remembered: dict[tuple[str, Any], tuple[float, tuple[str, ...]]] = {}


def defaults(task: Task) -> tuple[str, ...]:
    """Return the names of a task's default credentials, nearest first; at most seconds old."""
    which = task.project_id, task.api_key_id
    until, names = _remembered.get(which, (0.0, ()))
    now = time.monotonic()
    if now >= until:
        names = _read(*which)
        if len(_remembered) >= MOST_REMEMBERED:
            _remembered.clear()
        _remembered[which] = now + REMEMBERED_SECONDS, names
    return names


def _read(project_id: str, key_id: Any) -> tuple[str, ...]:
    keys = ApiKey.objects.filter(pk=key_id) if key_id is not None else ApiKey.objects.none()
    projects = Project.objects.filter(pk=project_id)
    found = [*_named(keys), *_named(projects)]
    return tuple(found)


def _named(rows: QuerySet[Any]) -> list[str]:
    return list(rows.exclude(callback_auth="").values_list("callback_auth", flat=True))


def forget() -> None:
    """Read the defaults anew at the next event of this process."""
    _remembered.clear()


def users(scope: str, name: str) -> list[str]:
    """Return in words which keys, projects and tasks under way name a project's credential."""
    keys = ApiKey.objects.filter(
        Q(project_id=scope) | Q(project_id=None), callback_auth=name, revoked=False
    ).count()
    tasks = Task.objects.filter(
        project_id=scope,
        status__in=(TaskStatus.QUEUED, TaskStatus.PROCESSING),
        callback_auth=name,
    ).count()
    found = [_counted(keys, "API key"), _counted(tasks, "task under way", "tasks under way")]
    if Project.objects.filter(pk=scope, callback_auth=name).exists():
        found.append("the project's default")
    return [text for text in found if text]


def _counted(number: int, one: str, many: str = "") -> str:
    if not number:
        return ""
    return f"{number} {one if number == 1 else many or one + 's'}"
