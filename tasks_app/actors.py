"""Which Dramatiq functions are there? One per task type, which works on a ticket; one fetches.

The argument is the task that caused the ticket and serves the log only: the database decides which
task is claimed. Dramatiq's own retries are off, since they can lose messages; a retry is a row with
a due time instead.
"""

from __future__ import annotations

from typing import Any

import dramatiq

from tasks_app.assets import fetch
from tasks_app.task_types import TASK_TYPES, TaskType
from tasks_app.tickets import FETCH, FETCH_QUEUE
from tasks_app.work import run_next

#: Dramatiq's time limit as a multiple of the task's; normally `work` ends the task first.
BACKSTOP_FACTOR = 2
#: Many assets are fetched on one ticket, each within limits of its own.
FETCH_LIMIT_MS = 24 * 3600 * 1000


def _actor(task_type: TaskType) -> dramatiq.Actor[Any, Any]:
    def work(task_id: str) -> None:
        run_next(task_type.name)

    decorate = dramatiq.actor(
        actor_name=task_type.name,
        queue_name=task_type.queue,
        max_retries=0,
        time_limit=BACKSTOP_FACTOR * task_type.max_timeout_seconds * 1000,
    )
    return decorate(work)


def _fetch(asset_id: str) -> None:
    fetch.fetch_due()


ACTORS: dict[str, dramatiq.Actor[Any, Any]] = {
    name: _actor(task_type) for name, task_type in TASK_TYPES.items()
} | {
    FETCH: dramatiq.actor(
        actor_name=FETCH, queue_name=FETCH_QUEUE, max_retries=0, time_limit=FETCH_LIMIT_MS
    )(_fetch)
}
