"""What of thousands of looks is written together, what seldom, and what not at all?

A look that found nothing new costs a part of one statement.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from django.conf import settings
from django.db import Error

from tasks_app.media import previews
from tasks_app.models import RemoteJob
from tasks_app.providers.remote.base import JobStatus
from tasks_app.state import lifecycle, remote, remote_jobs

#: How often a job's progress is stored at most, in seconds.
PROGRESS_SECONDS = 1.0
#: Most times a second that progress is stored which servers told by themselves.
HINTS_PER_SECOND = 5
#: Jobs whose last progress is remembered.
MOST_TOLD = 20_000
#: Looks at jobs of this age are stored once a second: their next look is seconds away.
OLD_SECONDS, FLUSH_SECONDS = 30.0, 1.0

OVERTAKEN = (remote_jobs.LostJob, lifecycle.LostClaim)


class Writes:
    """What the looks of a process lead to where nothing has ended.

    Args:
        store: runs a write in the database's thread, through outages.
    """

    def __init__(self, store: Callable[..., Awaitable[Any]]) -> None:
        self._store = store
        self._told: dict[str, tuple[float, float, str, float]] = {}
        self._soon: dict[tuple[Any, float, bool], list[str]] = defaultdict(list)
        self._later: dict[tuple[Any, float, bool], list[str]] = defaultdict(list)
        self._flushed_at = 0.0
        self._shown: dict[str, float] = {}
        self._hints_until = 0.0

    # -- the next look -----------------------------------------------------------------------------

    def again(self, job: RemoteJob, first_seconds: float, *, has_answered: bool) -> None:
        """Let a job become due again, with the next `flush` or a later one."""
        age = (remote_jobs.now_of(job) - job.created_at).total_seconds()
        due = self._later if age > OLD_SECONDS else self._soon
        due[job.look_token, first_seconds, has_answered].append(str(job.id))

    async def flush(self, call: Callable[..., Awaitable[Any]], *, is_last: bool = False) -> None:
        """Store which jobs were looked at, all in one statement for each kind.

        Args:
            call: runs a function in the database's thread once; what it fails at is kept.
            is_last: store also what could wait.
        """
        longest = settings.REMOTE_LOOK_SECONDS
        now = time.monotonic()
        if is_last or now - self._flushed_at > FLUSH_SECONDS:
            self._flushed_at = now
            while self._later:
                kind, ids = self._later.popitem()
                self._soon[kind] += ids
        while self._soon:
            kind, ids = self._soon.popitem()
            token, first, has_answered = kind
            how = {"first": first, "longest": longest, "has_answered": has_answered}
            try:
                await call(partial(remote_jobs.look_again, token, ids, **how))
            except Error:
                self._soon[kind] += ids
                raise

    # -- progress ----------------------------------------------------------------------------------

    async def told(self, job_id: str, status: JobStatus) -> None:
        """Take what a server told of a job by itself: how it goes, or that it has ended."""
        if not status.is_done:
            await self.progress(job_id, status, is_hint=True)
            if status.preview:
                await self._preview(job_id, status.preview)
        elif not await self._store(remote_jobs.has_news, job_id):
            await asyncio.sleep(2 * FLUSH_SECONDS)  # a look is open, or is yet to be stored
            await self._store(remote_jobs.has_news, job_id)

    async def progress(self, job_id: str, status: JobStatus, *, is_hint: bool = False) -> None:
        """Store the progress of a job's task, at most once a second and if there is any.

        Args:
            is_hint: it may be left out, where so many jobs tell theirs that it costs too much.
        """
        now = time.monotonic()
        fraction, step = 0.05 + 0.85 * status.fraction, status.step
        told_at, told, told_step, event_at = self._told.get(job_id, (0.0, 0.0, "", 0.0))
        is_news = fraction > told or (fraction == told and step != told_step)
        if not is_news or now - told_at < PROGRESS_SECONDS:  # a look may know less than a stream
            return
        if is_hint:
            if self._hints_until > now:
                return
            self._hints_until = max(self._hints_until, now - 1) + 1 / HINTS_PER_SECOND
        if len(self._told) > MOST_TOLD:
            self._told.clear()
        is_event_due = now - event_at >= settings.TASK_PROGRESS_EVENT_SECONDS
        self._told[job_id] = (now, fraction, step, now if is_event_due else event_at)
        with contextlib.suppress(*OVERTAKEN):
            await self._store(remote.progress, job_id, fraction, step, is_event_due=is_event_due)

    async def _preview(self, job_id: str, content: bytes) -> None:
        """Keep a job's newest preview, now and then; it may be no picture at all."""
        now = time.monotonic()
        if job_id in self._shown and now - self._shown[job_id] < previews.PREVIEW_SECONDS:
            return
        if len(self._shown) > MOST_TOLD:
            self._shown.clear()
        self._shown[job_id] = now
        await asyncio.to_thread(previews.keep, job_id, content)
