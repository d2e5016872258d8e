"""How do results come here? Downloaded, probed, stored, and the task completed, in one thread."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import structlog
from django.db import connection
from django.utils import timezone

from tasks_app.failures import own_frames
from tasks_app.media import probe, store
from tasks_app.models import MediaFile, RemoteJob, Task
from tasks_app.providers.base import Cancelled, ProviderError, Result
from tasks_app.providers.remote.base import RemoteProvider, UnknownJob, Work
from tasks_app.providers.remote.client import ProviderClient
from tasks_app.state import lifecycle, remote, remote_jobs
from tasks_app.task_types import TASK_TYPES
from tasks_app.tickets import stopping
from tasks_app.work.claim_watch import ClaimWatch
from tasks_app.work.outages import through_outages, without_database
from tasks_app.work.run import in_use
from webhooks_app import traces
from webhooks_app.crash_points import faultpoint
from webhooks_app.database import why_unusable

logger = structlog.get_logger(__name__)

#: Before another try to download what could not be reached, in seconds.
AGAIN_SECONDS = 10.0
#: How often a running download checks whether it is still wanted.
WATCH_SECONDS = 0.25
#: Failures of a download that say nothing about the result.
OUTAGES = ("provider_unavailable", "provider_rate_limited", "provider_auth", "storage_failed")


def finish(job: RemoteJob, provider: RemoteProvider, work: Work) -> None:
    """Fetch the results of a job that is ready, and complete its task."""
    try:
        overtaken = suppress(lifecycle.LostClaim, remote_jobs.LostJob)
        with (
            traces.within(job.traceparent),
            without_database("the results are left to the job's lease"),
            overtaken,
        ):
            task = through_outages(partial(remote.take_result, job))
            with ClaimWatch(task) as watch:
                try:
                    _finish(job, task, provider, work, watch)
                except Cancelled:
                    if not watch.is_lost:
                        remote.let_result_go(task)
                except ProviderError as error:
                    through_outages(partial(_failed, job, task, error))
                except Exception as error:
                    if why_unusable(error) or isinstance(error, lifecycle.LostClaim):
                        raise
                    logger.exception("Remote results crashed the worker", job_id=str(job.id))
                    crash = ProviderError("internal_error", traceback_text=own_frames(error))
                    through_outages(partial(_failed, job, task, crash))
    finally:
        connection.close()


def _finish(
    job: RemoteJob, task: Task, provider: RemoteProvider, work: Work, watch: ClaimWatch
) -> None:
    work = replace(work, task_data=task.task_data)  # a look does not read it
    context = _Wanted(job, lambda: watch.is_lost or stopping.is_set())
    with traces.span("remote fetch", provider=job.provider, server=job.server):
        result = _fetched(job, provider, work, context)
    faultpoint("run.after_generate")
    files = store.store(task, result)
    faultpoint("run.after_store")
    try:
        through_outages(partial(lifecycle.complete, task, store.describe(result, files), files))
    except lifecycle.LostClaim:
        _discard_unless_kept(files, task)
        raise
    remote_jobs.trace_end(job, "completed")
    shutil.rmtree(work.directory, ignore_errors=True)


def _discard_unless_kept(files: list[MediaFile], task: Task) -> None:
    """Delete files, unless an earlier try had committed and only its reply was lost."""
    if not MediaFile.objects.filter(run_token=str(task.run_token)).exists():
        store.discard(files)


def keep_late(job: RemoteJob, provider: RemoteProvider, work: Work) -> None:
    """Fetch the results of work that ended after its task's time, and keep them for a retry.

    Raises:
        ProviderError: they could not be fetched.
    """
    try:
        task = Task.objects.get(pk=job.task_id)
        task.run_token = job.id  # the folder of its files
        files = store.store(task, _fetched(job, provider, work, _Wanted(job, stopping.is_set)))
        try:
            remote.keep_late(job, files)
        except BaseException:
            _discard_unless_kept(files, task)
            raise
        shutil.rmtree(work.directory, ignore_errors=True)
        logger.info("Late result kept", task_id=str(task.id), job_id=str(job.id))
    except Cancelled:
        logger.info("Late result is left to the next worker", job_id=str(job.id))
    finally:
        connection.close()


def _fetched(job: RemoteJob, provider: RemoteProvider, work: Work, context: _Wanted) -> Result:
    if not job.outputs:
        raise ProviderError("output_invalid", "The provider made nothing.", retryable=False)
    work.directory.mkdir(parents=True, exist_ok=True)
    with in_use(work.directory):
        paths = asyncio.run(_download(job, provider, work, context))
        found = probe.probe_all([(path, None) for path in paths], context)
    kind = f"{TASK_TYPES[job.task_type].media}/"
    if not all(file.media_type.startswith(kind) for file in found):
        raise ProviderError("output_invalid", "The result is another kind of media.")
    roles = ["primary", *(f"primary_{n}" for n in range(2, len(paths) + 1))]
    files = tuple(
        file.as_output(role, path) for role, path, file in zip(roles, paths, found, strict=True)
    )
    metadata = {"remote_id": job.remote.get("id", ""), "server": job.server, **job.facts}
    seed = metadata.pop("seed", None)
    if seed is None:
        seed = provider.sent_seed(job.task_type, work.task_data, job.model)
    return Result(files, provider.name, job.model, seed=seed, metadata=metadata)


async def _download(
    job: RemoteJob, provider: RemoteProvider, work: Work, context: _Wanted
) -> list[Path]:
    """Fetch, and stop as soon as the work is no longer wanted."""
    server = next((s for s in provider.servers(job.model) if s.label == job.server), None)
    if server is None:
        text = f"The server {job.server} is not configured."
        raise ProviderError("provider_unavailable", text)
    async with ProviderClient(server) as line:
        download = asyncio.ensure_future(provider.fetch(work, job.outputs, line))
        while not (await asyncio.wait({download}, timeout=WATCH_SECONDS))[0]:
            if context.cancelled() or context.seconds_left() <= 0:
                download.cancel()
                await asyncio.wait({download})
                if context.cancelled():
                    raise Cancelled
                raise ProviderError("timed_out", "The task's time is over.")
        return download.result()


def _failed(job: RemoteJob, task: Task, error: ProviderError) -> None:
    """Fetch again later, start the work anew, or end the attempt."""
    logger.warning("Remote results were not fetched", reason=error.message, task_id=str(task.id))
    if isinstance(error, UnknownJob):
        remote.lose(job, error.message, task=task)
    elif error.code in OUTAGES:
        remote.let_result_go(task)
        if job.deadline > remote_jobs.now_of(job):
            remote_jobs.look_in(job, error.retry_after or AGAIN_SECONDS, error.message)
        else:  # what was paid for is fetched by the stop, and kept for a retry
            remote.time_out(job)
    else:
        remote.fail(job, error, task=task)


class _Wanted:
    """The worker, as fetching and probing see it (`tasks_app.providers.base.Context`)."""

    def __init__(self, job: RemoteJob, is_unwanted: Callable[[], bool]) -> None:
        self.cancelled = is_unwanted
        # A late result has the same time again.
        seconds = (job.deadline - timezone.now()).total_seconds()
        whole = (job.deadline - job.created_at).total_seconds()
        self._end = time.monotonic() + (seconds if seconds > 0 else max(60.0, whole))

    def progress(self, fraction: float, step: str, detail: str = "") -> None:
        """Do nothing: fetching is the last tenth."""

    def seconds_left(self) -> float:
        """Return the seconds until the deadline."""
        return self._end - time.monotonic()
