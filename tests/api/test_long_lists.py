"""Does a page of a long list cost the same as one of a short list? Judged by plans, not times."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from tasks_app.api import queries
from tasks_app.models import Task
from webhooks_app.api.pages import BY_TIME, page_query

pytestmark = pytest.mark.django_db
ROWS = 50_000
_FILL = """
INSERT INTO tasks_app_task (id, project_id, task_type, task_data, callback_url, webhook_events,
  priority, status, progress, current_step, version, error_code, error, traceback, attempts,
  lost_count, available_at, timeout_seconds, event_sequence, request_id, created_at, started_at,
  finished_at)
SELECT gen_random_uuid(), 'project-' || n %% 20, 'video_generation', '{}', '', '[]', 2,
  CASE WHEN n %% 10 = 0 THEN 'failed' ELSE 'completed' END, 1, '', 1, '', '', '', 0, 0, now(), 60,
  1, '', now() - make_interval(secs => n), now(), now()
FROM generate_series(1, %s) AS n
"""


@pytest.fixture
def many(db: None) -> None:
    """Fifty thousand finished tasks of twenty projects, a second apart."""
    with connection.cursor() as cursor:
        cursor.execute(_FILL, [ROWS])
        cursor.execute("ANALYZE tasks_app_task")


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every step of a plan."""
    yield plan
    for inner in plan.get("Plans", []):
        yield from nodes(inner)


def test_pages_of_a_long_list_read_their_own_rows_only(many: None) -> None:
    """First and deep pages, with and without filters: an index from the cursor on, no sort."""
    deep = f"{int((timezone.now() - timedelta(seconds=ROWS / 2)).timestamp() * 1e6)}-{'f' * 32}"
    for filters in ({}, {"project_id": "project-7"}, {"status": "failed"}):
        for cursor in (None, deep):
            found = queries.page_query(Task.objects.all(), filters)
            page = page_query(found, order=BY_TIME, cursor=cursor)[:101]
            explained: Any = page.explain(format="json", analyze=True)
            steps = list(nodes(json.loads(explained)[0]["Plan"]))
            assert {step["Node Type"] for step in steps} == {"Limit", "Index Scan"}, explained
            read = sum(s["Actual Rows"] + s.get("Rows Removed by Filter", 0) for s in steps[1:])
            assert read <= 110, (filters, cursor, explained)
