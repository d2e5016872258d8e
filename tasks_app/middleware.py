"""What do worker processes do beside their tickets? They sweep, and they stop gently."""

from __future__ import annotations

import threading

import dramatiq
import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, close_old_connections, connection

from tasks_app.shutdown import stopping

logger = structlog.get_logger(__name__)


class ShutdownMiddleware(dramatiq.Middleware):
    """Say early that the process is going.

    Worker threads still take tickets while ``before_worker_shutdown`` hooks run, so this
    only sets a flag: claims become no-ops, running work is stopped and handed back.
    """

    def before_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        """Set the flag; waiting is for others."""
        stopping.set()


class SweepMiddleware(dramatiq.Middleware):
    """Run the sweep in a thread of each worker process, one process at a time."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None

    def after_worker_boot(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._loop, name="sweep", daemon=True)
        self._thread.start()

    def after_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        """Let a sweep under way come to its end."""
        stopping.set()
        if self._thread:
            self._thread.join(timeout=5)

    def _loop(self) -> None:
        from tasks_app import wake
        from tasks_app.sweep import sweep

        while True:
            try:
                wake.report_alive()
                close_old_connections()
                sweep()
            except (DatabaseError, InterfaceError) as error:
                logger.warning("Sweep failed, will try again", error=type(error).__name__)
            except Exception:  # the loop's edge: without sweeps nothing lost is ever found
                logger.exception("Sweep crashed, will try again")
            if stopping.wait(settings.SWEEP_INTERVAL_SECONDS):
                break
        connection.close()
