"""Does the supervisor keep programs running, and end all of them however it ends?"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import ROOT
from tests.support.family import family, is_running, kill
from tests.support.waiting import wait_until

pytestmark = pytest.mark.e2e

SUPERVISE = """
import os, pathlib, sys
from moviesvc.run import lifeline
from moviesvc.run.supervisor import Program, Supervisor
state = pathlib.Path(sys.argv[1])
lock = lifeline.hold(state, {"pid": os.getpid()})
environment = dict(os.environ, MOVIESVC_LIFELINE=str(state), MOVIESVC_ROLE="worker")
programs = [
    Program(f"p{number}", "worker", [sys.executable, "-uc", code], environment)
    for number, code in enumerate(sys.argv[3:])
]
Supervisor(programs, on_tick=lambda supervisor: 1.0, grace_seconds=float(sys.argv[2])).run()
"""
PATIENT = "print('up'); import time; time.sleep(60)"
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('up')
time.sleep(60)
"""
# A main process with a worker in its group, as dramatiq and granian have them.
WITH_WORKER = """
import os, signal, time
pid = os.fork()
if pid == 0:
    from moviesvc.run import lifeline
    lifeline.watch_if_asked()
    print('worker', os.getpid())
    time.sleep(60)
signal.signal(signal.SIGTERM, lambda *_: (os.kill(pid, signal.SIGTERM), os._exit(0)))
print('main', os.getpid())
time.sleep(60)
"""


class Run:
    """A supervisor in a process of its own, and what it printed so far."""

    def __init__(self, state: Path, *programs: str, grace_seconds: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISE, str(state), str(grace_seconds), *programs],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def wait_for(self, text: str, times: int = 1) -> list[str]:
        return wait_until(
            lambda: (found := [line for line in self.lines if text in line])[times - 1 :] and found,
            message=f"{text!r} {times} times in {self.lines}",
        )

    def close(self) -> None:
        self._reader.join(5)
        self.process.stdout.close()

    def pid_of(self, role: str) -> int:
        return int(self.wait_for(f"{role} ")[-1].split()[-1])


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Start a supervisor over the given programs; whatever is left at the end is killed."""
    runs: list[Run] = []

    def start(*programs: str, grace_seconds: float = 1.5) -> Run:
        runs.append(Run(tmp_path, *programs, grace_seconds=grace_seconds))
        return runs[-1]

    yield start
    for each in runs:
        if each.process.poll() is None:
            kill(family(each.process.pid))
        each.process.wait()
        each.close()


def test_output_is_merged_and_a_dead_program_starts_again(run: Callable[..., Run]) -> None:
    """Proves that lines carry their program's name and that an exit is followed by a start."""
    supervised = run(PATIENT, "print('one try'); print('no newline', end=''); exit(3)")
    supervised.wait_for("p0  | up")
    supervised.wait_for("p1  | one try", times=2)
    supervised.wait_for("p1  | no newline")
    assert "ended with 3, starts again in 0.5 s" in supervised.wait_for("run | p1")[0]
    assert "starts again in 1.0 s" in supervised.wait_for("run | p1", times=2)[1]
    assert len([line for line in supervised.lines if line == "p0  | up"]) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_everything_cleanly(run: Callable[..., Run], number: signal.Signals) -> None:
    """Proves that Ctrl-C and SIGTERM end all programs, with exit code 0 and no restart."""
    supervised = run(PATIENT, WITH_WORKER)
    supervised.wait_for("p0  | up")
    pids = [supervised.pid_of("main"), supervised.pid_of("worker")]
    supervised.process.send_signal(number)
    assert supervised.process.wait(30) == 0
    assert not any(is_running(pid) for pid in pids)


def test_stubborn_program_is_killed_after_the_grace(run: Callable[..., Run]) -> None:
    """Proves that a program which ignores SIGTERM cannot keep the supervisor from ending."""
    supervised = run(STUBBORN)
    supervised.wait_for("up")
    supervised.process.terminate()
    assert supervised.process.wait(30) == 0


def test_second_signal_ends_at_once(run: Callable[..., Run]) -> None:
    """Proves that a second signal ends everything without the grace period."""
    supervised = run(STUBBORN, grace_seconds=300)
    supervised.wait_for("up")
    supervised.process.terminate()
    supervised.wait_for("SIGTERM: stopping")
    supervised.process.terminate()
    supervised.wait_for("SIGTERM again")
    assert supervised.process.wait(30) == 0


def test_killed_main_takes_its_workers_along_before_the_restart(run: Callable[..., Run]) -> None:
    """Proves that the workers of a killed main process do not run beside their successors."""
    supervised = run(WITH_WORKER)
    worker = supervised.pid_of("worker")
    os.kill(supervised.pid_of("main"), signal.SIGKILL)
    supervised.wait_for("worker ", times=2)
    assert not is_running(worker)


@pytest.mark.parametrize("is_main_killed", [False, True], ids=["supervisor", "and main"])
def test_killed_supervisor_leaves_no_orphan(run: Callable[..., Run], is_main_killed: bool) -> None:
    """Proves that kill -9 of the supervisor, with its main processes or not, ends the workers."""
    supervised = run(WITH_WORKER)
    pids = [supervised.pid_of("main"), supervised.pid_of("worker")]
    if is_main_killed:
        os.kill(supervised.process.pid, signal.SIGSTOP)  # so that it starts no successor
        os.kill(pids[0], signal.SIGKILL)
    supervised.process.kill()
    wait_until(lambda: not any(is_running(pid) for pid in pids), timeout=5)
