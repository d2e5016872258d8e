"""What do worker processes do besides their tickets? Look for late work, sweep, stop gently."""

from __future__ import annotations

import contextlib
import threading
from itertools import cycle, islice
from typing import TYPE_CHECKING

import dramatiq
import structlog
from django.conf import settings
from django.db import Error, close_old_connections, connection

from tasks_app.tickets import stopping
from webhooks_app.database import WRITE_NOTHING, why_unusable

if TYPE_CHECKING:
    from tasks_app.remote_work import RemoteWorkThread

logger = structlog.get_logger(__name__)

#: How often a process with free threads looks for work, and how long work must be due before it is
#: late: with Redis a ticket brings it within milliseconds.
LOOK_SECONDS = 1.0
LATE_SECONDS = 1.0
OUTAGE_LOOK_SECONDS = 1.0
#: More than twice the interval in which a running task's lease is extended.
LEASES_FIRST_SECONDS = 2.0


class ShutdownMiddleware(dramatiq.Middleware):
    """Announce early that the process is stopping.

    Worker threads still take tickets while ``before_worker_shutdown`` hooks run, so this only sets
    a flag: then nothing is claimed any more, and running work is stopped and given back.
    """

    def before_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        """Set the flag, without waiting."""
        stopping.set()


class _OwnThread(dramatiq.Middleware):
    """Runs `_loop` in a thread of each worker process until the process stops."""

    _thread: threading.Thread | None = None

    def after_worker_boot(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        self._thread = threading.Thread(target=self._loop, name=type(self).__name__, daemon=True)
        self._thread.start()

    def after_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        stopping.set()
        if self._thread:
            self._thread.join(timeout=5)

    def _loop(self) -> None:
        raise NotImplementedError


class SweepMiddleware(_OwnThread):
    """Run the sweep in a thread of each worker process; a lease lets one work at a time."""

    def _loop(self) -> None:
        from tasks_app import tickets
        from tasks_app.upkeep.sweep import sweep

        while True:
            try:
                tickets.report_alive()
                close_old_connections()
                sweep()
            except Exception as error:  # the loop's edge: without sweeps nothing lost is ever found
                if reason := why_unusable(error):
                    logger.warning("Sweep waits for the database", reason=reason)
                    self._outlast()
                else:
                    logger.exception("Sweep crashed, will try again")
            if stopping.wait(settings.SWEEP_INTERVAL_SECONDS):
                break
        connection.close()

    @staticmethod
    def _outlast() -> None:
        """Wait for the database, and then until living workers have extended their leases.

        Otherwise an outage longer than a lease would requeue every running task.
        """
        while not stopping.wait(OUTAGE_LOOK_SECONDS):
            with contextlib.suppress(Error):
                close_old_connections()
                with connection.cursor() as cursor:
                    cursor.execute(WRITE_NOTHING)
                stopping.wait(LEASES_FIRST_SECONDS)
                return


class RemoteWorkMiddleware(dramatiq.Middleware):
    """Look after work at providers elsewhere, in a thread of each worker process."""

    def __init__(self) -> None:
        self._thread: RemoteWorkThread | None = None

    def after_worker_boot(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        """Start the thread."""
        from tasks_app.remote_work import RemoteWorkThread

        self._thread = RemoteWorkThread()
        self._thread.start()

    def after_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        """Wait until the jobs are given back."""
        if self._thread:
            self._thread.stop()


class LookMiddleware(_OwnThread):
    """Find due work in the database while there are free threads, whether Redis works or not.

    In a thread of each worker process, two statements per LOOK_SECONDS. For late work a ticket goes
    to the process's own queue, so that it is claimed like any other.
    """

    def after_worker_boot(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        from tasks_app import tickets

        tickets.own_worker = worker
        super().after_worker_boot(broker, worker)

    def _loop(self) -> None:
        while not stopping.wait(LOOK_SECONDS):
            try:
                look()
            except Exception as error:  # the loop's edge: without Redis nothing else finds work
                if not why_unusable(error):  # the sweep logs those
                    logger.exception("Look for work crashed, will try again")
        connection.close()


def look() -> int:
    """Put a ticket for late work into the own queue for each free thread; return how many."""
    from tasks_app import tickets
    from tasks_app.state import assets, lifecycle

    free = max(0, tickets.free_threads())  # negative where more tickets than threads wait
    late = lifecycle.types_due(LATE_SECONDS) if free else []
    if free and assets.due(LATE_SECONDS).exists():
        late.append(tickets.FETCH)
    return sum(tickets.keep_ticket(task_type) for task_type in islice(cycle(late), free))
