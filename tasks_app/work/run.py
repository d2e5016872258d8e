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
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import structlog
from django.conf import settings

from tasks_app.failures import own_frames
from tasks_app.media import store
from tasks_app.models import MediaFile, RemoteJob, Task
from tasks_app.providers import get_providers, prices
from tasks_app.providers.base import (
    Cancelled,
    Job,
    LocalProvider,
    Provider,
    ProviderError,
    Result,
)
from tasks_app.providers.remote.base import RemoteProvider
from tasks_app.state import lifecycle, remote, remote_jobs
from tasks_app.tickets import stopping
from tasks_app.work import fit
from tasks_app.work.claim_watch import ClaimWatch
from tasks_app.work.outages import through_outages, without_database
from tasks_app.work.seats import Seat, send_tickets, take_seat, types_due
from webhooks_app import traces
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
    chain = get_providers(task_type)
    # Which of a chain's providers it is, the task says: a seat is free again where none is needed.
    seat = take_seat(next((each for each in chain if each.is_local), chain[0]))
    if seat is None:
        return False
    try:
        is_begun = not any(isinstance(each, RemoteProvider) for each in chain)
        task = _claim(task_type, is_begun=is_begun)
        if task is None:
            return False
        provider = chain[min(len(task.fallback_from), len(chain) - 1)]
        if not provider.is_local:
            seat.free()
        ids = {"task_id": str(task.id), "request_id": task.request_id}
        with structlog.contextvars.bound_contextvars(**ids), traces.within(task.traceparent):
            _trace_wait(task)
            _run(task, provider, seat, is_begun=is_begun)
        return True
    finally:
        seat.free()


def _trace_wait(task: Task) -> None:
    if traces.recorder is not None and task.traceparent and task.started_at:
        traces.recorder(
            traces.Span(
                name="queue wait",
                parent=task.traceparent,
                start=task.available_at.timestamp(),
                end=task.started_at.timestamp(),
                kind="consumer",
                attributes=_traced(task),
            )
        )


def _traced(task: Task) -> dict[str, str | int]:
    """Return what spans say of a task."""
    return {
        "task.id": str(task.id),
        "task.type": task.task_type,
        "project.id": task.project_id,
        "task.attempt": task.attempts + 1,
    }


def _claim(task_type: str, *, is_begun: bool) -> Task | None:
    with without_database("ticket let go"):
        return lifecycle.claim_next(task_type, is_begun=is_begun)
    stopping.wait(OUTAGE_PAUSE_SECONDS)
    return None


def _run(task: Task, provider: Provider, seat: Seat, *, is_begun: bool = True) -> None:
    work_dir = Path(settings.WORK_ROOT) / str(task.run_token)
    with ClaimWatch(task) as watch, without_database("the task is left to its lease"):
        try:
            if isinstance(provider, RemoteProvider):
                return _send_away(task, provider)
            assert isinstance(provider, LocalProvider)
            fit.require(task, provider)
            task = task if is_begun else lifecycle.begin_here(task)
            work_dir.mkdir(parents=True, exist_ok=True)
            with in_use(work_dir):
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


def _send_away(task: Task, provider: RemoteProvider) -> None:
    """Give a task to a provider elsewhere, or let it wait for room there."""
    model = task.task_data.get("model") or provider.model
    if task.seconds_at_claim <= 0:
        told = remote.why_stranded(task.task_type, f"{provider.name}:{model}")
        raise ProviderError("timed_out", "Its time passed while it waited.", told=told)
    if late := remote_jobs.late_files(task.retry_of_id):
        return _take_over(task, provider, *late)
    fit.require(task, provider)
    remote.begin(task, provider.name, model, provider.servers(model))


def _take_over(task: Task, provider: RemoteProvider, job: RemoteJob, kept: list[MediaFile]) -> None:
    """Complete a retry from what the task before it paid for and got too late."""
    files = store.copy(task, kept)
    told = {"taken_from": str(job.task_id), **job.facts}
    seed = told.pop("seed", None)
    if seed is None:
        seed = provider.sent_seed(task.task_type, task.task_data, job.model)
    cost = prices.nothing(job.model)
    result = Result((), job.provider, job.model, seed=seed, metadata=told, cost=cost)
    through_outages(partial(lifecycle.complete, task, store.describe(result, files), files))


@contextmanager
def in_use(directory: Path) -> Iterator[None]:
    """Lock a work directory, so that no sweep (even of another database) deletes it."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def _work(
    task: Task, provider: LocalProvider, work_dir: Path, watch: ClaimWatch, seat: Seat
) -> None:
    deadline = time.monotonic() + task.seconds_at_claim
    job = Job(
        task_id=str(task.id),
        attempt=task.attempts + 1,
        task_type=task.task_type,
        task_data=task.task_data,
        work_dir=work_dir,
        deadline=deadline,
    )
    with traces.span("provider run", provider=provider.name, **_traced(task)):
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
    with contextlib.suppress(lifecycle.LostClaim):
        through_outages(partial(lifecycle.end_attempt, task, error))


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

    def seconds_left(self) -> float:
        """Return the seconds until the deadline."""
        return self._deadline - time.monotonic()
