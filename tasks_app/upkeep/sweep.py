"""What did a crash leave behind, and who repairs it?

Runs every few seconds in every worker process; a lease lets one at a time work. Each step is safe
to run twice, and safe to be killed in.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import structlog
from django.conf import settings
from django.db.models import Case, CharField, Exists, OuterRef, QuerySet, UUIDField, When
from django.db.models.functions import Cast

from tasks_app import tickets
from tasks_app.events import TERMINAL_EVENTS
from tasks_app.media import mark
from tasks_app.models import Task
from tasks_app.state import assets, inputs, lifecycle, remote, statements
from tasks_app.task_types import TASK_TYPES
from tasks_app.upkeep import daily
from webhooks_app import outbox
from webhooks_app.crash_points import faultpoint
from webhooks_app.models import WebhookMessage
from webhooks_app.notation import UUID_TEXT

logger = structlog.get_logger(__name__)

TICKETS_AT_ONCE = 100
#: A younger work directory may belong to a claim that is not committed yet.
WORK_DIR_MIN_AGE_SECONDS = 60

#: How far back a sweep looks for tasks that ended without a message.
RECENT = timedelta(minutes=10)


@dataclass(frozen=True)
class Swept:
    """What one sweep repaired; ``missing_messages`` and ``astray_tasks`` must always be zero."""

    expired_leases: int
    overdue_tasks: int
    tickets_sent: int
    missing_messages: int
    astray_tasks: int


def sweep() -> Swept | None:
    """Repair once and return what was repaired; None when another process has the lease."""
    with _alone() as is_alone:
        if not is_alone:
            return None
        leases = lifecycle.take_expired_leases()
        faultpoint("sweep.after_requeue")
        overdue = lifecycle.fail_overdue() + remote.end_stranded()
        inputs.settle()
        sent = send_tickets()
        faultpoint("sweep.after_tickets")
        remove_dead_work()
        missing = report_missing_messages()
        astray = report_astray()
        mark.keep()
        daily.prune_daily()
    return Swept(leases, overdue, sent, missing, astray)


@contextmanager
def _alone() -> Iterator[bool]:
    """Hold the sweep's lease; it expires if its process dies or freezes.

    A row, not an advisory lock, which a pooler could leave on another client's session. A process
    that resumes late works at the same time as the next holder: each step is safe to run twice.
    """
    token = uuid.uuid4()
    patience = 2 * settings.SWEEP_INTERVAL_SECONDS
    is_alone = statements.take_lease("sweep", token, patience)
    try:
        yield is_alone
    finally:
        if is_alone:
            statements.end_lease("sweep", token)


def send_tickets() -> int:
    """Send missing tickets: per type min(due, TICKETS_AT_ONCE) minus those waiting in Redis."""
    sent = 0
    for task_type in TASK_TYPES.values():
        due = statements.due_count(task_type.name, TICKETS_AT_ONCE)
        waiting = tickets.waiting_tickets(task_type.queue) if due else 0
        if waiting is None:
            return sent
        for _ in range(due - waiting):
            sent += tickets.send_ticket(task_type.name, "")
    if assets.due().exists() and not tickets.waiting_tickets(tickets.FETCH_QUEUE):
        sent += tickets.send_ticket(tickets.FETCH, "")
    return sent


def remove_dead_work() -> None:
    """Remove work directories whose run has ended."""
    root = Path(settings.WORK_ROOT)
    old = time.time() - WORK_DIR_MIN_AGE_SECONDS
    names = [p.name for p in root.iterdir() if mark.is_uuid(p.name)] if root.is_dir() else []
    live = {
        str(token)
        for token in Task.objects.filter(run_token__in=names).values_list("run_token", flat=True)
    }
    for name in names:
        # A run that ends now may remove its directory at the same time.
        with contextlib.suppress(FileNotFoundError):
            if name not in live and (root / name).stat().st_mtime < old:
                _remove_unless_in_use(root / name)


def _remove_unless_in_use(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(directory, ignore_errors=True)
    except BlockingIOError:  # in use by a run of another database with the same folder
        pass
    finally:
        os.close(descriptor)


def report_missing_messages() -> int:
    """Count recently ended tasks without the webhook message they should have; must be zero."""
    missing = [
        str(task_id) for event_type in TERMINAL_EVENTS for task_id in _without_message(event_type)
    ]
    if missing:
        logger.error("Webhook message is missing", task_ids=missing[:20], count=len(missing))
    return len(missing)


def report_astray() -> int:
    """Count tasks and work at providers that do not fit each other; must be zero."""
    astray = [str(task_id) for task_id in remote.astray()]
    if astray:
        logger.error("Remote work is astray", task_ids=astray[:20], count=len(astray))
    return len(astray)


def _without_message(event_type: str) -> QuerySet[Task, uuid.UUID]:
    """Return recently ended tasks that asked for this event but have no message for it."""
    # CASE first: a plain cast would fail at a subject that is not a task's UUID.
    subject = Case(When(subject__regex=f"^{UUID_TEXT}$", then=Cast("subject", UUIDField())))
    ended = outbox.recent_ends(event_type, RECENT).values_list(subject)
    told = WebhookMessage.objects.filter(
        event__subject=Cast(OuterRef("pk"), CharField()),
        event__event_type=event_type,
        url=OuterRef("callback_url"),
    )
    owed = Task.objects.filter(pk__in=ended, webhook_events__contains=[event_type])
    return owed.exclude(callback_url="").exclude(Exists(told)).values_list("pk", flat=True)
