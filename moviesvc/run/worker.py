"""What does a worker process do beyond its tickets? It ends when its supervisor has died."""

from __future__ import annotations

import dramatiq


class LifelineMiddleware(dramatiq.Middleware):
    """End this worker process when the supervisor that started it is gone."""

    def after_worker_boot(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        """Begin to watch, where a supervisor asked for it."""
        from moviesvc.run import lifeline

        lifeline.watch_if_asked()
