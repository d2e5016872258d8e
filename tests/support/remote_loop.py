"""``python -m tests.support.remote_loop``: workers' parts in remote work, each there to be killed.

Reads orders as JSON lines: ``task_type``, ``settings`` to change, ``faults`` (see
`webhooks_app.crash_points`) and ``seconds``. For each it forks a process that gives queued tasks to
their providers and looks after the jobs, and tells by which signal that process has ended.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from typing import Any

import django


def work(order: dict[str, Any]) -> None:
    """Work for ever."""
    from django.conf import settings

    from tasks_app.remote_work import RemoteWorkThread
    from tasks_app.work import run

    for name, value in order["settings"].items():
        setattr(settings, name, value)
    os.environ["FAULTS"] = order.get("faults", "")
    RemoteWorkThread().start()
    while True:
        run.run_next(order["task_type"])
        threading.Event().wait(0.05)


def follow(line: str) -> None:
    """Fork a process for one order, and print how it ended."""
    order = json.loads(line)
    pid = os.fork()
    if not pid:
        signal.alarm(order.get("seconds", 60))  # ends it, by another signal than a fault does
        try:
            work(order)
        finally:
            os._exit(1)
    print(json.dumps({"pid": pid}), flush=True)
    print(json.dumps({"status": os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}), flush=True)


if __name__ == "__main__":
    django.setup()
    import tasks_app.actors
    import tasks_app.remote_work
    import tasks_app.work.run  # noqa: F401

    for each in sys.stdin:
        follow(each)
