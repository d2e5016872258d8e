"""How does a test have a worker killed in the middle of remote work? By order, in a fork."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.db.models.functions import Now

from tasks_app.models import RemoteJob, Task
from tasks_app.state import lifecycle
from tests import ROOT
from tests.support import processes


class KilledWorkers:
    """One process that starts workers; a context manager."""

    def __init__(self, log: Path) -> None:
        self._log = log

    def __enter__(self) -> KilledWorkers:
        told = {"FAULT_INJECTION": "1", "DJANGO_SETTINGS_MODULE": "moviesvc.settings"}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.remote_loop"],
                cwd=ROOT,
                env=processes.environment(**told),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=90)

    def killed_at(
        self, task_type: str, fault: str, settings: dict[str, Any], until: Any = None
    ) -> None:
        """Let a worker run into a fault; or kill it once ``until`` returns."""
        order = {"task_type": task_type, "settings": settings, "faults": f"{fault}:kill"}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        pid = self._answer()["pid"]
        if until is not None:
            kill_after(pid, until)
        assert self._answer()["status"] == -signal.SIGKILL, self._log.read_text()[-3000:]

    def _answer(self) -> dict[str, int]:
        assert self._process.stdout is not None
        return dict(json.loads(self._process.stdout.readline()))


def kill_after(pid: int, until: Callable[[], object]) -> None:
    """Kill a child's child, whatever happens before."""
    try:
        until()
    finally:
        os.kill(pid, signal.SIGKILL)


def end_leases(task: Task) -> None:
    """Make what a killed process held free, as the end of its leases does."""
    Task.objects.filter(pk=task.pk, run_token__isnull=False).update(lease_expires_at=Now())
    lifecycle.take_expired_leases()
    RemoteJob.objects.filter(task=task).update(next_look_at=Now(), look_token=None)
    Task.objects.filter(pk=task.pk, status="queued").update(available_at=Now())
