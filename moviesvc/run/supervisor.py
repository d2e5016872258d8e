"""How are the service's processes started, watched, restarted and stopped together?

One loop in one thread over the programs' output, signals and the clock. Every program leads a
session of its own, so that Ctrl-C reaches only the supervisor, and a whole group can be ended.
Which programs run is decided by the caller.
"""

import contextlib
import ctypes
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, TextIO

FIRST_BACKOFF_SECONDS = 0.5
MAX_BACKOFF_SECONDS = 30.0
# A program that ran at least this long is restarted at once when it ends.
HEALTHY_SECONDS = 30.0
PR_SET_PDEATHSIG = 1
OWN_NAME = "run"
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Program:
    """One command to keep running. `name` prefixes its output, `role` groups equal programs."""

    name: str
    role: str
    command: Sequence[str]
    environment: Mapping[str, str]


class Child:
    """A program and its current process, if any."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        self.start_at = 0.0
        self.failures = 0
        self.unfinished_line = b""

    @property
    def pid(self) -> int:
        return self.process.pid if self.process else 0

    @property
    def output(self) -> IO[bytes]:
        assert self.process is not None
        assert self.process.stdout is not None
        return self.process.stdout

    def start(self, now: float) -> None:
        parent = os.getpid()
        self.process = subprocess.Popen(
            self.program.command,
            env=dict(self.program.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: die_with(parent),
        )
        self.started_at = now

    def signal_main(self, number: signal.Signals) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)

    def continue_if_stopped(self) -> bool:
        """Continue the main process if it is stopped (SIGSTOP); say whether it was. Linux only.

        Its workers still work, so they are not killed for it; but a stopped main process does not
        replace a worker that dies.
        """
        if sys.platform != "linux" or self.process is None:
            return False
        stopped = os.WSTOPPED | os.WNOHANG | os.WNOWAIT
        with contextlib.suppress(ChildProcessError):  # it has just ended
            if os.waitid(os.P_PID, self.pid, stopped):
                self.process.send_signal(signal.SIGCONT)
                return True
        return False

    def kill_group(self) -> None:
        """Kill what is left of the session: a killed main process leaves its workers alive."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def schedule_restart(self, now: float) -> float:
        """Return the seconds until the restart; they double while the program keeps failing."""
        self.failures = 0 if now - self.started_at >= HEALTHY_SECONDS else self.failures
        pause = min(FIRST_BACKOFF_SECONDS * 2.0**self.failures, MAX_BACKOFF_SECONDS)
        self.failures += 1
        self.start_at = now + pause
        return pause


class Supervisor:
    """Run programs until a signal ends them.

    Args:
        on_tick: called with the supervisor; returns the seconds until its next call.
        grace_seconds: time between SIGTERM and SIGKILL.
    """

    def __init__(
        self,
        programs: Sequence[Program],
        *,
        on_tick: Callable[["Supervisor"], float],
        grace_seconds: float,
        output: TextIO = sys.stdout,
        is_json: bool = False,
    ) -> None:
        self.children = [Child(program) for program in programs]
        self.is_stopping = False
        self._on_tick = on_tick
        self._grace_seconds = grace_seconds
        self._output = output
        self._is_json = is_json
        self._width = max(len(name) for name in [OWN_NAME, *(each.name for each in programs)])
        self._selector = selectors.DefaultSelector()
        self._signals: list[signal.Signals] = []
        self._kill_at = float("inf")

    def run(self) -> None:
        """Start everything, and return when everything has ended."""
        with self._signal_pipe():
            next_tick = 0.0
            while True:
                now = time.monotonic()
                self._obey_signals(now)
                self._reap(now)
                if self.is_stopping and not any(child.process for child in self.children):
                    return
                self._start_due(now)
                if now >= next_tick and not self.is_stopping:
                    next_tick = time.monotonic() + self._on_tick(self)
                self._read_output(self._pause(now, next_tick))

    def say(self, text: str) -> None:
        self._print(OWN_NAME, text)

    def show(self, text: str) -> None:
        """Print without a name prefix, for lines that are meant to be copied."""
        with contextlib.suppress(OSError):
            print(text, file=self._output, flush=True)

    def stop(self) -> None:
        """Begin the graceful stop, as a signal would."""
        self.is_stopping = True
        self._kill_at = time.monotonic() + self._grace_seconds
        for child in self.children:
            child.signal_main(signal.SIGTERM)

    @contextlib.contextmanager
    def _signal_pipe(self) -> Iterator[None]:
        """Let signals (including SIGCHLD) end the wait for output, without a race."""
        read, write = socket.socketpair()
        for end in (read, write):
            end.setblocking(False)
        self._selector.register(read, selectors.EVENT_READ)
        old_wakeup = signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False)
        handled = (*STOP_SIGNALS, signal.SIGCHLD)
        old = {number: signal.signal(number, self._note_signal) for number in handled}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(old_wakeup)
            self._selector.unregister(read)
            read.close()
            write.close()

    def _note_signal(self, number: int, frame: object) -> None:
        if number != signal.SIGCHLD:
            self._signals.append(signal.Signals(number))

    def _obey_signals(self, now: float) -> None:
        while self._signals:
            number = self._signals.pop(0)
            if self.is_stopping:
                self.say(f"{number.name} again: ending everything at once")
                self._kill_at = now
            else:
                self.say(f"{number.name}: stopping (once more to end everything at once)")
                self.stop()
        if now >= self._kill_at:
            for child in self.children:
                if child.process:
                    child.kill_group()

    def _reap(self, now: float) -> None:
        for child in self.children:
            if child.process is None or child.process.poll() is None:
                continue
            self._drain(child)
            child.kill_group()
            name, pid, code = child.program.name, child.pid, child.process.returncode
            child.process = None
            if not self.is_stopping:
                pause = child.schedule_restart(now)
                self.say(f"{name} (pid {pid}) ended with {code}, starts again in {pause:.1f} s")

    def _start_due(self, now: float) -> None:
        for child in self.children:
            if child.process is None and now >= child.start_at and not self.is_stopping:
                child.start(now)
                os.set_blocking(child.output.fileno(), False)
                self._selector.register(child.output, selectors.EVENT_READ, child)

    def _pause(self, now: float, next_tick: float) -> float:
        """Return the seconds until something is due by time alone."""
        due = [child.start_at for child in self.children if child.process is None]
        if self.is_stopping:
            due = [self._kill_at if self._kill_at > now else now + 0.1]
        return max(0.0, min([*due, next_tick if not self.is_stopping else now + 1]) - now)

    def _read_output(self, timeout: float) -> None:
        for key, _ in self._selector.select(timeout):
            if isinstance(key.data, Child):
                self._read_child(key.data)
            else:
                with contextlib.suppress(BlockingIOError):
                    key.fileobj.recv(4096)  # type: ignore[union-attr]

    def _read_child(self, child: Child) -> bool:
        """Print what the child wrote; False when there is no more for now."""
        try:
            chunk = os.read(child.output.fileno(), 65536)
        except BlockingIOError:
            return False
        if not chunk:
            self._selector.unregister(child.output)
            return False
        *lines, child.unfinished_line = (child.unfinished_line + chunk).split(b"\n")
        for line in lines:
            self._print(child.program.name, line.decode(errors="replace"))
        return True

    def _drain(self, child: Child) -> None:
        """Print the rest of an ended process's output, and close its pipe."""
        if child.output.fileno() in self._selector.get_map():
            while self._read_child(child):
                pass
        if child.unfinished_line:
            self._print(child.program.name, child.unfinished_line.decode(errors="replace"))
            child.unfinished_line = b""
        with contextlib.suppress(KeyError):
            self._selector.unregister(child.output)
        child.output.close()

    def _print(self, name: str, text: str) -> None:
        # A closed terminal or a `| head` must not take the service down.
        with contextlib.suppress(OSError):
            for line in filter(str.strip, text.split("\n")):
                self._output.write(self._as_line(name, line) + "\n")
            self._output.flush()

    def _as_line(self, name: str, line: str) -> str:
        if not self._is_json:
            return f"{name:<{self._width}} | {line}"
        # Log collectors need JSON in every line, also in those that no logger wrote.
        process = json.dumps(name)
        if line.startswith('{"') and line.endswith("}"):
            return f'{line[:-1]}, "process": {process}}}'
        return f'{{"event": {json.dumps(line)}, "process": {process}}}'


_libc = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded before any fork


def die_with(parent: int) -> None:
    """Let the kernel send SIGTERM when the supervisor dies (Linux; the lifeline does the rest)."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # the supervisor died before prctl
            os._exit(70)
