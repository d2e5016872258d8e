"""How does a render run, and stop, in a process of its own?

Protocol: one line of JSON on stdin is the job; stdin then stays open, and when it closes the
process ends itself. On stdout go JSON lines: ``{"progress": [fraction, step, detail]}`` any number
of times, then one ``{"result": {...}}`` or ``{"error": {...}}``. On Linux the kernel also ends the
process when its parent dies.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import json
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from tasks_app.failures import own_frames

PR_SET_PDEATHSIG = 1  # linux/prctl.h
MISSING_LIBRARIES = (
    "Previz pictures need the system libraries libGL.so.1, libEGL.so.1 and libexpat.so.1; "
    "on Debian or Ubuntu: apt-get install libgl1 libegl1 libexpat1"
)


def main() -> None:
    """Render the job on stdin; always exits the process."""
    faulthandler.enable()
    channel = _private_stdout()
    _die_with_parent()
    request = json.loads(sys.stdin.readline())
    _limit(request)
    threading.Thread(target=_watch_lifeline, daemon=True).start()
    _send(channel, _outcome(request, channel))
    # Skip the destructors of native libraries, which may hang.
    os._exit(0)


def _private_stdout() -> TextIO:
    """Keep stdout for the protocol; anything a library prints goes to stderr."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return channel


def _die_with_parent() -> None:
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _watch_lifeline() -> None:
    # Raw read: a daemon thread inside buffered stdin would hold its lock for ever.
    while os.read(0, 1024):
        pass
    os.killpg(0, signal.SIGKILL) if os.getpgrp() == os.getpid() else os._exit(1)


def _limit(request: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        os.nice(10)
    _set_limit(resource.RLIMIT_AS, int(request["memory_bytes"]))
    _set_limit(resource.RLIMIT_CPU, max(1, int(request["cpu_seconds"])))
    _set_limit(resource.RLIMIT_CORE, 0)


def _set_limit(which: int, value: int) -> None:
    hard = resource.getrlimit(which)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(which, (value, hard))


def _send(channel: TextIO, message: dict[str, Any]) -> None:
    channel.write(json.dumps(message) + "\n")
    channel.flush()


def _outcome(request: dict[str, Any], channel: TextIO) -> dict[str, Any]:
    def report(fraction: float, step: str, detail: str = "") -> None:
        _send(channel, {"progress": [round(fraction, 4), step, detail]})

    try:
        return {"result": _render(request, report)}
    except ImportError as error:
        if any(name in str(error) for name in ("libGL", "libEGL", "libexpat")):
            return _error(error, MISSING_LIBRARIES, code="renderer_incomplete", retryable=False)
        return _error(error, f"The renderer could not be loaded: {error}.", retryable=False)
    except MemoryError as error:
        return _error(error, "The render needed more memory than it may use.")
    except Exception as error:  # the edge of this process: an error not reported here is lost
        return _error(error, f"The render failed: {type(error).__name__}.")


def _error(
    error: BaseException, message: str, *, code: str = "render_failed", retryable: bool = True
) -> dict[str, Any]:
    told = {"code": code, "message": message, "retryable": retryable}
    return {"error": told | {"traceback": own_frames(error)}}


def _render(request: dict[str, Any], report: Callable[[float, str, str], None]) -> dict[str, Any]:
    # Imported late: drawing libraries cost half a second and may be missing.
    from tasks_app.providers.previz.output import studio

    return studio.make(request, Path(request["work_dir"]), report)
