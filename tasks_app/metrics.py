"""Which figures do the tasks give to Prometheus?

As in `webhooks_app.metrics`, processes count what they do, and the database is asked for what is
waiting and running, at a cost that does not grow with the history. Labels are task types, states
and error codes; never a project, a task or a prompt.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal

from django.db import connection
from prometheus_client import Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics import MetricWrapperBase

from tasks_app import failures
from tasks_app.models import TERMINAL_STATUSES, Task, TaskStatus
from tasks_app.task_types import TASK_TYPES
from webhooks_app.metrics import COUNT_LIMIT

submitted = Counter("movies_tasks_submitted", "Tasks accepted.", ["task_type"])
ended = Counter("movies_tasks_ended", "Tasks that ended, by how.", ["task_type", "status"])
duration_seconds = Histogram(
    "movies_task_duration_seconds",
    "From the start of a task's last attempt to its end.",
    ["task_type", "status"],
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800),
)
wait_seconds = Histogram(
    "movies_task_wait_seconds",
    "From when a task fell due to when a worker took it.",
    ["task_type"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
)
attempts_failed = Counter(
    "movies_task_attempts_failed",
    "Attempts at a task that failed, tried again or not.",
    ["task_type", "error_code"],
)
workers_lost = Counter(
    "movies_task_workers_lost", "Times that a task's worker vanished.", ["task_type"]
)
remote_jobs_ended = Counter(
    "movies_remote_jobs_ended",
    "Jobs at providers elsewhere that ended, by how; unclear ones were perhaps paid.",
    ["provider", "server", "outcome"],
)

cost = Counter(
    "movies_cost",
    "What was booked for work, also what is not clear to have been paid.",
    ["currency", "provider"],
)


def collectors() -> list[MetricWrapperBase]:
    """Return every metric that processes count in this module."""
    return [
        *(submitted, ended, duration_seconds, wait_seconds, attempts_failed, workers_lost),
        *(cost, remote_jobs_ended),
    ]


def prepare() -> None:
    """Create every series, so that each exists with value 0 before anything has happened."""
    for name in TASK_TYPES:
        submitted.labels(name)
        workers_lost.labels(name)
        wait_seconds.labels(name)
        for status in TERMINAL_STATUSES:
            ended.labels(name, status)
        for status in (TaskStatus.COMPLETED, TaskStatus.FAILED):
            duration_seconds.labels(name, status)
        for code in failures.ERROR_CODES:
            attempts_failed.labels(name, code)


def task_submitted(task: Task) -> None:
    """Count a task whose row is committed."""
    submitted.labels(task.task_type).inc()


def task_started(task: Task) -> None:
    """Record how long a task waited until a worker claimed it."""
    wait_seconds.labels(task.task_type).observe(_between(task.available_at, task.started_at))


def task_ended(task: Task) -> None:
    """Count a task that reached a terminal state, and record how long its work took."""
    ended.labels(task.task_type, task.status).inc()
    if task.status == TaskStatus.FAILED:
        attempt_failed(task, task.error_code)
    if task.status != TaskStatus.CANCELLED:
        seconds = _between(task.started_at, task.finished_at)
        duration_seconds.labels(task.task_type, task.status).observe(seconds)


def attempt_failed(task: Task, error_code: str) -> None:
    """Count a failed attempt; all of a provider's own codes share one label value."""
    attempts_failed.labels(task.task_type, failures.error_code(error_code).name).inc()


def cost_booked(amount: Decimal, currency: str, provider: str) -> None:
    """Count money that was booked; a figure for graphs, the exact sums are in the database."""
    cost.labels(currency, provider).inc(float(amount))


def worker_lost(task: Task) -> None:
    """Count a worker that vanished while it worked on a task."""
    workers_lost.labels(task.task_type).inc()


def remote_job_ended(provider: str, server: str, outcome: str) -> None:
    """Count the end of a job at a provider; a server's label comes from the configuration."""
    remote_jobs_ended.labels(provider, server, outcome).inc()


def _between(start: datetime | None, end: datetime | None) -> float:
    return max(0.0, (end - start).total_seconds()) if start and end else 0.0


# -- the database's figures -----------------------------------------------------------------------

_TASKS = """
SELECT kind.name, state.name, (SELECT count(*) FROM (
  SELECT 1 FROM tasks_app_task task
  WHERE task.status = state.name AND task.task_type = kind.name
    AND task.status IN ('queued', 'processing') LIMIT %s) counted)
FROM unnest(%s::text[]) AS kind(name), unnest(ARRAY['queued', 'processing']) AS state(name)
"""

# The oldest due task of each priority: a few rows of one index, however long the queue is. Ranges
# and order match that index alone; with "=" the planner took one of all tasks of the type, and read
# past each of another priority.
_OLDEST_DUE = """
SELECT kind.name, greatest(0, max(extract(epoch FROM now() - first.available_at)))::float8
FROM unnest(%s::text[]) AS kind(name) CROSS JOIN generate_series(1, 3) AS level(priority)
LEFT JOIN LATERAL (
  SELECT available_at FROM tasks_app_task
  WHERE status = 'queued' AND available_at <= now()
    AND task_type BETWEEN kind.name AND kind.name
    AND priority BETWEEN level.priority AND level.priority
  ORDER BY task_type, priority, created_at, id LIMIT 1) first ON true
GROUP BY 1
"""


def database_gauges() -> Iterator[GaugeMetricFamily]:
    """Read from the database what is waiting and running.

    Raises:
        django.db.DatabaseError: it cannot be reached.
    """
    text = f"Tasks that have not ended, by type and state, each counted up to {COUNT_LIMIT}."
    tasks = GaugeMetricFamily("movies_tasks", text, labels=["task_type", "status"])
    oldest = GaugeMetricFamily(
        "movies_task_oldest_due_seconds",
        "How long the oldest due task of a type has been waiting for a worker.",
        labels=["task_type"],
    )
    for kind, status, count in waiting_and_running(COUNT_LIMIT):
        tasks.add_metric([kind, status], count)
    for kind, seconds in oldest_due().items():
        oldest.add_metric([kind], seconds)
    yield tasks
    yield oldest


def waiting_and_running(limit: int) -> list[tuple[str, str, int]]:
    """Return type, state and number of the tasks that have not ended, counted up to a limit."""
    with connection.cursor() as cursor:
        cursor.execute(_TASKS, [limit, list(TASK_TYPES)])
        return list(cursor.fetchall())


def oldest_due() -> dict[str, float]:
    """Return how long the oldest due task of each type has waited for a worker, in seconds."""
    with connection.cursor() as cursor:
        cursor.execute(_OLDEST_DUE, [list(TASK_TYPES)])
        return {kind: seconds or 0.0 for kind, seconds in cursor.fetchall()}
