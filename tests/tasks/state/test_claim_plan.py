"""Does a claim use its index, however wrong the planner's statistics are?"""

from __future__ import annotations

import re

import pytest
from django.db import connection
from django.utils import timezone

from tasks_app import metrics
from tasks_app.state import lifecycle, remote, statements
from tests.support import factories
from tests.support.plans import plan_of, unguided

# Truncated between tests: what a rolled-back one leaves on the disk would count in the statistics.
pytestmark = pytest.mark.django_db(transaction=True)


_MANY = """
INSERT INTO tasks_app_task (id, project_id, task_type, task_data, callback_url, webhook_events,
  priority, status, progress, current_step, version, error_code, error, traceback, attempts,
  lost_count, available_at, timeout_seconds, event_sequence, request_id, created_at,
  started_at, finished_at)
SELECT gen_random_uuid(), %(project)s, 'image_generation', '{}', '', '[]', 2, %(status)s, 0, '',
  0, '', '', '', 0, 0, now(), 60, 0, '', now(), %(ended)s, %(ended)s
FROM generate_series(1, %(count)s)
"""


def tasks(count: int, project: str, status: str) -> None:
    """Store many equal tasks."""
    ended = timezone.now() if status == "completed" else None
    values = {"count": count, "project": project, "status": status, "ended": ended}
    with connection.cursor() as cursor:
        cursor.execute(_MANY, values)


def rush(history: int) -> None:
    """A long queue of one project before another's task; the last ANALYZE saw the history only."""
    tasks(history, "veteran", "completed")
    _analyze()
    tasks(10_000, "crowded", "queued")
    tasks(1, "veteran", "queued")


def _analyze() -> None:
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE tasks_app_task")


def explain(statement: str, parameters: object) -> str:
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN (ANALYZE) " + statement, parameters)
        return "\n".join(row[0] for row in cursor.fetchall())


@pytest.mark.parametrize("history", [0, 40_000])
def test_a_claim_reads_no_queue_from_end_to_end(history: int) -> None:
    """Each project's best task is the first row of its part of the index, nothing is sorted."""
    rush(history)
    plan = plan_of(statements._CLAIM, "'image_generation'", "gen_random_uuid()", "30")
    found = re.findall(r"Index(?: Only)? Scan(?: Backward)? using (\w+) on", plan)
    assert found.count("task_queue") == 2, plan
    assert "task_position" not in found, plan
    assert "Seq Scan" not in plan
    # That one holds only what is being worked on.
    assert set(unguided(plan)) <= {"task_lease"}, plan


def test_the_settings_of_a_claim_end_with_it() -> None:
    """The planner settings of a claim do not apply to the next statement."""
    factories.make_task(task_type="image_generation")
    assert lifecycle.claim_next("image_generation")
    with connection.cursor() as cursor:
        cursor.execute("SHOW enable_sort")
        assert cursor.fetchone()[0] == "on"


def test_whether_something_is_due_is_one_look_at_the_index() -> None:
    """The query that runs after every task does not read the whole queue."""
    rush(0)
    assert statements.types_due(["image_generation", "audio_generation"], 0.0) == [
        "image_generation"
    ]
    plan = explain(statements._TYPES_DUE, [["image_generation", "audio_generation"], 0.0])
    assert "using task_position on tasks_app_task" in plan, plan
    assert "Seq Scan" not in plan
    assert "Sort" not in plan


def test_to_wake_tasks_reads_no_queue_from_end_to_end() -> None:
    """Of 20,000 tasks that wait for room, few rows are read to wake the next ones."""
    tasks(40_000, "veteran", "completed")
    _analyze()
    for project in ("crowded", "other"):
        tasks(10_000, project, "queued")
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE tasks_app_task SET waits_for = 'fal:m', available_at = now() + interval '1 h'"
            " WHERE status = 'queued'"
        )
    names = {"lane": "fal:m", "provider": "fal", "places": 10}
    plan = explain(remote._WAKE, names)
    assert "Seq Scan" not in plan, plan
    read = [int(rows) for rows in re.findall(r"using task_waiting .*?actual.*? rows=(\d+)", plan)]
    assert read, plan
    assert max(read) <= 10, plan


@pytest.mark.parametrize("is_analyzed", [False, True])
def test_the_oldest_due_task_is_found_in_its_part_of_the_queue(is_analyzed: bool) -> None:
    """Readiness asks for each priority, and reads past no task of another one."""
    rush(history=1_000)
    if is_analyzed:
        _analyze()
    plan = explain(metrics._OLDEST_DUE, [["image_generation"]])
    assert re.findall(r"Scan using (\w+)", plan) == ["task_position"], plan
    assert "Rows Removed by Filter" not in plan, plan
    assert metrics.oldest_due()["image_generation"] > 0
