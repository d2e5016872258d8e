"""How does a task go to a provider elsewhere and come back? Task and job change in one transaction.

While its job is remote a task is ``processing`` without a run token; whoever takes the job looks
after it. Only fetching the results is done under a run token, by a worker, as for local work.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence

import structlog
from django.conf import settings
from django.db import connection, transaction

from tasks_app import providers
from tasks_app.models import CostBasis, MediaFile, RemoteJob, Task
from tasks_app.providers.base import ProviderError
from tasks_app.state import costs, lifecycle, remote_jobs, server_rows, statements
from tasks_app.state.server_rows import ServerRoom
from tasks_app.task_types import TASK_TYPES
from webhooks_app.crash_points import faultpoint
from webhooks_app.shown import printable

logger = structlog.get_logger(__name__)

#: Most tasks that `astray` returns.
MOST_ASTRAY = 100

_PARKED = (
    "status = 'queued', run_token = NULL, lease_expires_at = NULL, remote_provider = '',"
    " progress = 0, started_at = NULL, version = version + 1, waits_for = %s,"
    " available_at = deadline"
)


def begin(task: Task, provider: str, model: str, rooms: Sequence[ServerRoom]) -> bool:
    """Give a claimed task to a provider; False when its servers are full, and the task waits.

    A task that waits keeps its place: it is `wake`d in order, and no newer one overtakes it.

    Raises:
        LostClaim: this worker has lost the task.
    """
    with transaction.atomic():
        label, waits_for = None, f"{provider}:{model}"
        if task.waits_for or not _is_anyone_waiting(waits_for):
            label = server_rows.choose(provider, rooms)
        if label is None:
            done = statements.update_fenced(task, _PARKED, [waits_for])
        else:
            task = lifecycle.tell_started(task)
            done = statements.update_fenced(
                task,
                "run_token = NULL, lease_expires_at = NULL, remote_provider = %s, waits_for = ''",
                [provider],
            )
            job = RemoteJob(
                task=task, provider=provider, server=label, model=model, attempt=task.attempts + 1
            )
            remote_jobs.insert(job)
        if not done:
            raise lifecycle.LostClaim
        faultpoint("remote.before_begin")
    faultpoint("remote.after_begin")
    return label is not None


def put_back(job: RemoteJob) -> None:
    """Let a task wait for another place, since its provider turned it away.

    Uses up no attempt.

    Raises:
        LostJob, LostClaim: another process was first.
    """
    with transaction.atomic():
        remote_jobs.forget(job)
        _park(job)


def _park(job: RemoteJob, task: Task | None = None) -> None:
    waits_for = f"{job.provider}:{job.model}"
    if not statements.update_fenced(task or _task_of(job), _PARKED, [waits_for]):
        raise lifecycle.LostClaim


def lose(
    job: RemoteJob, note: str, *, is_stop_owed: bool = False, task: Task | None = None
) -> None:
    """Give up a job that its server does not know, or that is silent; the task starts elsewhere.

    Uses up no attempt.

    Raises:
        LostJob, LostClaim: another process was first.
    """
    with transaction.atomic():
        if is_stop_owed:
            remote_jobs.stop_later(job, "lost")
        else:
            remote_jobs.end(job, "lost", note)
            costs.book_expected(job, CostBasis.UNCLEAR)
        _park(job, task)


def fail(
    job: RemoteJob, error: ProviderError, outcome: str = "failed", task: Task | None = None
) -> None:
    """End a job and its attempt at the task.

    Args:
        task: as claimed by `take_result`; None while no worker has it.

    Raises:
        LostJob, LostClaim: another process was first.
    """
    with transaction.atomic():
        was_made = remote_jobs.was_made(job)
        remote_jobs.end(job, outcome, error.words or error.message)
        if outcome in ("unclear", "lost"):
            costs.book_expected(job, CostBasis.UNCLEAR)
        elif was_made:
            costs.book_expected(job, CostBasis.ESTIMATED)
        lifecycle.end_attempt(task or _task_of(job), error)


def crash(job: RemoteJob, error: ProviderError) -> None:
    """End the attempt of a job whose provider's code failed; what it started is to be stopped.

    Raises:
        LostJob, LostClaim: another process was first.
    """
    with transaction.atomic():
        remote_jobs.note(job, error.message or "A fault in the provider's code.")
        remote_jobs.owe_stop(job.task_id, error.code)
        lifecycle.end_attempt(_task_of(job), error)


def keep_late(job: RemoteJob, files: Sequence[MediaFile]) -> None:
    """Keep the files of work that ended after its task's time, for a retry of the task."""
    with transaction.atomic():
        MediaFile.objects.bulk_create(files)
        remote_jobs.end(job, "late", "It ended after the task's time; a retry gets its files.")
        costs.book_late(job, files)


def stopped(job: RemoteJob, outcome: str, note: str, *, is_unclear: bool) -> None:
    """End a job that was to be stopped; ``is_unclear``: it may have been paid for all the same.

    Raises:
        LostJob: another process was first.
    """
    with transaction.atomic():
        remote_jobs.end(job, outcome, note)
        if is_unclear:
            costs.book_expected(job, CostBasis.UNCLEAR)


def progress(job_id: str, fraction: float, step: str, *, is_event_due: bool) -> None:
    """Store the progress of a job's task, and publish it where an event is due.

    Raises:
        LostClaim: the task has ended, or its results are being fetched.
    """
    job = RemoteJob.objects.filter(pk=job_id, state__in=("submitting", "running")).first()
    if job is None:
        raise lifecycle.LostClaim
    lifecycle.progress(_task_of(job), fraction, printable(step), is_event_due=is_event_due)


def take_result(job: RemoteJob) -> Task:
    """Claim the task of a job whose results are ready, to fetch them.

    Raises:
        LostClaim: the task has ended, or another worker fetches.
    """
    task = statements.update_returning(
        "run_token = %s, lease_expires_at = now() + make_interval(secs => %s)",
        "id = %s AND status = 'processing' AND run_token IS NULL AND EXISTS ("
        " SELECT 1 FROM tasks_app_remotejob WHERE id = %s AND look_token = %s AND state = 'ready')",
        [uuid.uuid4(), settings.TASK_LEASE_SECONDS, job.task_id, job.id, job.look_token],
    )
    if task is None:
        raise lifecycle.LostClaim
    return task


def let_result_go(task: Task) -> None:
    """Give a claim of `take_result` back; the results are fetched later."""
    statements.update_fenced(task, "run_token = NULL, lease_expires_at = NULL", [])


def time_out(job: RemoteJob) -> None:
    """End a task whose time is over; stopping its work is owed.

    Raises:
        LostClaim: the task has ended already, or its results are being fetched.
    """
    lifecycle.fail(_task_of(job), "timed_out")


def astray() -> list[uuid.UUID]:
    """Return tasks that nobody looks after, and those whose work goes on though they have ended.

    One statement sees one moment, and task and job change together: there must never be any.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id FROM tasks_app_task task WHERE status = 'processing' AND run_token IS NULL"
            " AND NOT EXISTS (SELECT 1 FROM tasks_app_remotejob WHERE task_id = task.id"
            "  AND state IN ('submitting', 'running', 'ready'))"
            " UNION ALL SELECT task_id FROM tasks_app_remotejob job WHERE state <> 'ended'"
            " AND state IN ('submitting', 'running', 'ready') AND NOT EXISTS ("
            "  SELECT 1 FROM tasks_app_task WHERE id = job.task_id AND status = 'processing')"
            " LIMIT %s",
            [MOST_ASTRAY],
        )
        return [row[0] for row in cursor.fetchall()]


def _task_of(job: RemoteJob) -> Task:
    """Return the task without its input; changing it succeeds only while no worker holds it."""
    task = Task.objects.defer("task_data").get(pk=job.task_id)
    task.run_token = None
    return task


# -- tasks that wait for room ----------------------------------------------------------------------


def _is_anyone_waiting(waits_for: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT 1 FROM tasks_app_task WHERE status = 'queued'"
            " AND waits_for <> '' AND waits_for = %s AND available_at > now())",
            [waits_for],
        )
        return bool(cursor.fetchone()[0])


def waited_for() -> list[str]:
    """Return every ``waits_for`` that queued tasks have."""
    with connection.cursor() as cursor:
        cursor.execute(
            "WITH RECURSIVE lane AS ((SELECT waits_for FROM tasks_app_task WHERE status = 'queued'"
            " AND waits_for <> '' ORDER BY waits_for LIMIT 1) UNION ALL"
            " SELECT (SELECT waits_for FROM tasks_app_task WHERE status = 'queued'"
            "  AND waits_for <> '' AND waits_for > lane.waits_for ORDER BY waits_for LIMIT 1)"
            " FROM lane WHERE lane.waits_for IS NOT NULL)"
            " SELECT waits_for FROM lane WHERE waits_for IS NOT NULL"
        )
        return [row[0] for row in cursor.fetchall()]


def _waiting_in(waits_for: str) -> int:
    """Return how many queued tasks wait for a provider's model, counted up to 1,000."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM (SELECT 1 FROM tasks_app_task WHERE status = 'queued'"
            " AND waits_for <> '' AND waits_for = %s LIMIT 1000) counted",
            [waits_for],
        )
        return int(cursor.fetchone()[0])


_WAKE = """
WITH RECURSIVE project AS (
  (SELECT project_id FROM tasks_app_task WHERE status = 'queued' AND waits_for <> ''
   AND waits_for = %(lane)s ORDER BY project_id LIMIT 1)
  UNION ALL
  SELECT (SELECT project_id FROM tasks_app_task WHERE status = 'queued' AND waits_for <> ''
          AND waits_for = %(lane)s AND project_id > project.project_id
          ORDER BY project_id LIMIT 1)
  FROM project WHERE project.project_id IS NOT NULL
), best AS (
  SELECT candidate.id FROM project
  CROSS JOIN LATERAL (
    SELECT count(*) AS running FROM tasks_app_task WHERE status = 'processing'
      AND remote_provider = %(provider)s AND project_id = project.project_id
  ) load
  CROSS JOIN LATERAL (
    SELECT id, task_type, priority, created_at,
      row_number() OVER (ORDER BY priority, created_at, id) AS place
    FROM tasks_app_task WHERE status = 'queued' AND waits_for <> '' AND waits_for = %(lane)s
      AND project_id = project.project_id
    ORDER BY priority, created_at, id LIMIT %(places)s
  ) candidate
  CROSS JOIN LATERAL (
    SELECT max(started_at) AS last_at FROM tasks_app_task WHERE started_at IS NOT NULL
      AND task_type = candidate.task_type AND project_id = project.project_id
  ) served
  WHERE project.project_id IS NOT NULL
  ORDER BY load.running + candidate.place, served.last_at NULLS FIRST, candidate.priority,
    candidate.created_at
  LIMIT %(places)s
)
UPDATE tasks_app_task SET available_at = now() WHERE id IN (SELECT id FROM best)
  AND status = 'queued' AND available_at > now()
RETURNING task_type
"""


def wake(waits_for: str, places: int) -> list[str]:
    """Make as many waiting tasks due as there are places, fairly between projects.

    Returns:
        The task type of each.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            _WAKE,
            {"lane": waits_for, "provider": waits_for.partition(":")[0], "places": places},
        )
        return [row[0] for row in cursor.fetchall()]


# -- tasks that nobody can begin -------------------------------------------------------------------


def why_stranded(task_type: str, waits_for: str = "") -> str:
    """Return why a queued task cannot begin whatever comes free, "" if it can.

    Args:
        waits_for: provider and model, as in `Task.waits_for`; empty where it waits for no room.
    """
    if not providers.is_served(task_type):
        return f"No provider is configured for {task_type}."
    name, _, model = waits_for.partition(":")
    provider = providers.provider_named(task_type, name) if name else None
    if provider is None:  # one that was taken out is followed by the one that is there
        return ""
    try:
        servers = getattr(provider, "servers", lambda model: [None])(model)
    except ProviderError as error:
        return f"The servers of {name} are not configured: {error.message}"
    return "" if servers else f"No server of {name} is configured for {model or 'it'}."


def stranded() -> Iterator[tuple[str, int]]:
    """Yield why queued tasks cannot begin, and how many there are, counted up to 1,000."""
    for task_type in TASK_TYPES:
        if text := why_stranded(task_type):
            count, _ = statements.stranded(task_type)
            if count:
                yield text, count
    for lane in waited_for():
        name = lane.partition(":")[0]
        makes = [each for each in TASK_TYPES if providers.is_served(each)]
        texts = [why_stranded(each, lane) for each in makes if providers.provider_named(each, name)]
        if texts and all(texts):
            yield texts[0], _waiting_in(lane)


def end_stranded() -> int:
    """End the tasks of types without a provider whose time is over; return how many.

    Those whose model has no server are claimed at their deadline, and end there.
    """
    ended = 0
    for task_type in TASK_TYPES:
        if text := why_stranded(task_type):
            for task_id in statements.stranded(task_type)[1]:
                lifecycle.fail_stranded(task_id, text)
                ended += 1
    return ended
