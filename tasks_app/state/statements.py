"""Which SQL moves task rows? Only `lifecycle` may call this module.

Raw statements, because each is one conditional UPDATE whose row count (or returned row) is the
result, and because every time in them is the database's.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from django.db import connection
from psycopg.types.json import Jsonb

from tasks_app.instances import columns, fetch
from tasks_app.models import WAITS_FOR_INPUTS, Task
from webhooks_app.functions import Function

_COLUMNS = columns(Task)

_INSERT_FIELDS = (
    "id, project_id, task_type, task_data, metadata, callback_url, webhook_events, retry_policy,"
    " priority, status, progress, current_step, version, error_code, error, traceback, attempts,"
    " lost_count, timeout_seconds, event_sequence, retry_of_id, api_key_id, request_id,"
    " reserved_amount, reserved_currency, callback_auth, traceparent, metadata_values"
)

_CLAIM = Function(
    "tasks_claim",
    "_task_type text, _token uuid, _lease_seconds float8",
    "SETOF tasks_app_task",
    """
WITH RECURSIVE project AS (
  (SELECT project_id FROM tasks_app_task
   WHERE status = 'queued' AND task_type = _task_type ORDER BY project_id, priority LIMIT 1)
  UNION ALL
  SELECT (SELECT project_id FROM tasks_app_task
          WHERE status = 'queued' AND task_type = _task_type AND project_id > project.project_id
          ORDER BY project_id, priority LIMIT 1)
  FROM project WHERE project.project_id IS NOT NULL
), best AS (
  SELECT candidate.id
  FROM project
  CROSS JOIN LATERAL (
    SELECT count(*) AS running FROM tasks_app_task
    WHERE status = 'processing' AND task_type = _task_type AND project_id = project.project_id
  ) load
  CROSS JOIN LATERAL (
    SELECT max(started_at) AS last_at FROM tasks_app_task
    WHERE started_at IS NOT NULL AND task_type = _task_type AND project_id = project.project_id
  ) served
  CROSS JOIN LATERAL (
    SELECT id, priority, created_at FROM tasks_app_task
    -- A range, not an equality: so only the index that begins with the project gives this order,
    -- and the planner cannot walk over another project's queue instead.
    WHERE status = 'queued' AND task_type = _task_type AND available_at <= now()
      AND project_id BETWEEN project.project_id AND project.project_id
    ORDER BY project_id, priority, created_at, id LIMIT 1 FOR UPDATE SKIP LOCKED
  ) candidate
  WHERE project.project_id IS NOT NULL
  -- With one seat nobody has anything running when it falls free: then who waited longest is next,
  -- else the oldest of ten thousand would always be.
  ORDER BY load.running, served.last_at NULLS FIRST, candidate.priority, candidate.created_at
  LIMIT 1
)
UPDATE tasks_app_task SET
  status = 'processing', run_token = _token, started_at = now(), progress = 0,
  deadline = coalesce(deadline, now() + make_interval(secs => timeout_seconds)),
  current_step = '', version = version + 1,
  lease_expires_at = now() + make_interval(secs => _lease_seconds)
WHERE id = (SELECT id FROM best)
RETURNING tasks_app_task.*
""",
    # Planned at each call, unlike the engine's statements: the task that follows takes seconds, and
    # a plan made on an empty table might look up the row to update in a wrong index.
    plan_cache_mode="force_custom_plan",
)


#: A task is changed by the worker that holds its token, or by whoever looks after its remote job,
#: while nobody holds it.
OURS = "id = %s AND run_token IS NOT DISTINCT FROM %s::uuid AND status = 'processing'"


def _fetch(sql: str, parameters: Any) -> list[Task]:
    return fetch(Task, sql, parameters)


def queued_count(project_id: str, limit: int) -> int:
    """Return how many tasks of a project are queued, counted up to ``limit``."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM (SELECT 1 FROM tasks_app_task WHERE project_id = %s"
            " AND status = 'queued' LIMIT %s) queued",
            [project_id, limit],
        )
        return int(cursor.fetchone()[0])


_INSERT = f"""
INSERT INTO tasks_app_task ({_INSERT_FIELDS}, created_at, available_at)
VALUES ({", ".join(["%s"] * len(_INSERT_FIELDS.split(",")))}, now(), now()) RETURNING created_at
"""  # noqa: S608 - constants
# A statement does not see the row that it inserts, hence the 1.
_AHEAD_OF_IT = """, 1 + (
  SELECT count(*) FROM (
    SELECT 1 FROM tasks_app_task ahead
    WHERE ahead.status = 'queued' AND ahead.task_type = tasks_app_task.task_type
      AND (ahead.priority, ahead.created_at, ahead.id)
        < (tasks_app_task.priority, tasks_app_task.created_at, tasks_app_task.id)
    LIMIT %s
  ) counted)
"""


def insert(task: Task) -> None:
    """Insert a new task; its times are set from the database's clock."""
    _insert(task, _INSERT, _values(task))


def insert_and_rank(task: Task, most: int) -> int:
    """Insert a new task; return its place in the queue of its type, counted up to ``most``."""
    row = _insert(task, _INSERT + _AHEAD_OF_IT, [*_values(task), most - 1])
    return int(row[1])


def wait_for_inputs(task: Task) -> None:
    """Let a task that was just inserted not be due until its inputs are ready."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE tasks_app_task SET available_at = %s, current_step = %s WHERE id = %s",
            [WAITS_FOR_INPUTS, "waiting for inputs", task.id],
        )
    task.available_at = WAITS_FOR_INPUTS


def _insert(task: Task, sql: str, values: list[Any]) -> tuple[Any, ...]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        row: tuple[Any, ...] = cursor.fetchone()
    task.created_at = task.available_at = row[0]
    return row


def _values(task: Task) -> list[Any]:
    return [
        task.id,
        task.project_id,
        task.task_type,
        Jsonb(task.task_data),
        task.metadata,
        task.callback_url,
        Jsonb(task.webhook_events),
        None if task.retry_policy is None else Jsonb(task.retry_policy),
        task.priority,
        *("queued", 0.0, "", 1, "", "", "", 0, 0),
        task.timeout_seconds,
        0,
        task.retry_of_id,
        task.api_key_id,
        task.request_id,
        task.reserved_amount,
        task.reserved_currency,
        task.callback_auth,
        task.traceparent,
        None if task.metadata_values is None else Jsonb(task.metadata_values),
    ]


_TAKE_LEASE = """
INSERT INTO tasks_app_lease AS lease (name, token, expires_at)
VALUES (%s, %s, clock_timestamp() + make_interval(secs => %s))
ON CONFLICT (name) DO UPDATE SET token = excluded.token, expires_at = excluded.expires_at
WHERE lease.expires_at <= clock_timestamp()
"""


def take_lease(name: str, token: uuid.UUID, seconds: float) -> bool:
    """Take the lease of that name for so many seconds; False while another process holds it."""
    with connection.cursor() as cursor:
        cursor.execute(_TAKE_LEASE, [name, token, seconds])
        return bool(cursor.rowcount == 1)


def end_lease(name: str, token: uuid.UUID) -> None:
    """Give a lease back, unless it expired and another process took it."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM tasks_app_lease WHERE name = %s AND token = %s", [name, token])


def claim(task_type: str, token: uuid.UUID, lease_seconds: float) -> Task | None:
    """Take the best queued task of a type, or None; to be called inside a transaction."""
    call = _CLAIM.call.replace("*", _COLUMNS) + " AS tasks_app_task"
    given = {"task_type": task_type, "token": token, "lease_seconds": lease_seconds}
    found = _fetch(call, given)
    return found[0] if found else None


def update_returning(assignments: str, condition: str, parameters: list[Any]) -> Task | None:
    """Run one conditional UPDATE and return the row as it is now, None when none was hit."""
    sql = f"UPDATE tasks_app_task SET {assignments} WHERE {condition} RETURNING {_COLUMNS}"  # noqa: S608 - constants of lifecycle
    found = _fetch(sql, parameters)
    return found[0] if found else None


def update_fenced(task: Task, assignments: str, values: list[Any]) -> bool:
    """Update a claimed task; False when the claim does not stand any more."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE tasks_app_task SET {assignments} WHERE {OURS}",  # noqa: S608 - constants of lifecycle
            [*values, task.id, task.run_token],
        )
        return bool(cursor.rowcount == 1)


def next_sequence(task: Task) -> Task:
    """Raise the event sequence of a task claimed in this transaction."""
    updated = update_returning(
        "event_sequence = event_sequence + 1",
        OURS,
        [task.id, task.run_token],
    )
    assert updated is not None, "the row was claimed in this very transaction"
    return updated


def requeue_expired(lost_limit: int) -> list[Task]:
    """Put tasks whose lease ran out back into the queue and clear their token.

    A task whose results were being fetched from a provider stays in progress: they are fetched by
    whoever takes its job next.
    """
    sql = f"""
    UPDATE tasks_app_task SET run_token = NULL, lease_expires_at = NULL,
      status = CASE WHEN remote_provider = '' THEN 'queued' ELSE status END,
      progress = CASE WHEN remote_provider = '' THEN 0 ELSE progress END,
      lost_count = lost_count + 1, version = version + 1, available_at = now()
    WHERE id IN (SELECT id FROM tasks_app_task WHERE status = 'processing'
                 AND lease_expires_at < now() AND lost_count < %s
                 ORDER BY lease_expires_at LIMIT 500 FOR UPDATE SKIP LOCKED)
    RETURNING {_COLUMNS}"""  # noqa: S608 - column names
    return _fetch(sql, [lost_limit])


def expired_for_good(lost_limit: int) -> list[Task]:
    """Return tasks whose lease ran out once too often, under a token of the sweep's own."""
    sql = f"""
    UPDATE tasks_app_task SET run_token = gen_random_uuid(), lost_count = lost_count + 1,
      lease_expires_at = now() + interval '10 seconds'
    WHERE id IN (SELECT id FROM tasks_app_task WHERE status = 'processing'
                 AND lease_expires_at < now() AND lost_count >= %s
                 ORDER BY lease_expires_at LIMIT 100 FOR UPDATE SKIP LOCKED)
    RETURNING {_COLUMNS}"""  # noqa: S608 - column names
    return _fetch(sql, [lost_limit])


def overdue(grace_seconds: float) -> list[Task]:
    """Return running tasks that are past their deadline by more than the grace."""
    sql = f"""
    SELECT {_COLUMNS} FROM tasks_app_task WHERE status = 'processing'
      AND deadline + make_interval(secs => %s) < now() LIMIT 100"""  # noqa: S608 - column names
    return _fetch(sql, [grace_seconds])


#: Of a queued task: its clock runs from its first claim, and from its submit if it has had none.
TIME_IS_OVER = "coalesce(deadline, created_at + make_interval(secs => timeout_seconds)) <= now()"


def stranded(task_type: str) -> tuple[int, list[uuid.UUID]]:
    """Return how many tasks of a type are queued, up to 1,000, and some whose time is over."""
    queued = "FROM tasks_app_task WHERE status = 'queued' AND task_type = %s"
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT count(*) FROM (SELECT 1 {queued} LIMIT 1000) counted",  # noqa: S608 - ours
            [task_type],
        )
        count = int(cursor.fetchone()[0])
        cursor.execute(
            f"SELECT id {queued} AND {TIME_IS_OVER} LIMIT 100",
            [task_type],
        )
        return count, [row[0] for row in cursor.fetchall()]


# The ORDER BY makes the planner read only the first row of an index, whatever its statistics say.
_TYPES_DUE = """
SELECT name FROM unnest(%s::text[]) name CROSS JOIN LATERAL (
  SELECT 1 FROM tasks_app_task
  WHERE status = 'queued' AND task_type = name
    AND available_at <= now() - make_interval(secs => %s)
  ORDER BY priority, created_at LIMIT 1
) due
"""


def types_due(task_types: Sequence[str], since_seconds: float) -> list[str]:
    """Return those of the task types with queued tasks that have been due for so long."""
    with connection.cursor() as cursor:
        cursor.execute(_TYPES_DUE, [list(task_types), since_seconds])
        return [row[0] for row in cursor.fetchall()]


def due_count(task_type: str, limit: int) -> int:
    """Return how many queued tasks of a type are due, counted up to ``limit``."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM (SELECT 1 FROM tasks_app_task WHERE status = 'queued'"
            " AND task_type = %s AND available_at <= now() LIMIT %s) due",
            [task_type, limit],
        )
        return int(cursor.fetchone()[0])
