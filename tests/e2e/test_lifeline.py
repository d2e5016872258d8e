"""Does every process end with its supervisor, and does the next one wait for the last of them?"""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from moviesvc.run import lifeline
from tests import ROOT
from tests.support.waiting import wait_until

pytestmark = pytest.mark.e2e

HOLD = """
import sys, time, pathlib
from moviesvc.run import lifeline
lock = lifeline.hold(pathlib.Path(sys.argv[1]), {"pid": 1234, "url": "http://there"})
print("holding", flush=True)
time.sleep(60)
"""
# Says when it was told to end, works on for a second and ends.
WATCH = """
import signal, sys, time
from moviesvc.run import lifeline
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(1))
lifeline.watch_if_asked()
print("watching", flush=True)
while not told:
    time.sleep(0.02)
print("told", flush=True)
time.sleep(1)
print("times told:", len(told), flush=True)
"""


def start(code: str, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    process.stdout.readline()
    return process


def watcher(state: Path) -> subprocess.Popen[str]:
    return start(WATCH, MOVIESVC_LIFELINE=str(state), MOVIESVC_ROLE="worker")


def test_second_supervisor_is_refused_at_once(tmp_path: Path) -> None:
    """Proves that a second supervisor gets the first one's details at once."""
    first = start(HOLD, tmp_path)
    try:
        began = time.monotonic()
        with pytest.raises(lifeline.AlreadyRunning, match="pid 1234 at http://there"):
            lifeline.hold(tmp_path, {}, wait_seconds=60)
        assert time.monotonic() - began < 20, "it does not wait as for a dead one's processes"
    finally:
        first.kill()
        first.communicate()


def test_orphan_is_told_once_and_the_next_supervisor_waits_for_it(tmp_path: Path) -> None:
    """Proves that kill -9 of the supervisor ends its process gracefully before the next begins."""
    supervisor, orphan = start(HOLD, tmp_path), watcher(tmp_path)
    wait_until(lambda: _is_held(tmp_path / "children.lock"))
    supervisor.kill()
    supervisor.communicate()
    with lifeline.hold(tmp_path, {"pid": os.getpid()}, wait_seconds=10):
        assert not psutil.pid_exists(orphan.pid) or orphan.poll() is not None
    output, _ = orphan.communicate(timeout=5)
    assert "times told: 1" in output


def test_orphan_that_does_not_end_is_reported(tmp_path: Path) -> None:
    """Proves that a stuck orphan gives an error that names it, and no second set of processes."""
    supervisor, orphan = start(HOLD, tmp_path), watcher(tmp_path)
    wait_until(lambda: _is_held(tmp_path / "children.lock"))
    orphan.send_signal(signal.SIGSTOP)
    supervisor.kill()
    supervisor.communicate()
    try:
        with pytest.raises(TimeoutError, match=f"look at pids {orphan.pid}$"):
            lifeline.hold(tmp_path, {}, wait_seconds=0.3)
    finally:
        orphan.kill()
        orphan.communicate()


def test_announced_lists_the_living_of_one_group(tmp_path: Path) -> None:
    """Proves that a dead, a foreign and a reused pid do not count as ours."""
    lifeline.announce(tmp_path, "worker")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for foreign in (dead.pid, 1):
        (tmp_path / "run/announced" / f"worker.{foreign}").touch()
    assert list(lifeline.announced(tmp_path, "worker", os.getpgrp())) == [os.getpid()]
    assert lifeline.announced(tmp_path, "web", os.getpgrp()) == {}
    assert len(list((tmp_path / "run/announced").iterdir())) == 1


def test_nothing_is_watched_unasked(tmp_path: Path) -> None:
    """Proves that a process outside a supervisor (a test, a shell) gets no lifeline."""
    process = start(WATCH, MOVIESVC_LIFELINE="")
    assert process.poll() is None
    assert not list(tmp_path.iterdir())
    process.kill()
    process.communicate()


def _is_held(path: Path) -> bool:
    """Whether some process holds the lock; an open file alone would be too early."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
