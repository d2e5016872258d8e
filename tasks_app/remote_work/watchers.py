"""How does progress come from servers that tell it themselves? One open watch per server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from tasks_app.models import RemoteJob
from tasks_app.providers.base import ProviderError
from tasks_app.providers.remote.base import RemoteProvider
from tasks_app.providers.remote.client import ProviderClient

logger = structlog.get_logger(__name__)

#: How long a server without a job of ours is still watched, and the wait after a broken watch.
IDLE_SECONDS, AGAIN_SECONDS = 120.0, 5.0


class Watchers:
    """The watches of a process; each is a task that ends when its server has no job any more.

    Args:
        report: stores a job's progress (job id, fraction, step).
    """

    def __init__(self, report: Callable[[str, float, str], Coroutine[Any, Any, None]]) -> None:
        self._report = report
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._needed_at: dict[tuple[str, str], float] = {}
        self._reports: set[asyncio.Task[None]] = set()

    def need(self, job: RemoteJob, provider: RemoteProvider) -> None:
        """Watch the server of a running job, if its provider can."""
        if type(provider).watch is RemoteProvider.watch:
            return
        key = (provider.name, job.server)
        self._needed_at[key] = time.monotonic()
        if key not in self._tasks:
            self._tasks[key] = asyncio.create_task(self._watch(key, provider, job.model))

    async def close(self) -> None:
        """End all watches."""
        for task in [*self._tasks.values(), *self._reports]:
            task.cancel()
        await asyncio.gather(*self._tasks.values(), *self._reports, return_exceptions=True)

    async def _watch(self, key: tuple[str, str], provider: RemoteProvider, model: str) -> None:
        try:
            while (left := self._needed_at[key] + IDLE_SECONDS - time.monotonic()) > 0:
                try:
                    server = next(s for s in provider.servers(model) if s.label == key[1])
                    async with asyncio.timeout(left), ProviderClient(server) as line:
                        await provider.watch(server, line, self._told)
                except TimeoutError:
                    continue  # perhaps there was a job meanwhile
                except (ProviderError, StopIteration) as error:
                    logger.debug("Watch of a server broke", server=key[1], reason=str(error))
                await asyncio.sleep(AGAIN_SECONDS)
        finally:
            del self._tasks[key]

    def _told(self, job_id: str, fraction: float, step: str) -> None:
        task = asyncio.create_task(self._report(job_id, fraction, step))
        self._reports.add(task)
        task.add_done_callback(self._reports.discard)
