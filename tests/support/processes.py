"""How does a test start the project's programs against its own test database?"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psutil
from django.db import connection

from tests import ROOT
from tests.support.family import answers, family, kill


def environment(**more: str) -> dict[str, str]:
    """Return the environment for a child process on this test's database (committed rows only)."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COV_")}
    return {**kept, "DATABASE_URL": _database_url(), "PYTHONUNBUFFERED": "1", **more}


def _database_url() -> str:
    """Return the address of the server, with this test process's database instead of its own."""
    parts = urlsplit(os.environ["DATABASE_URL"])
    return urlunsplit(parts._replace(path=f"/{connection.settings_dict['NAME']}"))


@contextmanager
def running(log: Path, *arguments: str, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``python <arguments>`` until the end of the block; what it prints goes to ``log``."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=environment(**more),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            kill(family(process.pid))
        process.wait(10)


def cpu_seconds(parent: psutil.Process) -> float:
    """Return the processor time of a process and its children, including ended ones."""
    own = parent.cpu_times()
    running = answers(parent.children(), psutil.Process.cpu_times)
    ended = own.children_user + own.children_system
    return float(ended + sum(times.user + times.system for times in (own, *running)))


def run(*arguments: str, timeout: float = 30, **more: str) -> subprocess.CompletedProcess[str]:
    """Run ``python <arguments>`` to its end, and return its exit code and output."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment(**more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
