"""P9: does a page, or a status, of a million tasks take longer than one of a hundred?"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

from rich.console import Console

from tests.bench import place
from tests.bench.report import Figure, in_turns

LONG = "bench_tasks"
REQUESTS = 20

_TASKS = """
INSERT INTO tasks_app_task (id, project_id, task_type, task_data, metadata, callback_url,
  webhook_events, priority, status, progress, current_step, version, result, error_code, error,
  traceback, attempts, lost_count, available_at, timeout_seconds, event_sequence, request_id,
  created_at)
SELECT gen_random_uuid(), 'bench', 'image_generation', '{"prompt": "x"}', NULL, '', '[]', 2,
  'queued', 0, '', 0, NULL, '', '', '', 0, 0, now(), 600, 0, '',
  now() - make_interval(secs => n)
FROM generate_series(1, %(count)s) n
"""


def p9(scale: place.Scale) -> list[Figure]:
    """Ask for a page of 100 tasks and for one task's status, of a million and of a hundred."""
    place.copy_database(LONG)
    _fill(LONG, scale.tasks)
    _fill("movies", 100)
    many = f"of {scale.tasks:,} tasks"
    figures = [
        *_time_and_queries(scale.rounds, f"page of 100 {many}", lambda name: "?limit=100"),
        *_time_and_queries(scale.rounds, f"status of one {many}", _status_of_one),
    ]
    _forget_tasks()
    return figures


def _time_and_queries(rounds: int, what: str, path: Callable[[str], str]) -> list[Figure]:
    times = Figure("P9", what, "ms", 1.2, is_less_better=True, reference_name="of 100")
    queries = Figure("P9", f"queries of a {what}", "", 1.0, is_less_better=True)
    queries.reference_name = "of 100"
    far, near = path(LONG), path("movies")
    in_turns(rounds, lambda: _ask(LONG, far)[0], lambda: _ask("movies", near)[0], times)
    queries.add(_ask(LONG, far)[1], _ask("movies", near)[1])
    return [times, queries]


def _status_of_one(name: str) -> str:
    """Return the URL path of a task in the middle of a database's tasks."""
    with place.connect(name) as connection:
        (task_id,) = connection.execute(
            "SELECT id FROM tasks_app_task ORDER BY id OFFSET 50 LIMIT 1"
        ).fetchone()
    return f"/{task_id}/status"


def _fill(name: str, count: int) -> None:
    with place.connect(name) as connection:
        found = connection.execute("SELECT count(*) FROM tasks_app_task").fetchone()[0]
        if found == count:
            return
        Console().print(f"P9: making {count:,} tasks")
        connection.execute("TRUNCATE tasks_app_task CASCADE")
        connection.execute(_TASKS, {"count": count})
        connection.execute("VACUUM ANALYZE tasks_app_task")


def _ask(name: str, path: str) -> tuple[float, float]:
    """Return the median milliseconds of a request, and its queries."""
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    connection.close()
    connection.settings_dict["NAME"] = name
    client = Client(headers={"X-API-Key": _api_key()})
    found = []
    for _ in range(REQUESTS):
        begin = time.perf_counter()
        answer = client.get(f"/api/v1/tasks{path}")
        found.append(1000 * (time.perf_counter() - begin))
        if answer.status_code != 200:
            raise RuntimeError(answer.content[:200])
    with CaptureQueriesContext(connection) as captured:
        client.get(f"/api/v1/tasks{path}")
    connection.close()
    connection.settings_dict["NAME"] = "movies"
    return median(found), float(len(captured))


def _forget_tasks() -> None:
    with place.connect() as connection:
        connection.execute("TRUNCATE tasks_app_task CASCADE")


def _api_key() -> str:
    from tasks_app.models import ApiKey

    _, key = ApiKey.objects.create_key(name="bench", rate_limit_per_minute=10_000_000)
    return str(key)
