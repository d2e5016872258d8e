"""How does a benchmark run its own programs? As processes that answer JSON lines, then end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import IO, Any

from tests.bench import place
from tests.support.family import answers, family, kill

START_SECONDS = 30.0


class Child:
    """A module of the benchmark as a process that answers each line of JSON with one line."""

    def __init__(self, module: str, *arguments: str, database: str = "movies") -> None:
        self._command = [sys.executable, "-m", f"tests.bench.{module}", *arguments]
        self._environment = os.environ | {"DATABASE_URL": place.database_url(database)}

    def __enter__(self) -> Child:
        self._process = subprocess.Popen(
            self._command,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *exc_info: object) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def ask(self, **order: Any) -> Any:
        """Send one order and return the answer."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._command[-1]} ended")
        return json.loads(line)


class Server:
    """A server of the service as a process group of its own, with its output in a log file."""

    def __init__(self, name: str, command: list[str], **environment: str) -> None:
        self._name = name
        self._command = command
        self._environment = os.environ | environment

    def __enter__(self) -> Server:
        self._log: IO[bytes] = (place.var_directory() / f"{self._name}.log").open("ab")
        self._process = subprocess.Popen(
            self._command, env=self._environment, stdout=self._log, stderr=self._log
        )
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            kill(family(self._process.pid))
            self._process.wait(10)
        self._log.close()

    @property
    def cpu_seconds(self) -> float:
        """Return the processor time of the server and its workers so far."""
        times = answers(family(self._process.pid), lambda process: process.cpu_times())
        return float(sum(time.user + time.system for time in times))


def wait_for_port(port: int) -> None:
    """Wait until something accepts connections."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError(f"nothing listens on {port}")


def answer_lines(answer: Any) -> None:
    """Answer every line of stdin with the result of ``answer(order)``, until it is closed."""
    for line in sys.stdin:
        order: Mapping[str, Any] = json.loads(line)
        sys.stdout.write(json.dumps(answer(order)) + "\n")
        sys.stdout.flush()
