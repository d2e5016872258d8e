"""How does one claimed task get from claim to finish?

Synchronous: one thread of the worker runs the task. A second thread extends the lease and notices
when the task is lost. Whatever may crash or hang runs in a child process of the provider, which is
killed at the deadline.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings

from tasks_app.failures import own_frames
from tasks_app.media import store
from tasks_app.models import MediaFile, Task
from tasks_app.providers import get_provider
from tasks_app.providers.base import Cancelled, Job, Provider, ProviderError
from tasks_app.state import lifecycle
from tasks_app.tickets import stopping
from tasks_app.work.claim_watch import ClaimWatch
from tasks_app.work.outages import through_outages, without_database
from tasks_app.work.seats import Seat, send_tickets, take_seat, types_due
from webhooks_app.crash_points import faultpoint
from webhooks_app.database import why_unusable

logger = structlog.get_logger(__name__)

PROGRESS_SECONDS = 1.0
#: Hold each ticket this long during an outage; otherwise all tickets would be used up at once.
OUTAGE_PAUSE_SECONDS = 1.0
#: A ticket is used for further tasks until this much time has passed.
SHORT_SECONDS = 1.0


def run_next(task_type: str) -> None:
    """Claim the best task of a type and run it to its end; does nothing if there is none.

    Continues with further tasks while they are short and no other type waits: the broker would
    take as long for the next ticket as such a task.
    """
    began = time.monotonic()
    while not stopping.is_set() and _run_one(task_type):
        if stopping.is_set():
            return
        faultpoint("run.before_more_tickets")
        due = types_due()
        if due != [task_type] or time.monotonic() - began > SHORT_SECONDS:
            return send_tickets(due)


def _run_one(task_type: str) -> bool:
    """Say whether there was a task and a free seat."""
    provider = get_provider(task_type)
    seat = take_seat(provider)
    if seat is None:
        return False
    try:
        task = _claim(task_type)
        if task is None:
            return False
        with structlog.contextvars.bound_contextvars(
            task_id=str(task.id), request_id=task.request_id
        ):
            _run(task, provider, seat)
        return True
    finally:
        seat.free()


def _claim(task_type: str) -> Task | None:
    with without_database("ticket let go"):
        return lifecycle.claim_next(task_type)
    stopping.wait(OUTAGE_PAUSE_SECONDS)
    return None


def _run(task: Task, provider: Provider, seat: Seat) -> None:
    work_dir = Path(settings.WORK_ROOT) / str(task.run_token)
    with ClaimWatch(task) as watch, without_database("the task is left to its lease"):
        try:
            work_dir.mkdir(parents=True, exist_ok=True)
            with _in_use(work_dir):
                _work(task, provider, work_dir, watch, seat)
        except Cancelled:
            if stopping.is_set() and not watch.is_lost:
                lifecycle.hand_back(task)
            logger.info("Task work was stopped")
        except ProviderError as error:
            _failed(task, error)
        except lifecycle.LostClaim:
            logger.info("Task is not ours any more; its work was discarded")
        except Exception as error:
            if why_unusable(error):
                raise
            logger.exception("Task crashed the runner")
            frames = own_frames(error)
            _failed(task, ProviderError("internal_error", traceback_text=frames))
        finally:
            shutil.rmtree(work_dir, ignore_errors=True)


@contextmanager
def _in_use(directory: Path) -> Iterator[None]:
    """Lock a work directory, so that no sweep (even of another database) deletes it."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def _work(task: Task, provider: Provider, work_dir: Path, watch: ClaimWatch, seat: Seat) -> None:
    deadline = time.monotonic() + task.timeout_seconds
    job = Job(
        task_id=str(task.id),
        attempt=task.attempts + 1,
        task_type=task.task_type,
        task_data=task.task_data,
        work_dir=work_dir,
        deadline=deadline,
        remote_state=task.remote_state,
    )
    result = provider.generate(job, _RunContext(task, watch, deadline))
    seat.free()
    faultpoint("run.after_generate")
    files = store.store(task, result)
    faultpoint("run.after_store")
    receipt = store.describe(result, files)
    try:
        through_outages(partial(lifecycle.complete, task, receipt, files))
    except lifecycle.LostClaim:
        # Keep the files if an earlier try had committed and only its reply was lost.
        if not MediaFile.objects.filter(run_token=str(task.run_token)).exists():
            store.discard(files)
        raise


def _failed(task: Task, error: ProviderError) -> None:
    # The client gets a sentence of ours; the log needs the provider's own.
    logger.warning("Attempt failed", error_code=error.code, reason=error.message or None)
    waits = settings.TASK_RETRY_WAITS
    # The time limit of the task is final; a time-out inside the provider is not.
    is_final = not error.retryable or error.code == "timed_out" or task.attempts >= len(waits)
    write: Callable[[], object]
    if is_final:
        # The traceback for receivers; a time-out is not an error in our code.
        is_error = error.code != "timed_out"
        frames = (error.traceback_text or own_frames(error)) if is_error else ""
        write = partial(lifecycle.fail, task, error.code, frames)
    else:
        wait = error.retry_after or waits[task.attempts]
        write = partial(lifecycle.retry_later, task, error.code, wait)
    with contextlib.suppress(lifecycle.LostClaim):
        through_outages(write)


class _RunContext:
    """The worker, as the provider sees it (`tasks_app.providers.base.Context`)."""

    def __init__(self, task: Task, watch: ClaimWatch, deadline: float) -> None:
        self._task = task
        self._watch = watch
        self._deadline = deadline
        self._fraction = 0.0
        self._stored_at = 0.0
        # The first progress event may be sent at once, the next after the interval.
        self._event_at = -float("inf")

    def progress(self, fraction: float, step: str, detail: str = "") -> None:
        """Store the progress, at most once a second; it never decreases."""
        now = time.monotonic()
        self._fraction = min(1.0, max(self._fraction, fraction))
        if now - self._stored_at < PROGRESS_SECONDS:
            return
        self._stored_at = now
        is_event_due = now - self._event_at >= settings.TASK_PROGRESS_EVENT_SECONDS
        if is_event_due:
            self._event_at = now
        text = f"{step}: {detail}" if detail else step
        with without_database(), contextlib.suppress(lifecycle.LostClaim):
            lifecycle.progress(self._task, self._fraction, text, is_event_due=is_event_due)

    def cancelled(self) -> bool:
        """Say whether the work is no longer wanted."""
        return self._watch.is_lost or stopping.is_set()

    def is_over(self) -> bool:
        """Say whether the task has ended; a lost lease or a shutdown does not count."""
        with without_database():
            return lifecycle.has_ended(self._task)
        return False

    def save_remote(self, state: dict[str, Any]) -> None:
        """Store the provider's state."""
        through_outages(partial(lifecycle.save_remote, self._task, state))

    def seconds_left(self) -> float:
        """Return the seconds until the deadline."""
        return self._deadline - time.monotonic()
