"""How are messages sent again? The one service behind the admin, the API and the command.

A replay is a `ReplayJob`, even for one message. It makes messages due again, with the same
`webhook-id` and the same bytes; the engine sends them like every other message. Bulk jobs advance
in batches, each one transaction that also stores the progress: after a crash at any point the
replay continues with the next message, and none is sent twice.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Count, Max

from webhooks_app import outbox
from webhooks_app.crash_points import faultpoint
from webhooks_app.egress import check_url
from webhooks_app.models import ReplayJob, ReplayState, WebhookMessage
from webhooks_app.operators import record
from webhooks_app.operators.replay_preview import Preview
from webhooks_app.operators.replay_progress import Progress, progress
from webhooks_app.operators.replay_refusals import (
    DestinationDisabled,
    InFlight,
    NotRunning,
    ReasonMissing,
    SeveralProjects,
)
from webhooks_app.outbox import (
    ANY_STATUS,
    MessageFilters,
    messages_of,
    replay_messages,
    replay_messages_to,
)
from webhooks_app.shown import safe_url

#: Messages per transaction: row locks for some ten milliseconds.
BATCH = 500
MAX_RATE = 10_000.0
#: A late job may send as much at once as its rate allows in this time.
CATCH_UP_SECONDS = 1.0


def start(
    filters: MessageFilters,
    *,
    scope: str | None = None,
    to_url: str = "",
    all_projects: bool = False,
    shown: Preview | None = None,
    rate: float | None = None,
    reason: str = "",
    requested_by: str,
    source: str,
) -> ReplayJob:
    """Start a bulk replay; the engine advances it, or a caller of `advance` does.

    Messages that are written later are not part of it. ``to_url`` receives only events of the
    projects found now, also where messages of others come to match while it runs.

    Args:
        scope: the only project whose messages may be touched; None for all.
        to_url: another URL to send the events to.
        all_projects: whether that URL may receive the events of several projects.
        shown: what somebody said yes to: the URL receives no other project's events.
        rate: messages a second at most; None for as fast as they can be made due.

    Raises:
        EgressDenied, ValueError: ``to_url`` may not be called; the rate is out of range.
        SeveralProjects: ``to_url`` would receive several projects' events, or unseen ones.
        ReasonMissing: there is none, and the target changes, or several messages are meant.
    """
    _check(to_url, rate)
    filters = filters.for_replay()
    with transaction.atomic():
        if to_url:
            filters, total, highest = _meant_for_one_url(filters, scope, all_projects, shown)
        else:
            total, highest = _meant(filters, scope)
        if not reason.strip() and (to_url or total > 1):
            raise ReasonMissing("say why: it goes on record")
        job = ReplayJob(
            scope=scope or filters.project or None,
            rate_per_second=rate,
            source=source,
            total=total,
            highest_message_id=highest,
            next_batch_at=_now(),
        )
        what = f"replay {job.id}: {filters.describe()}"
        _save(job, filters, to_url, what, reason=reason, requested_by=requested_by)
        outbox.wake()
    return job


def _meant(filters: MessageFilters, scope: str | None) -> tuple[int, int]:
    """Return the number of messages, and the highest id."""
    meant = messages_of(filters, scope).aggregate(count=Count("id"), highest=Max("id"))
    return meant["count"], meant["highest"] or 0


def _meant_for_one_url(
    filters: MessageFilters, scope: str | None, all_projects: bool, shown: Preview | None
) -> tuple[MessageFilters, int, int]:
    """Return the filters bound to the projects found, the number of events, and the highest id."""
    by_project = messages_of(filters, scope).values_list("destination__scope").order_by()
    rows = list(by_project.annotate(Count("event_id", distinct=True), Max("id")))
    found = {row[0] for row in rows}
    if len(found) > 1 and not all_projects:
        raise SeveralProjects(found)
    if shown is not None and shown.is_exact and (fresh := found - set(shown.projects)):
        raise SeveralProjects(found, fresh)
    if len(found) == 1:
        filters = replace(filters, project=min(found))
    elif not filters.project:
        filters = replace(filters, projects=tuple(sorted(found)))
    return filters, sum(row[1] for row in rows), max((row[2] for row in rows), default=0)


def _save(
    job: ReplayJob,
    filters: MessageFilters,
    to_url: str,
    what: str,
    *,
    reason: str,
    requested_by: str,
) -> None:
    """Store a new job, and what it is in the record."""
    job.filters, job.target_url = filters.as_json(), to_url
    job.reason, job.requested_by = reason[:500], requested_by[:150]
    job.save(force_insert=True)
    target = f"{what} to {safe_url(to_url)}" if to_url else what
    record.note(requested_by, "replay.start", target, reason, scope=job.scope or "")


def _check(to_url: str, rate: float | None) -> None:
    if to_url:
        check_url(to_url)
    if rate is not None and not 0 < rate <= MAX_RATE:
        raise ValueError(f"the rate is more than 0 and at most {MAX_RATE:g} messages a second")


def replay_one(
    message: WebhookMessage, *, to_url: str = "", reason: str = "", requested_by: str, source: str
) -> ReplayJob:
    """Replay one message now, also a delivered one.

    A message that is due already is sent anyway: the job counts it as skipped.

    Raises:
        InFlight: an attempt is under way.
        DestinationDisabled: its destination is disabled.
        EgressDenied: ``to_url`` may not be called.
        ReasonMissing: it goes to another URL, and nobody said why.
    """
    if to_url:
        check_url(to_url)
        if not reason.strip():
            raise ReasonMissing("say why it goes to another URL: that goes on record")
    with transaction.atomic():
        message = _locked(message.pk, to_url)
        filters = MessageFilters(ids=(message.pk,)).for_replay()
        job = ReplayJob(
            scope=message.event.scope, source=source, total=1, highest_message_id=message.pk
        )
        what = f"message {message.pk}"
        _save(job, filters, to_url, what, reason=reason, requested_by=requested_by)
        _run_batch(job, [message.pk])
        _finish(job, ReplayState.FINISHED)
    return job


def cancel(job: ReplayJob, *, requested_by: str, reason: str = "") -> ReplayJob:
    """Cancel a running replay: messages made due are still sent, the rest is not.

    Raises:
        NotRunning: it has ended already.
    """
    with transaction.atomic():
        job = ReplayJob.objects.select_for_update().get(pk=job.pk)
        if job.state != ReplayState.RUNNING:
            raise NotRunning(f"this replay is {job.state}")
        _finish(job, ReplayState.CANCELLED)
        target, project = f"replay {job.id}", job.scope or ""
        record.note(requested_by, "replay.cancel", target, reason, scope=project)
    return job


def advance_running_jobs(budget_seconds: float = 0.5) -> int:
    """Advance every running replay whose next batch is due; return the number made due.

    Safe in any number of processes: a job that another process advances is skipped. Returns after
    about ``budget_seconds``; the next call does the rest.
    """
    deadline = time.monotonic() + budget_seconds
    made_due = 0
    while time.monotonic() < deadline:
        running = ReplayJob.objects.filter(state=ReplayState.RUNNING, next_batch_at__lte=_now())
        jobs = list(running.order_by("next_batch_at").values_list("id", flat=True)[:20])
        for job_id in jobs:
            made_due += advance(job_id) or 0
        if not jobs:
            break
    return made_due


def advance(job_id: UUID) -> int | None:
    """Do the next batch of one replay.

    Returns: the messages made due; None when the job is not running, not due yet, or advanced
        by another process at this moment.
    """
    with transaction.atomic():
        rows = ReplayJob.objects.select_for_update(skip_locked=True)
        job = rows.filter(pk=job_id, state=ReplayState.RUNNING, next_batch_at__lte=_now()).first()
        if job is None:
            return None
        size = BATCH if job.rate_per_second is None else min(BATCH, math.ceil(job.rate_per_second))
        ids = _next_ids(job, size)
        started = _run_batch(job, ids)
        faultpoint("replay.before_commit")
        if len(ids) < size:
            _finish(job, ReplayState.FINISHED)
        elif job.rate_per_second is not None:
            job.next_batch_at = _after(job, started / job.rate_per_second)
            job.save(update_fields=["next_batch_at"])
    return started


def wait_for(job: ReplayJob, on_progress: Callable[[Progress], None], timeout: float) -> Progress:
    """Advance one replay and wait until none of its messages is pending any more.

    Args:
        on_progress: is called a few times a second.
        timeout: seconds; what is known then is returned.
    """
    deadline = time.monotonic() + timeout
    while True:
        while advance(job.pk) is not None:
            pass
        job.refresh_from_db()
        seen = progress(job)
        on_progress(seen)
        if seen.is_settled or time.monotonic() >= deadline:
            return seen
        time.sleep(0.2)


def _next_ids(job: ReplayJob, size: int) -> list[int]:
    meant = messages_of(MessageFilters.stored(job.filters), job.scope)
    window = meant.filter(id__gt=job.last_message_id, id__lte=job.highest_message_id)
    return list(window.order_by("id").values_list("id", flat=True)[:size])


def _run_batch(job: ReplayJob, ids: list[int]) -> int:
    if not ids:
        return 0
    if job.target_url:
        # Several messages of one event become one there, so a count of rows does not fit.
        filters = MessageFilters.stored(job.filters)
        status = "" if filters.status == ANY_STATUS else filters.status
        started = replay_messages_to(job.pk, ids, job.target_url, status)
    else:
        started = replay_messages(job.pk, ids)
        job.skipped_count += len(ids) - len(started)
    job.last_message_id = ids[-1]
    job.started_count += len(started)
    job.save(update_fields=["last_message_id", "started_count", "skipped_count"])
    if started:
        outbox.wake()
    return len(started)


def _finish(job: ReplayJob, state: ReplayState) -> None:
    """End a job. Messages whose status changed meanwhile count as skipped, so that the sum fits."""
    job.state = state
    job.finished_at = _now()
    job.next_batch_at = None
    if state == ReplayState.FINISHED:
        job.skipped_count = max(job.skipped_count, job.total - job.started_count)
    job.save(update_fields=["state", "finished_at", "next_batch_at", "skipped_count"])


def _after(job: ReplayJob, seconds: float) -> datetime:
    """Return when the next batch is due, counted from when this one was due, to avoid drift."""
    now = _now()
    due = job.next_batch_at or now
    return max(due, now - timedelta(seconds=CATCH_UP_SECONDS)) + timedelta(seconds=seconds)


def _locked(message_id: int, to_url: str) -> WebhookMessage:
    rows = WebhookMessage.objects.select_related("event", "destination")
    message = rows.select_for_update(of=("self",)).get(pk=message_id)
    target: WebhookMessage | None = message
    if to_url:
        twins = WebhookMessage.objects.select_for_update().filter(url=to_url)
        target = twins.filter(event_id=message.event_id).first()
    lease_end = target.lease_expires_at if target and target.lease_token else None
    if lease_end and lease_end > _now():
        raise InFlight("an attempt of this message is under way")
    if to_url:
        _, is_disabled = outbox.destination_of(message.event.scope, to_url)
    else:
        is_disabled = message.destination.disabled_at is not None
    if is_disabled:
        raise DestinationDisabled("the destination is disabled; enable it first")
    return message


def _now() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT now()")
        now: datetime = cursor.fetchone()[0]
    return now
