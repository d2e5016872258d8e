"""How does one claimed task get from claim to finish?

Synchronous: a thread of the worker stays with the task. A second thread keeps the lease
alive and notices when the task is not ours any more. What can crash or hang runs in a
child process of the provider; the deadline is that child being killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import structlog
from django.conf import settings
from django.db import Error, close_old_connections, connection

from tasks_app import tickets
from tasks_app.failures import own_frames
from tasks_app.media import store
from tasks_app.models import MediaFile, Task
from tasks_app.providers import get_provider
from tasks_app.providers.base import Cancelled, Job, Provider, ProviderError
from tasks_app.state import lifecycle
from tasks_app.tickets import stopping
from webhooks_app.conf import webhook_settings
from webhooks_app.crash_points import faultpoint
from webhooks_app.database import why_unusable

logger = structlog.get_logger(__name__)
T = TypeVar("T")

#: How often the watch looks whether the task was cancelled; a cancel must bite within 2 s.
WATCH_SECONDS = 0.5
PROGRESS_SECONDS = 1.0
#: A dead database would burn the whole queue in a second if tickets were not held a moment.
OUTAGE_PAUSE_SECONDS = 1.0
#: How soon the end of an attempt is written again: sooner than the sweep gives the task away.
WRITE_AGAIN_SECONDS = 0.5
#: One ticket serves tasks for so long; longer ones are worth a ticket each.
SHORT_SECONDS = 1.0

#: How long a ticket waits for a seat. While renders are short the next begins as one ends; and
#: where thousands of tickets wait, those that meet a full house cost next to nothing.
SEAT_SECONDS = 0.05

_slots = threading.BoundedSemaphore(settings.RENDER_SLOTS)
#: A ticket met a full house; whoever leaves has to call again.
_turned_away = threading.Event()


class _Seat:
    """A place for one local render, free again when the render is done; `free` may be repeated."""

    def __init__(self, provider: Provider) -> None:
        self._is_held = provider.is_local  # work elsewhere takes none

    def free(self) -> None:
        """Let the next render begin, and call again whoever was sent away meanwhile."""
        if self._is_held:
            self._is_held = False
            _slots.release()
            if _turned_away.is_set():
                _turned_away.clear()
                _send_tickets(_types_due())


def _take_seat(provider: Provider) -> _Seat | None:
    if provider.is_local and not _slots.acquire(timeout=SEAT_SECONDS):
        # Said before the last look: whoever leaves after it has read it.
        _turned_away.set()
        if not _slots.acquire(blocking=False):
            return None
    return _Seat(provider)


def run_next(task_type: str) -> None:
    """Claim the best task of a type and see it through; a no-op when there is none.

    Goes on with the next while tasks are short and nobody waits for another type: a ticket's
    way through the broker would take as long as such a task.
    """
    began = time.monotonic()
    while not stopping.is_set() and _run_one(task_type):
        if stopping.is_set():
            return
        faultpoint("run.before_more_tickets")
        due = _types_due()
        if due != [task_type] or time.monotonic() - began > SHORT_SECONDS:
            return _send_tickets(due)


def _run_one(task_type: str) -> bool:
    """Tell whether there was a task, and a seat for it."""
    provider = get_provider(task_type)
    seat = _take_seat(provider)
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
    with _without_database("ticket let go"):
        return lifecycle.claim_next(task_type)
    stopping.wait(OUTAGE_PAUSE_SECONDS)
    return None


def _types_due() -> list[str]:
    with _without_database("no tickets sent"):
        return lifecycle.types_due()
    return []


@contextmanager
def _without_database(consequence: str = "") -> Iterator[None]:
    """Go on where the database cannot be used, and log what that means; other errors pass."""
    try:
        yield
    except Error as error:
        if not (reason := why_unusable(error)):
            raise
        if consequence:
            logger.warning("Database cannot be used", reason=reason, consequence=consequence)


def _through_outages(write: Callable[[], T]) -> T:
    """Call until the database takes it: what was rendered, or paid for, is not given up.

    Raises:
        LostClaim: the lease ran out meanwhile, and somebody else has the task.
    """
    is_told = False
    while True:
        try:
            return write()
        except Error as error:
            if stopping.is_set() or not (reason := why_unusable(error)):
                raise
            if not is_told:
                logger.warning("Task waits for the database", reason=reason)
                is_told = True
        stopping.wait(WRITE_AGAIN_SECONDS)
        close_old_connections()


def _send_tickets(task_types: list[str]) -> None:
    """Ask for more work where more is due, since one ticket may have met a full house."""
    for task_type in task_types:
        tickets.send_ticket(task_type, "")


def _run(task: Task, provider: Provider, seat: _Seat) -> None:
    work_dir = Path(settings.WORK_ROOT) / str(task.run_token)
    with _Watch(task) as watch, _without_database("the task is left to its lease"):
        try:
            work_dir.mkdir(parents=True, exist_ok=True)
            with _in_use(work_dir):
                _work(task, provider, work_dir, watch, seat)
        except Cancelled:
            _stopped(task, watch)
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
    """Hold a lock on a work directory, so that no sweep, of whichever database, removes it."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def _work(task: Task, provider: Provider, work_dir: Path, watch: _Watch, seat: _Seat) -> None:
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
        _through_outages(partial(lifecycle.complete, task, receipt, files))
    except lifecycle.LostClaim:
        # Unless an earlier try was committed and only the answer to it was lost.
        if not MediaFile.objects.filter(run_token=str(task.run_token)).exists():
            store.discard(files)
        raise


def _stopped(task: Task, watch: _Watch) -> None:
    if stopping.is_set() and not watch.is_lost:
        lifecycle.hand_back(task)
    logger.info("Task work was stopped")


def _failed(task: Task, error: ProviderError) -> None:
    # The client is told a sentence of ours; whoever reads the log needs the provider's own.
    logger.warning("Attempt failed", error_code=error.code, reason=error.message or None)
    waits = settings.TASK_RETRY_WAITS
    # The client's own deadline is final; a provider's time-out inside it is not.
    is_final = not error.retryable or error.code == "timed_out" or task.attempts >= len(waits)
    write: Callable[[], object]
    if is_final:
        write = partial(lifecycle.fail, task, error.code, _traceback(error))
    else:
        wait = error.retry_after or waits[task.attempts]
        write = partial(lifecycle.retry_later, task, error.code, wait)
    with contextlib.suppress(lifecycle.LostClaim):
        _through_outages(write)


def _traceback(error: ProviderError) -> str:
    """Return the frames that receivers are shown; where time ran out, nothing erred."""
    return "" if error.code == "timed_out" else error.traceback_text or own_frames(error)


class _Watch:
    """Keep the lease alive in a thread and connection of its own; notice when it is lost."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._done = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._loop, name=f"watch-{task.id}", daemon=True)

    @property
    def is_lost(self) -> bool:
        """Tell whether the task was cancelled or given to another worker."""
        return self._lost.is_set()

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._done.set()
        self._thread.join()

    def _loop(self) -> None:
        third = settings.TASK_LEASE_SECONDS / 3
        extended = time.monotonic()
        try:
            while not self._done.wait(min(WATCH_SECONDS, third)):
                now = time.monotonic()
                is_time = now - extended >= third
                faultpoint("watch.before_look")
                with _without_database():
                    # Only the token decides, never the time: an outage does not end a claim.
                    look = lifecycle.extend_lease if is_time else lifecycle.is_ours
                    if not look(self._task):
                        self._lost.set()
                        return
                    extended = now if is_time else extended
        finally:
            connection.close()


class _RunContext:
    """What the provider sees of the runner (`tasks_app.providers.base.Context`)."""

    def __init__(self, task: Task, watch: _Watch, deadline: float) -> None:
        self._task = task
        self._watch = watch
        self._deadline = deadline
        self._fraction = 0.0
        self._stored_at = 0.0
        # The first progress event may go at once, the next after the interval.
        self._event_at = -float("inf")

    def progress(self, fraction: float, step: str, detail: str = "") -> None:
        """Store the progress, at most once a second; it never goes back."""
        now = time.monotonic()
        self._fraction = min(1.0, max(self._fraction, fraction))
        if now - self._stored_at < PROGRESS_SECONDS:
            return
        self._stored_at = now
        is_event_due = now - self._event_at >= webhook_settings.PROGRESS_INTERVAL
        if is_event_due:
            self._event_at = now
        text = f"{step}: {detail}" if detail else step
        with _without_database(), contextlib.suppress(lifecycle.LostClaim):
            lifecycle.progress(self._task, self._fraction, text, is_event_due=is_event_due)

    def cancelled(self) -> bool:
        """Tell whether the work is not wanted any more."""
        return self._watch.is_lost or stopping.is_set()

    def is_over(self) -> bool:
        """Tell whether the task has ended; a lost lease or a shutdown is not the end."""
        with _without_database():
            return lifecycle.has_ended(self._task)
        return False

    def save_remote(self, state: dict[str, Any]) -> None:
        """Make the provider's state durable."""
        _through_outages(partial(lifecycle.save_remote, self._task, state))

    def seconds_left(self) -> float:
        """Return the seconds until the deadline."""
        return self._deadline - time.monotonic()
