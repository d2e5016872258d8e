"""How is a fresh service process started in milliseconds? By forking one that has imported all.

``python -m tests.chaos.forks`` imports everything once, opens no connection and no thread, and then
forks a child for every order it reads: a real Dramatiq worker with all our middleware, a delivery
engine, or one API request. Each child can be told where to die, fail or freeze
(`webhooks_app.crash_points`). Orders and answers are JSON lines; `stage` sends and reads them.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

WORKER_STOP_MS = 5_000


def worker(threads: int = 2) -> None:
    """Run as a worker process until SIGTERM."""
    import dramatiq

    process = dramatiq.Worker(dramatiq.get_broker(), worker_threads=threads, worker_timeout=50)
    _until_terminated(process.start)
    process.stop(timeout=WORKER_STOP_MS)


def engine() -> None:
    """Run as a dedicated delivery process until SIGTERM."""
    from webhooks_app.delivery.thread import EngineThread

    thread = EngineThread()
    _until_terminated(thread.start)
    thread.stop()


def _until_terminated(start: Any) -> None:
    start()
    signal.sigwait([signal.SIGTERM])


def call(
    out: str, method: str, path: str, key: str, body: Any = None, idempotency_key: str = ""
) -> None:
    """Send one API request through the whole Django stack; the answer goes to a file."""
    from django.test import Client

    headers = {"x-api-key": key}
    if idempotency_key:
        headers["idempotency-key"] = idempotency_key
    content = {} if body is None else {"data": body, "content_type": "application/json"}
    # A server error is returned as an answer, as a real client gets it.
    client = Client(raise_request_exception=False)
    response = client.generic(
        method,
        f"/api/v1/{path}",
        json.dumps(body) if content else "",
        "application/json",
        headers=headers,
    )
    answer = {"status": response.status_code, "body": json.loads(response.content or b"null")}
    Path(out).write_text(json.dumps(answer))


def api_key(out: str) -> None:
    """Make a key."""
    from tasks_app.models import ApiKey

    Path(out).write_text(json.dumps(ApiKey.objects.create_key(name="chaos")[1]))


ROLES = {"worker": worker, "engine": engine, "call": call, "api_key": api_key}


def _child(order: dict[str, Any]) -> None:
    os.environ |= {"FAULTS": order.get("faults", "")}
    if skew := order.get("skew_seconds"):
        real = time.time
        time.time = lambda: real() + skew
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    code = 1
    try:
        ROLES[order["role"]](**order.get("arguments", {}))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


#: The last reported state of each child: a stop is reported only once.
_seen: dict[int, str] = {}


def _wait(pid: int, seconds: float) -> str:
    """Return a child's state: running, frozen, killed or ended with a code."""
    if _seen.get(pid, "running").startswith(("killed", "ended")):
        return _seen[pid]
    deadline = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
        if found:
            _seen[pid] = _state(status)
        state = _seen.get(pid, "running")
        if state != "running" or time.monotonic() >= deadline:
            return state
        time.sleep(0.005)


def _state(status: int) -> str:
    if os.WIFSTOPPED(status):
        return "frozen"
    if os.WIFCONTINUED(status):
        return "running"
    return "killed" if os.WIFSIGNALED(status) else f"ended {os.WEXITSTATUS(status)}"


def main() -> None:
    """Carry out orders until stdin closes."""
    import django

    django.setup()
    from django.db import connections

    import moviesvc.wsgi  # noqa: F401 - imports what a first request would
    import tasks_app.actors  # noqa: F401

    connections.close_all()
    children: set[int] = set()
    # Children and their threads inherit this mask; a child accepts the signal once it is ready.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            answer: Any = _wait(order["wait"], order["seconds"])
        else:
            answer = os.fork()
            if answer == 0:
                os.close(0)
                _child(order)
            children.add(answer)
        print(json.dumps(answer), flush=True)
    for pid in children:
        if not _wait(pid, 0).startswith(("killed", "ended")):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
