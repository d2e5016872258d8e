"""How do finished tasks' webhooks get out of the worker processes?

`WebhookMiddleware` runs the delivery engine in a thread of each worker process and wakes it after
every Dramatiq message. This is the only module of the app that knows Dramatiq.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dramatiq

from webhooks_app.conf import webhook_settings

if TYPE_CHECKING:
    from webhooks_app.delivery import EngineThread


class WebhookMiddleware(dramatiq.Middleware):
    """Start, wake and drain the delivery engine of this worker process."""

    def __init__(self) -> None:
        self._engine: EngineThread | None = None

    def after_worker_boot(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        """Start the engine, unless it is dedicated; raises SystemExit if nothing can be signed."""
        # Imported here: Dramatiq loads its middleware before Django's models.
        from webhooks_app.delivery import EngineThread
        from webhooks_app.egress import warn_of_open_networks
        from webhooks_app.signing.store import UnreadableSecret, require_readable_at_boot

        try:
            require_readable_at_boot()
        except UnreadableSecret as error:  # Dramatiq swallows every Exception of a hook
            raise SystemExit(str(error)) from None
        warn_of_open_networks()
        if webhook_settings.ENGINE == "worker":
            self._engine = EngineThread()
            self._engine.start()

    def after_process_message(
        self, broker: dramatiq.Broker, message: Any, *, result: Any = None, exception: Any = None
    ) -> None:
        """Wake the engine: the actor's transactions are committed by now."""
        if self._engine:
            self._engine.wake()

    def after_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        """Let requests in flight finish, and give the other messages back.

        Not in ``before_worker_shutdown``: then actors still finish tasks, whose webhooks should go
        out too.
        """
        if self._engine:
            self._engine.stop()
