"""What did a crash leave behind, and who repairs it?

Run every few seconds in every worker process, one at a time by a lease. Each
step is safe to run twice, and safe to be killed in.
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
from tasks_app.state import lifecycle, statements
from tasks_app.task_types import TASK_TYPES
from tasks_app.upkeep import daily
from webhooks_app import outbox
from webhooks_app.crash_points import faultpoint
from webhooks_app.models import WebhookMessage

logger = structlog.get_logger(__name__)

TICKETS_AT_ONCE = 100
#: A work directory younger than this may belong to a claim we cannot see yet.
WORK_DIR_MIN_AGE_SECONDS = 60

#: How long ago an end may lie that a sweep looks at.
RECENT = timedelta(minutes=10)
UUID_TEXT = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"


@dataclass(frozen=True)
class Swept:
    """What one sweep repaired; ``missing_messages`` must be zero, always."""

    expired_leases: int
    overdue_tasks: int
    tickets_sent: int
    missing_messages: int


def sweep() -> Swept | None:
    """Repair once and say what there was; None when another process is at it."""
    with _alone() as is_alone:
        if not is_alone:
            return None
        leases = lifecycle.take_expired_leases()
        faultpoint("sweep.after_requeue")
        overdue = lifecycle.fail_overdue()
        sent = send_tickets()
        faultpoint("sweep.after_tickets")
        remove_dead_work()
        missing = report_missing_messages()
        mark.keep()
        daily.prune_daily()
    return Swept(leases, overdue, sent, missing)


@contextmanager
def _alone() -> Iterator[bool]:
    """Hold the sweep's lease; it ends by itself where a process dies or freezes in its sweep.

    A row and no advisory lock, which a pooler would keep on a session of somebody else. Who wakes
    up late finishes beside the next one: each step is safe to run twice.
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
    """Send the tickets that are missing: per type at most min(due, 100) minus those waiting."""
    sent = 0
    for task_type in TASK_TYPES.values():
        due = statements.due_count(task_type.name, TICKETS_AT_ONCE)
        waiting = tickets.waiting_tickets(task_type.queue) if due else 0
        if waiting is None:
            return sent
        for _ in range(due - waiting):
            sent += tickets.send_ticket(task_type.name, "")
    return sent


def remove_dead_work() -> None:
    """Remove work directories whose run is not live any more."""
    root = Path(settings.WORK_ROOT)
    old = time.time() - WORK_DIR_MIN_AGE_SECONDS
    names = [p.name for p in root.iterdir() if _is_token(p.name)] if root.is_dir() else []
    live = {
        str(token)
        for token in Task.objects.filter(run_token__in=names).values_list("run_token", flat=True)
    }
    for name in names:
        # A run that ends just now removes its own directory under our eyes.
        with contextlib.suppress(FileNotFoundError):
            if name not in live and (root / name).stat().st_mtime < old:
                _remove_unless_in_use(root / name)


def _remove_unless_in_use(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(directory, ignore_errors=True)
    except BlockingIOError:  # a run of another database that works in the same folder
        pass
    finally:
        os.close(descriptor)


def _is_token(name: str) -> bool:
    try:
        uuid.UUID(name)
    except ValueError:
        return False
    return True


def report_missing_messages() -> int:
    """Count recent ends without the message they owe: must be zero, always."""
    missing = [
        str(task_id) for event_type in TERMINAL_EVENTS for task_id in _without_message(event_type)
    ]
    if missing:
        logger.error("Webhook message is missing", task_ids=missing[:20], count=len(missing))
    return len(missing)


def _without_message(event_type: str) -> QuerySet[Task, uuid.UUID]:
    """Return the tasks that ended lately and asked to be told so, but nobody was."""
    # Not every subject is a task's: a cast alone would fail at the first that is none.
    subject = Case(When(subject__regex=UUID_TEXT, then=Cast("subject", UUIDField())))
    ended = outbox.recent_ends(event_type, RECENT).values_list(subject)
    told = WebhookMessage.objects.filter(
        event__subject=Cast(OuterRef("pk"), CharField()),
        event__event_type=event_type,
        url=OuterRef("callback_url"),
    )
    owed = Task.objects.filter(pk__in=ended, webhook_events__contains=[event_type])
    return owed.exclude(callback_url="").exclude(Exists(told)).values_list("pk", flat=True)
