"""Who does remote work in a test that kills it? One process: claims tasks, looks after their jobs.

Run as ``python -m tests.support.remote_worker``; it ends when it is killed.
"""

from __future__ import annotations

import threading

import django


def main() -> None:
    django.setup()
    from tasks_app.remote_work import RemoteWorkThread
    from tasks_app.state import lifecycle
    from tasks_app.work import run

    RemoteWorkThread().start()
    pause = threading.Event()
    while not pause.wait(0.05):
        lifecycle.take_expired_leases()
        run.run_next("image_generation")


if __name__ == "__main__":
    main()
