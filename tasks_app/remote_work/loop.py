"""How is remote work driven? Take due jobs, do the next step of each, and wake waiting tasks.

A job is a row; this loop holds only those whose next request is open right now. What the steps are
is in `steps`.
"""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any, TypeVar

import structlog
import uvloop
from django.conf import settings
from django.db import Error

from tasks_app import providers, remote_servers, tickets
from tasks_app.models import RemoteJob, RemoteJobState
from tasks_app.providers.base import ProviderError
from tasks_app.providers.remote.base import RemoteProvider
from tasks_app.remote_work.calls import Lines
from tasks_app.remote_work.steps import Steps
from tasks_app.remote_work.writes import OVERTAKEN
from tasks_app.state import remote, remote_jobs, server_rows
from tasks_app.tickets import stopping
from webhooks_app.database import DatabaseThread, why_unusable

logger = structlog.get_logger(__name__)
T = TypeVar("T")

#: How often due jobs are asked for, and how often waiting tasks, in seconds.
TICK_SECONDS = 0.25
WAKE_SECONDS = 0.5
OUTAGE_SECONDS = 1.0
#: Most tasks that are moved to another provider at once.
MOST_MOVED = 100
#: Most jobs whose requests are open at once in one process.
MOST_OPEN = 500
#: Time for a stop, drain included, and before a new start after a crash.
STOP_SECONDS, RESTART_SECONDS = 15.0, 1.0
#: At a stop, how long open submits may take to end: cut off, they may be paid for twice.
DRAIN_SECONDS = 8.0


class RemoteWorkThread:
    """Run the loop beside the worker's threads, and again after a crash."""

    def __init__(self) -> None:
        self._thread = threading.Thread(target=self._run, name="remote-work", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Wait until the loop has given its jobs back; `tickets.stopping` ends it."""
        stopping.set()
        self._thread.join(timeout=STOP_SECONDS)

    def _run(self) -> None:
        while not stopping.is_set():
            try:
                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    runner.run(RemoteWorkLoop().run())
            except Exception:  # the loop's edge: without it no remote work would ever end
                logger.exception("Remote work crashed, starting anew")
                stopping.wait(RESTART_SECONDS)


class RemoteWorkLoop:
    """One process's part of all remote work."""

    def __init__(self) -> None:
        self._token = uuid.uuid4()
        self._open: dict[str, asyncio.Task[None]] = {}
        self._submits: set[str] = set()
        self._woken_at = self._extended_at = 0.0
        self._has_listed_servers = False

    async def run(self) -> None:
        """Work until `tickets.stopping` is set, then give everything back."""
        self._database = DatabaseThread("remote-work")
        self._lines = Lines()
        self._steps = Steps(self._store, self._hand_over, self._lines)
        is_told = False
        try:
            while not stopping.is_set():
                try:
                    await self._tick()
                    is_told = False
                    await asyncio.sleep(TICK_SECONDS)
                except Error as error:
                    if not (reason := why_unusable(error)):
                        raise
                    if not is_told:
                        logger.warning("Remote work waits for the database", reason=reason)
                        is_told = True
                    await asyncio.sleep(OUTAGE_SECONDS)
        finally:
            await self._end()

    async def _tick(self) -> None:
        call, now = self._database.call, time.monotonic()
        if not self._has_listed_servers:
            await call(remote_servers.know_all)
            self._has_listed_servers = True
        await self._steps.writes.flush(self._database.call)
        lease = settings.TASK_LEASE_SECONDS
        if self._open and now - self._extended_at > lease / 3:
            await call(remote_jobs.extend_leases, self._token, list(self._open), lease)
            self._extended_at = now
        if now - self._woken_at > WAKE_SECONDS:
            self._woken_at = now
            for task_type in await call(_wake):
                await call(tickets.send_ticket, task_type, "")
        if (room := MOST_OPEN - len(self._open)) > 0:
            take = partial(remote_jobs.take_due, with_ready=self._steps.has_room_to_fetch)
            jobs = await call(take, self._token, lease, room, list(self._open))
            self._begin(jobs)

    def _begin(self, jobs: Iterable[RemoteJob]) -> None:
        together: dict[tuple[str, str, str], list[RemoteJob]] = defaultdict(list)
        for job in jobs:
            provider = _provider(job.task_type, job.provider)
            if job.state != RemoteJobState.RUNNING:
                is_submit = job.state == RemoteJobState.SUBMITTING
                self._open_task(self._one(job, provider), [job], is_submit=is_submit)
            elif provider is not None and type(provider).look is not RemoteProvider.look:
                together[job.task_type, job.provider, job.server].append(job)
            else:
                self._open_task(self._steps.look([job], provider), [job])
        for (task_type, name, _), some in together.items():
            self._open_task(self._steps.look(some, _provider(task_type, name)), some)

    def _hand_over(self, job: RemoteJob, work: Coroutine[Any, Any, None]) -> None:
        self._open_task(work, [job])

    def _open_task(
        self, work: Coroutine[Any, Any, None], jobs: list[RemoteJob], *, is_submit: bool = False
    ) -> None:
        ids = [str(job.id) for job in jobs]
        task = asyncio.create_task(work)
        self._open |= dict.fromkeys(ids, task)
        if is_submit:
            self._submits |= set(ids)

        def closed(task: asyncio.Task[None]) -> None:
            for each in ids:
                if self._open.get(each) is task:  # else it was handed over
                    del self._open[each]
                self._submits.discard(each)
            error = None if task.cancelled() else task.exception()
            if error is not None and not isinstance(error, OVERTAKEN):
                logger.error("Remote work failed, will look again", job_ids=ids, exc_info=error)

        task.add_done_callback(closed)

    async def _one(self, job: RemoteJob, provider: RemoteProvider | None) -> None:
        """Do the next step of a job that is not simply looked at."""
        if provider is None and job.state != RemoteJobState.STOPPING:
            await self._steps.wait(job)
        elif provider is None:
            await self._steps.stop(job, None)
        elif job.state == RemoteJobState.SUBMITTING:
            await self._steps.submit(job, provider)
        elif job.state == RemoteJobState.READY:
            await self._steps.fetch(job, provider)
        else:
            await self._steps.stop(job, provider)

    async def _store(self, write: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """Run a write in the database's thread, again and again while it is unusable.

        At a stop too: what a provider answered may be the only trace of paid work. `_end` cancels
        what takes too long.
        """
        while True:
            try:
                return await self._database.call(lambda: write(*arguments, **named))
            except Error as error:
                if not why_unusable(error):
                    raise
            await asyncio.sleep(OUTAGE_SECONDS)

    async def _end(self) -> None:
        for job_id, task in list(self._open.items()):
            if job_id not in self._submits:
                task.cancel()
        if self._open:
            await asyncio.wait(set(self._open.values()), timeout=DRAIN_SECONDS)
        for task in set(self._open.values()):
            task.cancel()
        await self._steps.close()
        await self._lines.close()
        try:
            await self._steps.writes.flush(self._database.call, is_last=True)
            await self._database.call(remote_jobs.let_go, self._token)
        except Error as error:
            logger.warning("Remote work is left to its leases", reason=why_unusable(error))
        await self._database.close()


def _provider(task_type: str, name: str) -> RemoteProvider | None:
    """Return the configured provider of that name, None when it was taken out."""
    provider = providers.provider_named(task_type, name)
    return provider if isinstance(provider, RemoteProvider) else None


def _wake() -> list[str]:
    """Make tasks due for which there is room again; return their types."""
    woken: list[str] = []
    for waits_for in remote.waited_for():
        name, _, model = waits_for.partition(":")
        found = (_provider(task_type, name) for task_type in providers.configured_task_types())
        provider = next(filter(None, found), None)
        # What waits for a provider that was taken out goes to the one that is there now.
        free = MOST_MOVED
        if provider is not None:
            try:
                free = server_rows.free_places(name, provider.servers(model))
            except ProviderError:  # its configuration is wrong; `manage.py check` says how
                free = 0
        if free:
            woken += remote.wake(waits_for, free)
    return woken
