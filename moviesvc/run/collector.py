"""When does Python look for garbage in our processes? Not while they load, and seldom afterwards.

The apps leave that alone: it is their host's to decide.
"""

from __future__ import annotations

import gc

import dramatiq

from webhooks_app.apps import WebhooksAppConfig


def collect_seldom() -> None:
    """Collect less often: per-request objects die young, and full collections cost a third."""
    gc.set_threshold(20_000, 50, 1_000)


class LastApp(WebhooksAppConfig):
    """The webhook app is our last one: when it is ready, everything is loaded."""

    def ready(self) -> None:
        """Begin to collect, but never what is there now."""
        super().ready()
        gc.freeze()  # which stays for life: not to look at it again spares a third of a command
        gc.enable()


class CollectSeldom(dramatiq.Middleware):
    """In worker processes, which deliver webhooks too."""

    def after_worker_boot(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        collect_seldom()
