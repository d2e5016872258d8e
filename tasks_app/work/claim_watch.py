"""Is a claimed task still ours? A thread beside the work extends the lease, and notices a loss."""

from __future__ import annotations

import threading
import time

from django.conf import settings
from django.db import connection

from tasks_app.models import Task
from tasks_app.state import lifecycle
from tasks_app.work.outages import without_database
from webhooks_app.crash_points import faultpoint

#: How often to check whether the task was cancelled; a cancel must take effect within 2 s.
WATCH_SECONDS = 0.5


class ClaimWatch:
    """Extend the lease in a thread with its own connection; notice when the task is lost."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._done = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._loop, name=f"watch-{task.id}", daemon=True)

    @property
    def is_lost(self) -> bool:
        """Say whether the task was cancelled or given to another worker."""
        return self._lost.is_set()

    def __enter__(self) -> ClaimWatch:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._done.set()
        self._thread.join()

    def _loop(self) -> None:
        third = settings.TASK_LEASE_SECONDS / 3
        extended = time.monotonic()
        try:
            while not self._done.wait(min(WATCH_SECONDS, third)):
                now = time.monotonic()
                is_time = now - extended >= third
                faultpoint("watch.before_look")
                with without_database():
                    # The run token decides, not the clock: an outage alone does not end a claim.
                    look = lifecycle.extend_lease if is_time else lifecycle.is_ours
                    if not look(self._task):
                        self._lost.set()
                        return
                    extended = now if is_time else extended
        finally:
            connection.close()
