"""How far are the jobs of a server? Its WebSocket, for progress alone.

Events go only to the client that submitted, so each job, whose client is named like itself, has a
socket of its own. What was sent while a socket was away is lost: what is true is asked elsewhere.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from tasks_app.providers.base import ProviderError
from tasks_app.providers.remote.client import ProviderClient

Report = Callable[[str, float, str], None]
#: Sockets open at once to one server; a ComfyUI runs one job at a time.
MOST_SOCKETS = 8
#: How often jobs are looked for that have no socket yet, and the wait after a failure.
LOOK_SECONDS, AGAIN_SECONDS = 0.25, 5.0
#: A server that has no more jobs for so long is watched no longer.
IDLE_SECONDS = 60.0
#: A job that was not looked at here for so long is watched no longer: others look after it.
FORGET_SECONDS = 300.0
#: Jobs of which it is known how far they are.
MOST_JOBS = 20_000


class Progress:
    """How far one job is: finished nodes of all, and the running one's steps."""

    def __init__(self, nodes: int) -> None:
        self.nodes = nodes
        self.looked_at = time.monotonic()
        self._cached: set[str] = set()
        self._states: dict[str, float] = {}
        self.fraction = 0.0

    @property
    def is_old(self) -> bool:
        """Say whether it was not looked at for long."""
        return time.monotonic() - self.looked_at > FORGET_SECONDS

    def read(self, event: dict[str, Any]) -> bool:
        """Take an event in; say whether it is the job's last."""
        kind, data = event.get("type"), event.get("data")
        if not isinstance(data, dict):
            return False
        if kind == "execution_cached" and isinstance(data.get("nodes"), list):
            self._cached = {str(node) for node in data["nodes"]}
        elif kind == "progress_state" and isinstance(data.get("nodes"), dict):
            for node, row in data["nodes"].items():
                self._states[str(node)] = _share(row)
        self._count()
        return kind in ("execution_success", "execution_error", "execution_interrupted")

    def _count(self) -> None:
        if self.nodes:
            running = sum(x for node, x in self._states.items() if node not in self._cached)
            share = (len(self._cached) + running) / self.nodes
            self.fraction = max(self.fraction, min(0.99, share))  # it only ever grows


class Watched:
    """The jobs of all servers that are worth a socket, and how far they are."""

    def __init__(self) -> None:
        self._jobs: dict[str, dict[str, Progress]] = {}
        self._fractions: dict[str, float] = {}

    def expect(self, label: str, job_id: str, nodes: int) -> None:
        """Follow a job, whose graph has so many nodes, from now on."""
        jobs = self._jobs.setdefault(label, {})
        if job_id not in jobs:
            jobs[job_id] = Progress(nodes)
        jobs[job_id].nodes = nodes or jobs[job_id].nodes
        jobs[job_id].looked_at = time.monotonic()

    def forget(self, label: str, job_id: str) -> None:
        """Follow a job no longer."""
        self._jobs.get(label, {}).pop(job_id, None)
        self._fractions.pop(job_id, None)

    def fraction(self, job_id: str) -> float:
        """Return how far a job was last seen, 0 for unknown."""
        return self._fractions.get(job_id, 0.0)

    async def follow(self, label: str, line: ProviderClient, report: Report) -> None:
        """Keep a socket for each job of a server until it has had none for a while."""
        sockets: dict[str, asyncio.Task[None]] = {}
        idle = 0.0
        try:
            while idle < IDLE_SECONDS:
                jobs = self._jobs.get(label, {})
                for job_id in [job_id for job_id in jobs if jobs[job_id].is_old]:
                    self.forget(label, job_id)
                for job_id in [job_id for job_id in sockets if job_id not in jobs]:
                    sockets.pop(job_id).cancel()
                fresh = [job_id for job_id in jobs if job_id not in sockets]
                for job_id in fresh[: MOST_SOCKETS - len(sockets)]:
                    work = self._listen(label, job_id, line, report)
                    sockets[job_id] = asyncio.create_task(work)
                idle = 0.0 if jobs else idle + LOOK_SECONDS
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            for task in sockets.values():
                task.cancel()
            await asyncio.gather(*sockets.values(), return_exceptions=True)

    async def _listen(self, label: str, job_id: str, line: ProviderClient, report: Report) -> None:
        """Follow one job until its last event; open the socket again while it is away."""
        while job_id in self._jobs.get(label, {}):
            try:
                async for event in line.listen(f"ws?clientId={job_id}"):
                    progress = self._jobs.get(label, {}).get(job_id)
                    if progress is None:
                        return
                    is_last = progress.read(event)
                    self._remember(job_id, progress.fraction)
                    report(job_id, 1.0 if is_last else progress.fraction, "generating")
                    if is_last:
                        return
            except ProviderError:
                pass  # only progress is lost
            await asyncio.sleep(AGAIN_SECONDS)

    def _remember(self, job_id: str, fraction: float) -> None:
        if len(self._fractions) > MOST_JOBS:
            self._fractions.clear()
        self._fractions[job_id] = fraction


def _share(row: Any) -> float:
    """Return how much of a node is done: 1 for a finished one, its steps for the running one."""
    if not isinstance(row, dict):
        return 0.0
    if row.get("state") == "finished":
        return 1.0
    value, most = row.get("value"), row.get("max")
    if not isinstance(value, int | float) or not isinstance(most, int | float) or most <= 0:
        return 0.0
    return min(1.0, max(0.0, value / most)) if row.get("state") == "running" else 0.0
