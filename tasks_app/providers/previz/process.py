"""How does the parent run a render, watch it, and make sure that all of it ends?

May be used from several threads at once: no code runs between fork and exec, and the child sets
every limit on itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import structlog

from tasks_app import PROJECT_ROOT
from tasks_app.providers.base import Cancelled, Context, ProviderError

logger = structlog.get_logger(__name__)

POLL_SECONDS = 0.1
KILL_AFTER_SECONDS = 2.0
LOG_TAIL_BYTES = 4000
#: Environment variables that the child gets: no database URL, no key.
PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH")


class RenderProcess:
    """One child process, from its start to its guaranteed end (use as a context manager)."""

    def __init__(self, request: dict[str, Any], work_dir: Path) -> None:
        self._log = work_dir / "render.log"
        self._messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        with self._log.open("wb") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "tasks_app.providers.previz"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=work_dir,
                env=_environment(work_dir),
                start_new_session=True,
            )
        threading.Thread(target=self._read, daemon=True).start()
        self._write(request)

    def __enter__(self) -> RenderProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Return the child's process id, which is also its group's."""
        return self._child.pid

    def result(self, context: Context) -> dict[str, Any]:
        """Wait for the child's result, passing its progress on.

        Raises:
            Cancelled: the context said so.
            ProviderError: ``timed_out`` or ``render_failed``.
        """
        while True:
            if context.cancelled():
                raise Cancelled
            if context.seconds_left() <= 0:
                raise ProviderError("timed_out", "The render did not finish in time.")
            with contextlib.suppress(queue.Empty):
                message = self._messages.get(timeout=POLL_SECONDS)
                result = self._handle(message, context)
                if result is not None:
                    return result

    def stop(self) -> None:
        """End the whole process group: SIGTERM, and after 2 s SIGKILL."""
        _signal_group(self._child.pid, signal.SIGTERM)
        try:
            self._child.wait(KILL_AFTER_SECONDS)
        except subprocess.TimeoutExpired:
            _signal_group(self._child.pid, signal.SIGKILL)
            self._child.wait()
        if self._child.stdin:
            with contextlib.suppress(OSError):
                self._child.stdin.close()

    def _write(self, request: dict[str, Any]) -> None:
        assert self._child.stdin is not None
        # If the child died at once, its missing result is the error.
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.write(json.dumps(request).encode() + b"\n")
            self._child.stdin.flush()

    def _read(self) -> None:
        assert self._child.stdout is not None
        with self._child.stdout as lines, contextlib.suppress(ValueError):
            for line in lines:
                self._messages.put(json.loads(line))
        self._messages.put(None)

    def _handle(self, message: dict[str, Any] | None, context: Context) -> dict[str, Any] | None:
        if message is None:
            raise self._death()
        if "progress" in message:
            fraction, step, detail = message["progress"]
            context.progress(fraction, step, detail)
            return None
        if "error" in message:
            told = message["error"]
            raise ProviderError(
                told["code"],
                told["message"],
                retryable=told["retryable"],
                traceback_text=told["traceback"],
            )
        result: dict[str, Any] = message["result"]
        return result

    def _death(self) -> ProviderError:
        code = self._child.wait()
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        logger.warning("Render process ended by itself", how=how, last_words=self._last_words())
        return ProviderError("render_failed", f"The render process ended {how}.")

    def _last_words(self) -> str:
        """Return the end of the child's stderr, for the log only: a native crash has no frames."""
        text = self._log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
        return text.replace(f"{PROJECT_ROOT}{os.sep}", "").strip()


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def _environment(work_dir: Path) -> dict[str, str]:
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    # One thread each: as many renders run in parallel as there are cores.
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    # HOME: files that a library caches are deleted with the work directory.
    own = {"HOME": str(work_dir.resolve()), "PYTHONPATH": str(PROJECT_ROOT)}
    return {**passed, **threads, **own, "PYTHONUNBUFFERED": "1"}
