"""``python -m tests.support.remote_loop task_type``: a worker's part in remote work, to be killed.

It gives queued tasks to their providers and looks after the jobs, until somebody ends it.
"""

from __future__ import annotations

import sys
import threading

import django


def main(task_type: str) -> None:
    """Work for ever."""
    django.setup()
    from tasks_app.remote_work import RemoteWorkThread
    from tasks_app.work import run

    RemoteWorkThread().start()
    while True:
        run.run_next(task_type)
        threading.Event().wait(0.05)


if __name__ == "__main__":
    main(sys.argv[1])
