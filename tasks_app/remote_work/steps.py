"""What is done with one remote job next: submit, look, fetch or stop; and what does it lead to?

Every step ends in one transaction of `state.remote`. A step that another process has overtaken
writes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import structlog

from tasks_app.failures import own_frames
from tasks_app.media.inputs import InputFile, inputs_of
from tasks_app.models import RemoteJob, Task
from tasks_app.providers.base import CancelOutcome, ProviderError
from tasks_app.providers.remote.base import (
    Busy,
    JobStatus,
    RemoteProvider,
    UnknownJob,
    Work,
    WorkFailed,
)
from tasks_app.providers.remote.client import (
    CALL_SECONDS,
    ProviderClient,
    ProxyDown,
    Unreachable,
)
from tasks_app.remote_work import results
from tasks_app.remote_work.calls import Lines, away, ids_of, is_unclear, work_of
from tasks_app.remote_work.watchers import Watchers
from tasks_app.remote_work.writes import OVERTAKEN, Writes
from tasks_app.state import remote, remote_jobs, server_rows
from tasks_app.work import fit
from tasks_app.work.run import in_use
from webhooks_app import traces
from webhooks_app.crash_points import faultpoint
from webhooks_app.database import why_unusable

logger = structlog.get_logger(__name__)

#: Threads that download and probe results.
FETCHERS = 4
FETCH_AGAIN_SECONDS = 1.0
#: Wait for a server that was busy or away and named no time, in seconds.
BUSY_SECONDS, AWAY_SECONDS = 2.0, 10.0
#: The same where somebody has to change the configuration first.
LONG_AWAY_SECONDS, NOT_CONFIGURED = 60.0, "Its provider is not configured."
#: How long a stop is tried, and how long after it a late result is waited for.
STOP_FOR, LATE_FOR = timedelta(days=1), timedelta(hours=1)
#: How long the id of a submit that was open at a cancel is waited for, asked every so often.
SUBMIT_FOR, SUBMIT_AGAIN_SECONDS = timedelta(seconds=CALL_SECONDS + 30), 5.0


class Steps:
    """The steps of all jobs of a process.

    Args:
        store: runs a write in the database's thread, through outages.
        hand_over: lets the rest of a job be done by a task of its own.
    """

    def __init__(
        self,
        store: Callable[..., Awaitable[Any]],
        hand_over: Callable[[RemoteJob, Coroutine[Any, Any, None]], None],
        lines: Lines,
    ) -> None:
        self._store = store
        self.hand_over = hand_over
        self._lines = lines
        self._fetchers = ThreadPoolExecutor(FETCHERS, thread_name_prefix="fetch")
        self._fetching = 0
        self.writes = Writes(store)
        self.watchers = Watchers(self.writes.told, lines)

    async def close(self) -> None:
        """Close all streams, and wait for the results that are being fetched.

        `tickets.stopping` ends them soon.
        """
        await self.watchers.close()
        await asyncio.to_thread(self._fetchers.shutdown)

    @contextlib.asynccontextmanager
    async def _guarded(self, job: RemoteJob) -> AsyncIterator[None]:
        """End the attempt where a step fails by a fault in code; a repeated step fails again."""
        try:
            with traces.within(job.traceparent):
                yield
        except OVERTAKEN:
            pass
        except Exception as error:  # a provider's code may raise anything
            if why_unusable(error):
                raise
            logger.exception("Remote work crashed", **ids_of(job))
            crash = ProviderError("internal_error", traceback_text=own_frames(error))
            with contextlib.suppress(*OVERTAKEN):
                await self._store(remote.crash, job, crash)

    # -- submit ------------------------------------------------------------------------------------

    async def submit(self, job: RemoteJob, provider: RemoteProvider) -> None:
        """Send the work to its server, unless an earlier submit has done so."""
        async with self._guarded(job):
            if job.deadline <= remote_jobs.now_of(job):
                await self._store(remote.time_out, job)
                return
            task, files = await self._store(_task_of, job)
            try:
                if job.asked_at is None:  # else it went out as it was
                    fit.require(task, provider, files)
                line = self._lines.to(provider, job.server, job.model)
                work = work_of(job, task, files)
                if job.asked_at is not None and await self._was_received(job, provider, work, line):
                    return
                await self._store(remote_jobs.asks, job)
                work.directory.mkdir(parents=True, exist_ok=True)
                faultpoint("remote.before_submit")
                with in_use(work.directory), traces.span("remote submit", **ids_of(job)):
                    answer = await provider.submit(work, line)
                faultpoint("remote.after_submit")
            except ProviderError as error:
                return await self._not_submitted(job, provider, error)
            logger.info("Remote work started", **ids_of(job))
            if answer.outputs is None:
                await self._runs(job, provider, answer.remote)
            else:
                found = JobStatus(True, outputs=answer.outputs)
                await self._ready(job, provider, found, answer.remote)

    async def _runs(
        self, job: RemoteJob, provider: RemoteProvider, remote_id: dict[str, Any]
    ) -> None:
        try:
            await self._store(remote_jobs.runs, job, remote_id, provider.poll_seconds)
        except remote_jobs.LostJob:  # cancelled meanwhile: the stop needs the id
            await self._store(remote_jobs.learn_id, job, remote_id)
            raise
        job.remote = remote_id
        self.watchers.need(job, provider)

    async def _was_received(
        self, job: RemoteJob, provider: RemoteProvider, work: Work, line: ProviderClient
    ) -> bool:
        """Look for the work of a submit whose answer was lost; True if nothing is to be sent."""
        if not provider.names_jobs:
            text = "A submit was cut off. It may have been paid for, and can not be found."
            error = ProviderError("provider_unavailable", text)
            await self._store(remote.fail, job, error, "unclear")
            return True
        found = (await self._ask([job], provider))[work.job_id]
        if isinstance(found, UnknownJob):
            return False
        if isinstance(found, WorkFailed):
            await self._store(remote.fail, job, found)
        elif isinstance(found, ProviderError) and _is_silent(job, provider, found):
            await self._lost(job, found, is_stop_owed=True)
        elif isinstance(found, ProviderError):
            await self._store(remote_jobs.look_in, job, AWAY_SECONDS, found.message)
        elif isinstance(found, Exception):
            raise found
        elif found.is_done:
            await self._ready(job, provider, found, {"id": work.job_id})
        else:
            await self._runs(job, provider, {"id": work.job_id})
        return True

    async def _not_submitted(
        self, job: RemoteJob, provider: RemoteProvider, error: ProviderError
    ) -> None:
        logger.warning("Remote work was not started", reason=error.message, **ids_of(job))
        place = (job.provider, job.server)
        if isinstance(error, Busy | ProxyDown) or error.code == "provider_rate_limited":
            seconds = error.retry_after or BUSY_SECONDS
            await self._store(remote.put_back, job)
            await self._store(
                server_rows.is_busy, *place, seconds, is_full=True, note=error.message
            )
        elif isinstance(error, Unreachable) and provider.is_pool and job.asked_at is None:
            await self._store(away, job, provider, error, AWAY_SECONDS)
        elif is_unclear(error) and provider.names_jobs:
            await self._store(remote_jobs.look_in, job, provider.poll_seconds, error.message)
        else:
            outcome = "unclear" if is_unclear(error) else "failed"
            await self._store(remote.fail, job, error, outcome)

    # -- look --------------------------------------------------------------------------------------

    async def look(self, jobs: list[RemoteJob], provider: RemoteProvider | None) -> None:
        """Ask one server for the state of its jobs, and act on each answer."""
        over = [job for job in jobs if job.deadline <= remote_jobs.now_of(job)]
        for job in over:
            self.watchers.drop(job)
            with contextlib.suppress(*OVERTAKEN):
                await self._store(remote.time_out, job)
        jobs = [job for job in jobs if job not in over]
        if jobs:
            found = await self._ask(jobs, provider)
            for job in jobs:
                async with self._guarded(job):
                    state = found[str(job.id)]
                    if isinstance(state, Exception) and not isinstance(state, ProviderError):
                        raise state
                    await self._seen(job, provider, state)

    async def _ask(
        self, jobs: list[RemoteJob], provider: RemoteProvider | None
    ) -> Mapping[str, JobStatus | Exception]:
        try:
            if provider is None:
                raise ProviderError("provider_unavailable", NOT_CONFIGURED)
            line = self._lines.to(provider, jobs[0].server, jobs[0].model)
            found = await provider.look([work_of(job) for job in jobs], line)
            for state in found.values():
                if isinstance(state, ProviderError):
                    state.words = line.masked(state.words)
            return found
        except ProviderError as error:
            return {str(job.id): error for job in jobs}
        except Exception as error:  # a fault in its code: it may be about one of the jobs alone
            if len(jobs) == 1:
                return {str(jobs[0].id): error}
            alone = [await self._ask([job], provider) for job in jobs]
            return {job_id: state for found in alone for job_id, state in found.items()}

    async def _seen(
        self, job: RemoteJob, provider: RemoteProvider | None, state: JobStatus | ProviderError
    ) -> None:
        """Do what the answer to one look asks for."""
        if isinstance(state, JobStatus) and state.is_done:
            self.watchers.drop(job)
            self.hand_over(job, self._ready(job, provider, state))
        elif isinstance(state, JobStatus):
            self.writes.again(job, _first(provider), has_answered=True)
            await self.writes.progress(str(job.id), state)
            assert provider is not None
            self.watchers.need(job, provider)
        elif isinstance(state, UnknownJob):
            await self._lost(job, state, is_stop_owed=False)
        elif isinstance(state, WorkFailed):
            self.watchers.drop(job)
            logger.warning("Remote work failed", reason=state.message, **ids_of(job))
            await self._store(remote.fail, job, state)
        elif provider is not None and _is_silent(job, provider, state):
            await self._lost(job, state, is_stop_owed=True)
        elif state.retry_after:
            await self._store(remote_jobs.look_in, job, state.retry_after, state.message)
        else:
            self.writes.again(job, _first(provider), has_answered=False)

    async def _lost(self, job: RemoteJob, error: ProviderError, *, is_stop_owed: bool) -> None:
        self.watchers.drop(job)
        logger.warning("Remote work was lost", reason=error.message, **ids_of(job))
        if await self._store(remote_jobs.was_lost_before, job):
            await self._store(remote.fail, job, error, "lost")
        else:
            await self._store(remote.lose, job, error.message, is_stop_owed=is_stop_owed)

    # -- fetch -------------------------------------------------------------------------------------

    async def _ready(
        self,
        job: RemoteJob,
        provider: RemoteProvider | None,
        found: JobStatus,
        answer: dict[str, Any] | None = None,
    ) -> None:
        """Store where the results are, then fetch them."""
        assert provider is not None
        await self._store(remote_jobs.is_ready, job, found.outputs, found.facts, answer)
        faultpoint("remote.after_ready")
        if self.has_room_to_fetch:
            await self.fetch(job, provider)
        else:
            await self._store(remote_jobs.look_in, job, FETCH_AGAIN_SECONDS)

    @property
    def has_room_to_fetch(self) -> bool:
        """Say whether a result would be fetched soon; those that wait would hold up looks."""
        return self._fetching < 2 * FETCHERS

    async def fetch(self, job: RemoteJob, provider: RemoteProvider) -> None:
        """Bring the results here and complete the task, in a thread."""
        work = asyncio.get_running_loop().run_in_executor(
            self._fetchers, results.finish, job, provider, work_of(job)
        )
        self._fetching += 1
        try:
            await work
        finally:
            self._fetching -= 1

    # -- stop --------------------------------------------------------------------------------------

    async def wait(self, job: RemoteJob) -> None:
        """Let a job whose provider was taken out of the configuration wait until it is back.

        One that was never sent goes to the provider that is there now.
        """
        with contextlib.suppress(*OVERTAKEN):
            if job.deadline <= remote_jobs.now_of(job):
                await self._store(remote.time_out, job)
            elif job.state == "submitting" and job.asked_at is None:
                await self._store(remote.put_back, job)
            else:
                await self._store(remote_jobs.look_in, job, LONG_AWAY_SECONDS, NOT_CONFIGURED)

    async def stop(self, job: RemoteJob, provider: RemoteProvider | None) -> None:
        """Tell the provider to stop; what had ended after a time-out is fetched and kept."""
        self.watchers.drop(job)
        with contextlib.suppress(*OVERTAKEN):
            try:
                if provider is None:
                    raise ProviderError("provider_unavailable", NOT_CONFIGURED)
                line = self._lines.to(provider, job.server, job.model)
                outcome = await self._stop(job, provider, line)
            except OVERTAKEN:
                return
            except Exception as error:
                if why_unusable(error):
                    raise
                if not isinstance(error, ProviderError):
                    logger.exception("Stopping remote work crashed", **ids_of(job))
                assert job.stop_owed_at is not None
                note = str(error)
                if isinstance(error, ProviderError):
                    note = error.words or error.message
                if remote_jobs.now_of(job) - job.stop_owed_at > STOP_FOR:
                    logger.error("Remote work could not be stopped", **ids_of(job))
                    await self._store(remote.stopped, job, "unstopped", note, is_unclear=True)
                else:
                    await self._store(remote_jobs.note, job, note)
                    self.writes.again(job, _first(provider), has_answered=False)
                return
            if outcome:
                logger.info("Remote work stopped", outcome=outcome, **ids_of(job))
                is_unclear = _is_perhaps_paid(job, outcome)
                await self._store(
                    remote.stopped, job, "stopped", f"stop: {outcome}", is_unclear=is_unclear
                )

    async def _stop(self, job: RemoteJob, provider: RemoteProvider, line: ProviderClient) -> str:
        """Return how the stop went, empty when there is something left to do or nothing at all."""
        work = work_of(job)
        if not job.remote and not provider.names_jobs:
            assert job.asked_at is not None, "a job that was not asked for needs no stop"
            if remote_jobs.now_of(job) - job.asked_at < SUBMIT_FOR:  # its answer may still come
                await self._store(remote_jobs.look_in, job, SUBMIT_AGAIN_SECONDS)
                return ""
            note = "Its id was never received."
            await self._store(remote.stopped, job, "unclear", note, is_unclear=True)
            return ""
        is_late_wanted = job.stop_reason == "timed_out"
        if is_late_wanted and await self._is_late(job, provider, work, line):
            return ""
        if job.stop_told_at is not None:  # asked before: it only has to end
            if remote_jobs.now_of(job) - job.stop_told_at > LATE_FOR:
                return CancelOutcome.REQUESTED.value
            self.writes.again(job, _first(provider), has_answered=True)
            return ""
        outcome = await provider.stop(work, line)
        if is_late_wanted and outcome in (CancelOutcome.REQUESTED, CancelOutcome.ENDED):
            await self._store(remote_jobs.note_stop, job)
            return ""
        return outcome.value

    async def _is_late(
        self, job: RemoteJob, provider: RemoteProvider, work: Work, line: ProviderClient
    ) -> bool:
        """Look at work whose task has timed out; True if it has ended, with or without a result."""
        found = (await provider.look([work], line))[work.job_id]
        if isinstance(found, UnknownJob | WorkFailed):
            is_unclear = isinstance(found, UnknownJob) and bool(job.remote)
            await self._store(remote.stopped, job, "stopped", found.message, is_unclear=is_unclear)
            return True
        if isinstance(found, ProviderError):
            raise found
        if found.is_done:
            job.outputs, job.facts = list(found.outputs), found.facts
            try:
                await asyncio.get_running_loop().run_in_executor(
                    self._fetchers, results.keep_late, job, provider, work
                )
            except ProviderError as error:
                if error.code in results.OUTAGES and not isinstance(error, UnknownJob):
                    raise
                # It is no result, and would be none at each further download.
                await self._store(remote.stopped, job, "stopped", error.message, is_unclear=True)
        return found.is_done


def _task_of(job: RemoteJob) -> tuple[Task, dict[str, list[InputFile]]]:
    task = Task.objects.get(pk=job.task_id)
    return task, inputs_of(task)


def _is_perhaps_paid(job: RemoteJob, outcome: str) -> bool:
    """Say whether stopped work may be charged: nobody confirmed that it ended unmade."""
    if outcome == CancelOutcome.UNKNOWN:
        return bool(job.remote)  # else its submit never arrived
    return outcome != CancelOutcome.CONFIRMED


def _first(provider: RemoteProvider | None) -> float:
    return provider.poll_seconds if provider else AWAY_SECONDS


def _is_silent(job: RemoteJob, provider: RemoteProvider, error: ProviderError) -> bool:
    if isinstance(error, ProxyDown):  # it hides the server, whatever that does
        return False
    seen_at = job.seen_at or job.asked_at
    if provider.lost_seconds is None or seen_at is None:
        return False
    return (remote_jobs.now_of(job) - seen_at).total_seconds() > provider.lost_seconds
