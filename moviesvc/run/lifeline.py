"""How does no process outlive the supervisor that started it, however the supervisor died?

The supervisor holds an exclusive lock on `run.lock`; each of its processes waits for a shared lock
on it. When the supervisor is dead (even by kill -9) the kernel grants that lock, and the process
ends itself. All of them hold a shared lock on `children.lock` meanwhile, so the next supervisor
knows when the last one has ended. None of this depends on parent processes, inherited files or pid
files. Must not import Django.

Each process also announces its pid and role (`run/announced`), for the supervisor's run.json.
"""

import contextlib
import fcntl
import functools
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import dramatiq

from moviesvc.run.lock_file import open_lock, take

STATE_VARIABLE = "MOVIESVC_LIFELINE"  # the directory of the locks; unset: no supervisor to watch
ROLE_VARIABLE = "MOVIESVC_ROLE"
# A worker may take 35 s to give its work back; then it is killed.
GRACE_SECONDS = 40.0

_announced_pids: set[int] = set()


class AlreadyRunning(RuntimeError):
    """Another supervisor is alive."""


def hold(state: Path, details: dict[str, Any], wait_seconds: float = GRACE_SECONDS + 5) -> IO[str]:
    """Become the supervisor of `state`, after the processes of a dead one have ended.

    Returns: the lock; keep it open until the end.
    Raises: AlreadyRunning; TimeoutError when processes of a dead supervisor do not end.
    """
    lock = open_lock(state / "run.lock")
    try:
        _lock_after_orphans(lock, state / "children.lock", wait_seconds)
    except BaseException:
        lock.close()
        raise
    lock.truncate(0)
    lock.write(json.dumps(details))
    lock.flush()
    return lock


@contextlib.contextmanager
def state_of_its_own(var: Path, role: str) -> Iterator[Path]:
    """Make a directory of locks for one supervisor of one role, and remove it at the end.

    Any number of these may run at once, also in containers that share `var`: unlike with `var`
    itself, no supervisor is refused, and none waits for another's processes.
    """
    parent = var / "run" / "roles"
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for old in parent.iterdir():  # directories of supervisors that were killed
        with contextlib.suppress(OSError), (old / "run.lock").open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(old, ignore_errors=True)
    # Filled elsewhere and renamed, so that nobody finds it before its lock is held.
    made = Path(tempfile.mkdtemp(prefix=f".{role}-", dir=parent.parent))
    with hold(made, {"pid": os.getpid()}):
        state = made.rename(parent / made.name.removeprefix("."))
        try:
            yield state
        finally:
            shutil.rmtree(state, ignore_errors=True)


def _lock_after_orphans(lock: IO[str], children_path: Path, wait_seconds: float) -> None:
    with open_lock(children_path) as children:
        try:
            # Another supervisor's exclusive lock excludes this one: then it is still alive.
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            # Released at once: the dead one's processes wait for a shared lock in order to end.
            fcntl.flock(lock, fcntl.LOCK_UN)
            if not take(children, fcntl.LOCK_EX, wait_seconds):
                pids = ", ".join(map(str, _living(children_path.parent)))
                raise TimeoutError(f"processes of an earlier run do not end; look at pids {pids}")
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            try:  # what the other one wrote into its lock file
                details = dict(json.loads(lock.read()))
                where = f", pid {details.get('pid')} at {details.get('url')}"
            except ValueError:
                where = " (it is starting)"
            raise AlreadyRunning(f"already running{where}") from None


def watch_if_asked() -> None:
    """Announce this process, and end it when its supervisor dies. Does nothing without one."""
    state = os.environ.get(STATE_VARIABLE)
    if state and os.getpid() not in _announced_pids:
        _announced_pids.add(os.getpid())
        announce(Path(state), os.environ.get(ROLE_VARIABLE, "process"))
        threading.Thread(target=_watch, args=(Path(state),), name="lifeline", daemon=True).start()


def announce(state: Path, role: str) -> None:
    directory = state / "run" / "announced"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    (directory / f"{role}.{os.getpid()}").touch()


def sign_of_life() -> Callable[[], None] | None:
    """Return a function that reports that this process works; None without a supervisor."""
    state, role = os.environ.get(STATE_VARIABLE), os.environ.get(ROLE_VARIABLE)
    if not state or not role:
        return None
    return functools.partial(announce, Path(state), role)


def announced(state: Path, role: str, group: int) -> dict[int, int]:
    """Return the living processes of a role in one process group; forget dead ones.

    Returns: pid -> time of its last sign of life, in nanoseconds.
    """
    pids = {}
    for entry in sorted((state / "run" / "announced").glob(f"{role}.*")):
        pid = int(entry.suffix[1:])
        try:
            is_ours = os.getpgid(pid) == group  # a reused pid is in another group
        except ProcessLookupError:
            is_ours = False
        if is_ours:
            pids[pid] = entry.stat().st_mtime_ns
        else:
            entry.unlink(missing_ok=True)
    return pids


def _living(state: Path) -> list[int]:
    """List the announced pids that exist, without a check whether they were reused."""
    pids = []
    for entry in (state / "run" / "announced").glob("*.*"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(int(entry.suffix[1:]), 0)
            pids.append(int(entry.suffix[1:]))
    return sorted(pids)


def _watch(state: Path) -> None:
    with open_lock(state / "children.lock") as children, open_lock(state / "run.lock") as run:
        fcntl.flock(children, fcntl.LOCK_SH)
        fcntl.flock(run, fcntl.LOCK_SH)  # blocks for as long as the supervisor lives
        _end_gracefully()
        os._exit(70)


def _end_gracefully() -> None:
    """Make sure that this process gets SIGTERM exactly once: a second one often means "at once".

    A main process (dramatiq's, granian's) leads its group and signals its workers. On Linux the
    kernel has signalled the main process (PR_SET_PDEATHSIG); elsewhere a worker does that.
    """
    leader, is_told_by_kernel = os.getpgrp(), sys.platform == "linux"
    if leader in (os.getpid(), os.getppid()) and not is_told_by_kernel:
        os.kill(leader, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS
    is_orphan = False
    while time.monotonic() < deadline:
        if not is_orphan and leader not in (os.getpid(), os.getppid()):
            is_orphan = True  # the main process is dead, too
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)


class LifelineMiddleware(dramatiq.Middleware):
    """End this worker process when the supervisor that started it is gone."""

    def after_worker_boot(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        watch_if_asked()
