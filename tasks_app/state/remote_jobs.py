"""Which work is at a provider, who looks after it, and what must still be stopped?

The only writer of `RemoteJob` and, with `server_rows`, of `RemoteServer`. Like a message, a job is
taken by moving its due time: ``next_look_at`` is the lease, ``look_token`` the fence. What changes
a job and its task at once is in `remote`.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone
from psycopg.types.json import Jsonb

from tasks_app import metrics
from tasks_app.instances import columns, fetch
from tasks_app.models import MediaFile, RemoteJob
from webhooks_app import traces
from webhooks_app.shown import printable

#: Longest part of a provider's own words that is kept, in characters.
NOTE_LIMIT = 500
#: Most of a server's limit that is learned: one more per success would grow without end.
MOST_LEARNED = 10_000

_COLUMNS = columns(RemoteJob)
#: Where a job keeps the database's time at which it was taken.
_CLOCK = "_taken_at"
#: A job is changed by the loop that took it.
_TAKEN = "id = %s AND look_token = %s AND state <> 'ended'"

#: The results are not kept: they may be the file itself, as text.
_ENDED = (
    "state = 'ended', ended_at = now(), look_token = NULL, outputs = '[]',"
    " remote = remote - 'called'"
)


class LostJob(Exception):
    """Another process has the job, or it has ended."""


# -- one job ---------------------------------------------------------------------------------------


def insert(job: RemoteJob) -> None:
    """Store a new job that is due at once; its times are the database's."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO tasks_app_remotejob (id, task_id, task_type, provider, server, model,"
            " attempt, state, outcome, stop_reason, remote, outputs, facts, callback_token, note,"
            " next_look_at, deadline, created_at)"
            " SELECT %s, id, task_type, %s, %s, %s, %s, 'submitting', '', '', '{}', '[]', '{}',"
            " %s, '', now(), deadline, now() FROM tasks_app_task WHERE id = %s",
            [
                *(job.id, job.provider, job.server, job.model, job.attempt),
                *(job.callback_token, job.task_id),
            ],
        )


def take_due(
    token: uuid.UUID,
    lease_seconds: float,
    most: int,
    busy: Sequence[str],
    *,
    with_ready: bool = True,
) -> list[RemoteJob]:
    """Take jobs that are due, except those of the ids in ``busy``.

    Args:
        with_ready: those too whose results wait to be fetched.
    """
    sql = f"""
    UPDATE tasks_app_remotejob SET look_token = %s,
      next_look_at = now() + make_interval(secs => %s)
    WHERE id IN (SELECT id FROM tasks_app_remotejob WHERE state <> 'ended'
                 AND next_look_at <= now() AND NOT id = ANY(%s::uuid[])
                 AND (state <> 'ready' OR %s)
                 ORDER BY next_look_at LIMIT %s FOR UPDATE SKIP LOCKED)
    RETURNING {_COLUMNS}, (SELECT traceparent FROM tasks_app_task WHERE id = task_id)"""  # noqa: S608 - column names
    given = [token, lease_seconds, list(busy), with_ready, most]
    jobs = fetch(RemoteJob, sql, given, ["traceparent"])
    for job in jobs:
        taken_at = job.next_look_at - timedelta(seconds=lease_seconds)
        setattr(job, _CLOCK, (taken_at, time.monotonic()))
    return jobs


def now_of(job: RemoteJob) -> datetime:
    """Return the database's time, for a job of `take_due`: this machine's clock may be wrong.

    By it alone a job would be looked at again and again, or given up too early.
    """
    known: tuple[datetime, float] | None = getattr(job, _CLOCK, None)
    if known is None:
        return timezone.now()
    return known[0] + timedelta(seconds=time.monotonic() - known[1])


def extend_leases(token: uuid.UUID, ids: Sequence[str], lease_seconds: float) -> None:
    """Keep jobs whose requests are still open."""
    execute(
        "UPDATE tasks_app_remotejob SET next_look_at = now() + make_interval(secs => %s)"
        " WHERE id = ANY(%s::uuid[]) AND look_token = %s AND state <> 'ended'",
        [lease_seconds, list(ids), token],
    )


def let_go(token: uuid.UUID) -> None:
    """Make everything that this loop holds due at once, for others."""
    execute(
        "UPDATE tasks_app_remotejob SET next_look_at = now(), look_token = NULL"
        " WHERE look_token = %s AND state <> 'ended'",
        [token],
    )


def look_again(
    token: uuid.UUID, ids: Sequence[str], *, first: float, longest: float, has_answered: bool
) -> None:
    """Make jobs due again: after an eighth of their age, within the bounds, or at the deadline."""
    execute(
        "UPDATE tasks_app_remotejob SET look_token = NULL,"
        " seen_at = CASE WHEN %s THEN now() ELSE seen_at END,"
        " next_look_at = least(now() + make_interval(secs => (0.9 + 0.1 * random()) * greatest(%s,"
        "   least(%s, extract(epoch FROM now() - created_at)::float8 / 8))),"
        "   CASE WHEN state = 'stopping' THEN 'infinity' ELSE greatest(deadline, now()) END)"
        " WHERE id = ANY(%s::uuid[]) AND look_token = %s AND state <> 'ended'",
        [has_answered, first, longest, list(ids), token],
    )


def look_in(job: RemoteJob, seconds: float, note: str = "") -> None:
    """Make one job due in so many seconds, or at its deadline; ``note`` is for operators."""
    with contextlib.suppress(LostJob):
        _change(
            job,
            "look_token = NULL, note = coalesce(nullif(%s, ''), note),"
            " next_look_at = least(now() + make_interval(secs => %s),"
            "   CASE WHEN state = 'stopping' THEN 'infinity' ELSE greatest(deadline, now()) END)",
            [printable(note, NOTE_LIMIT), seconds],
        )


def asks(job: RemoteJob) -> None:
    """Note that a submit may go out from now on.

    Raises:
        LostJob: another process has it; nothing may be sent.
    """
    _change(job, "asked_at = now()", [])


def runs(job: RemoteJob, remote: dict[str, Any], first_look_seconds: float) -> None:
    """Store what the provider answered at submit."""
    _change(
        job,
        "state = 'running', remote = %s, seen_at = now(), look_token = NULL,"
        " next_look_at = least(now() + make_interval(secs => %s), deadline)",
        [_json(remote), first_look_seconds],
    )


def learn_id(job: RemoteJob, remote: dict[str, Any]) -> None:
    """Store what a submit answered after its job was taken away, so that it can be stopped.

    A job that was given up because the id had not come is owed its stop again.
    """
    execute(
        "UPDATE tasks_app_remotejob SET remote = %s || remote, state = 'stopping', outcome = '',"
        " ended_at = NULL, look_token = NULL, next_look_at = now(),"
        " stop_owed_at = coalesce(stop_owed_at, now()),"
        " stop_reason = coalesce(nullif(stop_reason, ''), 'lost')"
        " WHERE id = %s AND NOT remote ? 'id' AND (state = 'stopping' OR outcome = 'unclear')",
        [_json(remote), job.id],
    )


def note(job: RemoteJob, text: str) -> None:
    """Store a note for operators.

    Raises:
        LostJob: another process has it, or it has ended.
    """
    _change(job, "note = %s", [printable(text, NOTE_LIMIT)])


def is_ready(
    job: RemoteJob,
    outputs: Sequence[str],
    facts: dict[str, Any],
    remote: dict[str, Any] | None = None,
) -> None:
    """Store where the results are; the caller keeps the job, to fetch them."""
    job.outputs, job.facts = _without_nul(list(outputs)), _without_nul(facts)
    job.remote = job.remote if remote is None else _without_nul(remote)
    _change(
        job,
        "state = 'ready', outputs = %s, facts = %s, seen_at = now(), remote = coalesce(%s, remote)",
        [Jsonb(job.outputs), Jsonb(job.facts), None if remote is None else Jsonb(job.remote)],
    )


def end(job: RemoteJob, outcome: str, note: str = "") -> None:
    """End a job that this process has taken.

    Raises:
        LostJob: another process has it, or it has ended.
    """
    _change(
        job,
        f"{_ENDED}, outcome = %s, note = coalesce(nullif(%s, ''), note)",
        [outcome, printable(note, NOTE_LIMIT)],
    )
    _count(job.provider, job.server, outcome)
    trace_end(job, outcome)


def trace_end(job: RemoteJob, outcome: str) -> None:
    """Record a job that has ended as a span."""
    if traces.recorder is not None and job.traceparent:
        traces.recorder(
            traces.Span(
                name="remote job",
                parent=job.traceparent,
                start=job.created_at.timestamp(),
                end=now_of(job).timestamp(),
                attributes={
                    "task.id": str(job.task_id),
                    "job.id": str(job.id),
                    "provider": job.provider,
                    "server": job.server,
                    "model": job.model,
                    "outcome": outcome,
                },
                error="" if outcome in ("completed", "stopped", "late") else outcome,
            )
        )


def stop_later(job: RemoteJob, reason: str) -> None:
    """Owe a stop for a job that this process has taken.

    Raises:
        LostJob: another process has it, or it has ended.
    """
    _change(
        job,
        "state = 'stopping', stop_reason = %s, stop_owed_at = now(), look_token = NULL,"
        " next_look_at = now()",
        [reason],
    )


def note_stop(job: RemoteJob) -> None:
    """Note that the provider was told to stop; whether a result comes after all is looked at."""
    _change(
        job,
        "stop_told_at = now(), look_token = NULL, next_look_at = now() + interval '5 seconds'",
        [],
    )


def forget(job: RemoteJob) -> None:
    """Delete a job whose submit was turned away: it never existed at the provider."""
    sql = f"DELETE FROM tasks_app_remotejob WHERE {_TAKEN}"  # noqa: S608 - ours
    if not execute(sql, [job.id, job.look_token]):
        raise LostJob


def _change(job: RemoteJob, assignments: str, values: list[Any]) -> None:
    sql = f"UPDATE tasks_app_remotejob SET {assignments} WHERE {_TAKEN}"  # noqa: S608 - ours
    if not execute(sql, [*values, job.id, job.look_token]):
        raise LostJob


# -- from outside the loop -------------------------------------------------------------------------


def has_news(job_id: str) -> bool:
    """Make a running job due now, since its server says that it has ended; False if it is not."""
    return execute(
        "UPDATE tasks_app_remotejob SET next_look_at = now()"
        " WHERE id = %s AND state = 'running' AND look_token IS NULL",
        [job_id],
    )


def was_begun(task_id: uuid.UUID) -> bool:
    """Say whether a provider has, or may have, begun work for a task."""
    never = Q(state="ended", outcome__in=("failed", "stopped"), remote={}, outputs=[])
    return RemoteJob.objects.filter(~never, task=task_id).exists()


def was_made(job: RemoteJob) -> bool:
    """Say whether the provider has told us that the work is done."""
    return RemoteJob.objects.filter(pk=job.pk, state="ready").exists()


def was_lost_before(job: RemoteJob) -> bool:
    """Say whether this attempt at the task has lost a job already."""
    return RemoteJob.objects.filter(
        Q(outcome="lost") | Q(stop_reason="lost"), task_id=job.task_id, attempt=job.attempt
    ).exists()


def owe_stop(task_id: uuid.UUID, reason: str) -> None:
    """Owe a stop for a task's active job, if it has one; in the transaction that ends the task.

    A job whose submit cannot have gone out ends at once.
    """
    ended = _returned(
        "UPDATE tasks_app_remotejob SET look_token = NULL, next_look_at = now(), stop_reason = %s,"
        " stop_owed_at = now(),"
        " state = CASE WHEN asked_at IS NULL THEN 'ended' ELSE 'stopping' END,"
        " outcome = CASE WHEN asked_at IS NULL THEN 'stopped' ELSE '' END,"
        " ended_at = CASE WHEN asked_at IS NULL THEN now() END"
        " WHERE task_id = %s AND state IN ('submitting', 'running', 'ready')"
        " RETURNING provider, server, outcome",
        [reason, task_id],
    )
    for provider, server, outcome in ended:
        if outcome:
            _count(provider, server, outcome)


def complete(task_id: uuid.UUID) -> uuid.UUID | None:
    """End a task's active job as completed, and allow its server one job more; return its id."""
    ended = _returned(
        f"WITH ended AS (UPDATE tasks_app_remotejob SET {_ENDED}, outcome = 'completed'"  # noqa: S608
        " WHERE task_id = %s AND state IN ('submitting', 'running', 'ready')"
        " RETURNING id, provider, server), more AS ("
        " UPDATE tasks_app_remoteserver SET learned_limit = learned_limit + 1, last_error = '',"
        " seen_at = now() FROM ended WHERE tasks_app_remoteserver.provider = ended.provider"
        " AND label = ended.server AND coalesce(learned_limit, 0) < %s)"
        " SELECT id, provider, server FROM ended",
        [task_id, MOST_LEARNED],
    )
    for _, provider, server in ended:
        _count(provider, server, "completed")
    return ended[0][0] if ended else None


def hint(provider: str, callback_token: str) -> None:
    """Make a job due now, since its provider called; a look that is under way is repeated."""
    execute(
        "UPDATE tasks_app_remotejob SET next_look_at = now(), look_token = NULL"
        " WHERE callback_token = %s AND provider = %s AND state = 'running'",
        [callback_token, provider],
    )


def keep_result(provider: str, callback_token: str, remote: dict[str, Any]) -> None:
    """Store a result that the provider sends only once, in its callback; the first one counts."""
    execute(
        "UPDATE tasks_app_remotejob SET remote = remote || %s, next_look_at = now()"
        " WHERE callback_token = %s AND provider = %s AND state <> 'ended'"
        " AND NOT remote ? 'called'",
        [_json({"called": remote}), callback_token, provider],
    )


def late_files(task_id: uuid.UUID | None) -> tuple[RemoteJob, list[MediaFile]] | None:
    """Return a task's job that ended too late, and the files that were kept of it."""
    late = RemoteJob.objects.filter(task=task_id, outcome="late")
    job = late.order_by("-ended_at").first() if task_id else None
    files = list(MediaFile.objects.filter(run_token=job.id)) if job else []
    return (job, files) if job and files else None


def _json(value: Any) -> Jsonb:
    """Return what a provider said as PostgreSQL can hold it: jsonb has no NUL."""
    return Jsonb(_without_nul(value))


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, list | tuple):
        return [_without_nul(item) for item in value]
    if isinstance(value, dict):
        return {_without_nul(name): _without_nul(item) for name, item in value.items()}
    return value


def _count(provider: str, server: str, outcome: str) -> None:
    """Count a job's end, once it is committed."""
    transaction.on_commit(lambda: metrics.remote_job_ended(provider, server, outcome))


def _returned(sql: str, values: list[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return list(cursor.fetchall())


def execute(sql: str, values: list[Any]) -> bool:
    """Run a statement; say whether it hit a row."""
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return bool(cursor.rowcount > 0)
