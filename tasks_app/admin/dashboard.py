"""How well do tasks work? The task half of the dashboard: SQL and charts.

The same rules as in `webhooks_app.admin.dashboard`: a fixed number of statements, on indexes,
cached.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.urls import reverse

from tasks_app import metrics
from tasks_app.task_types import TASK_TYPES
from webhooks_app.admin.bars import Row, row
from webhooks_app.admin.dashboard import COUNT_LIMIT, Range, bounded, cached, rows_of
from webhooks_app.operators.explain import seconds_text

_OLDEST = (
    "SELECT extract(epoch FROM now() - min(created_at)) FROM tasks_app_task WHERE status = 'queued'"
)

_DURATIONS = """
SELECT task_type, count(*),
       percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP
         (ORDER BY extract(epoch FROM finished_at - started_at)::float8)
  FROM tasks_app_task
 WHERE status = 'completed' AND task_type = ANY(%s) AND finished_at >= %s
 GROUP BY task_type"""


def task_charts(chosen: Range, now: datetime) -> dict[str, Any]:
    """Return the cards and charts about tasks."""

    def compute() -> dict[str, Any]:
        depth = metrics.waiting_and_running(COUNT_LIMIT + 1)
        oldest = rows_of(_OLDEST, None)[0][0]
        durations = rows_of(_DURATIONS, [list(TASK_TYPES), chosen.since(now)])
        return {
            "cards": _cards(depth, oldest),
            "queue": _queue(depth),
            "slowest": _slowest(durations),
        }

    return cached(f"dashboard:tasks:{chosen.name}", compute)


def _cards(depth: list[tuple[str, str, int]], oldest: float | None) -> list[dict[str, str]]:
    queued = sum(count for _, state, count in depth if state == "queued")
    running = sum(count for _, state, count in depth if state == "processing")
    page = reverse("admin:tasks_app_task_changelist")
    waiting = f"oldest: {seconds_text(float(oldest))}" if oldest is not None else ""
    return [
        {
            "name": "Queued tasks",
            "note": waiting,
            "value": bounded(queued),
            "tone": "",
            "link": f"{page}?status=queued",
        },
        {
            "name": "Running tasks",
            "value": bounded(running),
            "tone": "",
            "link": f"{page}?status=processing",
        },
    ]


def _queue(depth: list[tuple[str, str, int]]) -> list[Row]:
    counts = {(kind, state): count for kind, state, count in depth}
    both = [(kind, counts[kind, "processing"], counts[kind, "queued"]) for kind in TASK_TYPES]
    longest = max(running + queued for _, running, queued in both)
    page = reverse("admin:tasks_app_task_changelist")
    return [
        row(
            kind.replace("_", " "),
            f"{bounded(running)} running, {bounded(queued)} queued",
            [("info", running, f"{running:,} running"), ("base", queued, f"{queued:,} queued")],
            longest,
            link=f"{page}?task_type={kind}",
        )
        for kind, running, queued in (both if longest else ())
    ]


def _slowest(durations: list[tuple[Any, ...]]) -> list[Row]:
    ordered = sorted(durations, key=lambda entry: -(entry[2][1] or 0))
    longest = max((entry[2][1] or 0 for entry in ordered), default=0)
    return [
        row(
            kind.replace("_", " "),
            f"half within {seconds_text(median)}, 95 % within {seconds_text(slow)}, of {count:,}",
            [
                ("info", median, f"median {seconds_text(median)}"),
                ("violet", slow - median, f"95th percentile {seconds_text(slow)}"),
            ],
            longest,
        )
        for kind, count, (median, slow) in ordered
    ]
