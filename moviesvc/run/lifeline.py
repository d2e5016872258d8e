"""How does no process outlive the supervisor that started it, however that one died?

The supervisor holds an exclusive lock on `run.lock`; each of its processes waits for a shared one.
The kernel grants it when the supervisor is dead, kill -9 included, and the process ends itself.
All of them share `children.lock` meanwhile, so that the next supervisor knows when the last of
them is gone. Neither depends on parents, inherited files or pid files. Django is not needed here.

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

STATE_VARIABLE = "MOVIESVC_LIFELINE"  # the directory of the locks; unset: nothing to watch
ROLE_VARIABLE = "MOVIESVC_ROLE"
# A worker may take 35 s to hand its work back; then it is ended by force.
GRACE_SECONDS = 40.0

_announced_pids: set[int] = set()


class AlreadyRunning(RuntimeError):
    """Another supervisor is alive; `details` is what it wrote into its lock."""

    def __init__(self, details: dict[str, Any]) -> None:
        where = (
            f", pid {details.get('pid')} at {details.get('url')}"
            if details
            else " (it is starting)"
        )
        super().__init__(f"already running{where}")
        self.details = details


def hold(state: Path, details: dict[str, Any], wait_seconds: float = GRACE_SECONDS + 5) -> IO[str]:
    """Become the supervisor of `state`, when the processes of a dead one have ended.

    Returns: the lock, to be kept open for life.
    Raises: AlreadyRunning; TimeoutError when orphans do not end.
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

    Any number of these may run beside each other, also in containers that share `var`; so,
    unlike with `var` itself, nobody is refused and nobody waits for another's processes.
    """
    parent = var / "run" / "roles"
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for old in parent.iterdir():  # of supervisors that were killed
        with contextlib.suppress(OSError), (old / "run.lock").open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(old, ignore_errors=True)
    # Filled elsewhere and then renamed, so that nobody takes one whose lock is not held yet.
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
            # A dead supervisor's lock can be shared, a living one's cannot.
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            # Let go again: its orphans are waiting for this very lock in order to end.
            fcntl.flock(lock, fcntl.LOCK_UN)
            if not take(children, fcntl.LOCK_EX, wait_seconds):
                pids = ", ".join(map(str, _living(children_path.parent)))
                raise TimeoutError(f"processes of an earlier run do not end; look at pids {pids}")
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(_read(lock)) from None


def _read(lock: IO[str]) -> dict[str, Any]:
    lock.seek(0)
    with contextlib.suppress(ValueError):
        return dict(json.loads(lock.read()))
    return {}  # a supervisor that has only just begun


def watch_if_asked() -> None:
    """Announce this process and end it after its supervisor; once per process, nothing unasked."""
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
    """Return what this process calls to say that it still works; None where nobody watches."""
    state, role = os.environ.get(STATE_VARIABLE), os.environ.get(ROLE_VARIABLE)
    if not state or not role:
        return None
    return functools.partial(announce, Path(state), role)


def announced(state: Path, role: str, group: int) -> dict[int, int]:
    """Return the living processes of a role in one process group, and forget the others.

    Returns: the time of each one's last sign of life, in nanoseconds, by its pid.
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
    """List the announced pids that still exist, whoever has them now."""
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
    """Make sure that this process is told to end exactly once: twice means "at once" to many.

    A main process (dramatiq's, granian's) leads the group and tells its workers. On Linux the
    kernel has told the main process (PR_SET_PDEATHSIG), elsewhere a worker does.
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
        """Begin to watch, where a supervisor asked for it."""
        watch_if_asked()
