"""How does progress come from servers that tell it by themselves? A stream for each job, if any.

What a stream says is a hint: how far a job is, and when a look is worth while. Looks find the same
without it, so a stream that is refused, cut or silent is opened again seldom and missed by nobody.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import structlog

from tasks_app.models import RemoteJob
from tasks_app.providers.base import ProviderError
from tasks_app.providers.remote.base import JobStatus, RemoteProvider, Work
from tasks_app.remote_work.calls import Lines, ids_of, work_of

logger = structlog.get_logger(__name__)

#: Wait before a stream is opened again; doubled each time, unless it lived for a while.
AGAIN_SECONDS, MOST_AGAIN_SECONDS = 5.0, 300.0
LIVELY_SECONDS = 60.0
#: A job that was not seen running here for so long is followed no longer: others look after it.
FORGET_SECONDS = 300.0
#: Most events of one stream that are read in a second; the others wait at the server.
MOST_PER_SECOND = 100
#: Jobs of which it is remembered that their stream has ended.
MOST_OVER = 20_000


class Watchers:
    """The open streams of a process, of each server at most as many as its provider says.

    Args:
        told: takes what was told of a job, by its id.
    """

    def __init__(self, told: Callable[[str, JobStatus], Awaitable[None]], lines: Lines) -> None:
        self._told, self._lines = told, lines
        self._streams: dict[tuple[str, str], dict[str, asyncio.Task[None]]] = defaultdict(dict)
        self._ends: dict[str, asyncio.TimerHandle] = {}
        self._over: set[str] = set()

    def need(self, job: RemoteJob, provider: RemoteProvider) -> None:
        """Follow a job that runs, if its server tells of it and there is room."""
        if not provider.streams:
            return
        job_id, streams = str(job.id), self._streams[job.provider, job.server]
        if job_id not in streams:
            if len(streams) >= provider.streams or job_id in self._over:
                return
            task = asyncio.create_task(self._follow(work_of(job), provider))
            streams[job_id] = task
            task.add_done_callback(lambda task: self._ended(job, task))
        else:
            self._ends[job_id].cancel()
        end = asyncio.get_running_loop().call_later(FORGET_SECONDS, streams[job_id].cancel)
        self._ends[job_id] = end

    def drop(self, job: RemoteJob) -> None:
        """Follow a job no longer."""
        if task := self._streams[job.provider, job.server].get(str(job.id)):
            task.cancel()

    async def close(self) -> None:
        """Close all streams."""
        tasks = [task for streams in self._streams.values() for task in streams.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, job: RemoteJob, task: asyncio.Task[None]) -> None:
        job_id = str(job.id)
        del self._streams[job.provider, job.server][job_id]
        self._ends.pop(job_id).cancel()
        if task.cancelled():
            return
        if len(self._over) >= MOST_OVER:
            self._over.clear()
        self._over.add(job_id)  # else a server that says so too early would be asked for ever
        if error := task.exception():
            logger.error("Following a job failed", exc_info=error, **ids_of(job))

    async def _follow(self, work: Work, provider: RemoteProvider) -> None:
        """Read a job's stream until it says that the job has ended."""
        wait = AGAIN_SECONDS
        while True:
            began_at = time.monotonic()
            try:
                if await self._read(work, provider):
                    return
            except ProviderError as error:
                logger.debug("A stream broke", server=work.server, reason=error.message)
            if time.monotonic() - began_at > LIVELY_SECONDS:
                wait = AGAIN_SECONDS
            await asyncio.sleep(wait)
            wait = min(2 * wait, MOST_AGAIN_SECONDS)

    async def _read(self, work: Work, provider: RemoteProvider) -> bool:
        """Pass on what one stream tells; True if that was the job's end."""
        line = self._lines.to(provider, work.server, work.model)
        count, paused_at = 0, time.monotonic()
        async with aclosing(provider.follow(work, line)) as told:
            async for status in told:
                await self._told(work.job_id, status)
                if status.is_done:
                    return True
                count += 1
                if count % MOST_PER_SECOND == 0:
                    await asyncio.sleep(paused_at + 1 - time.monotonic())
                    paused_at = time.monotonic()
        return False
