"""How does an engine run inside a process that has other work? In a thread with its own loop."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from contextlib import suppress

import uvloop

from webhooks_app.delivery.engine import Engine
from webhooks_app.log import get_logger

logger = get_logger(__name__)

#: Time for the engine's drain, its last writes, and a reserve.
STOP_SECONDS = 15.0
RESTART_SECONDS = 1.0


def tune_garbage_collector() -> None:
    """Collect less often: most objects live for one request, and full collections cost a third."""
    gc.set_threshold(20_000, 50, 1_000)


class EngineThread:
    """Run an `Engine` beside synchronous code. `wake` and `stop` may come from any thread.

    ``make_engine`` is called in the thread, also for the engine that follows a crashed one.
    """

    def __init__(self, make_engine: Callable[[], Engine] = Engine) -> None:
        self._make_engine = make_engine
        self._engine: Engine | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhook-engine", daemon=True)

    def start(self) -> None:
        """Start the thread; the engine is ready a moment later."""
        self._thread.start()

    def wake(self) -> None:
        """Make the engine look for due messages now."""
        self._call("wake")

    def stop(self) -> None:
        """Drain the engine and wait until it has ended."""
        self._is_stopping.set()
        self._call("stop")
        self._thread.join(timeout=STOP_SECONDS)

    @property
    def is_alive(self) -> bool:
        """Say whether the engine still runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._is_stopping.is_set():
            try:
                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    runner.run(self._main())
            except Exception:  # the loop's edge: a bug must not end delivery for good
                logger.exception("Webhook engine crashed, starting a new one")
                self._is_stopping.wait(RESTART_SECONDS)

    async def _main(self) -> None:
        self._engine = self._make_engine()
        self._loop = asyncio.get_running_loop()
        # `stop` may have been called before there was an engine.
        if not self._is_stopping.is_set():
            await self._engine.run()

    def _call(self, method: str) -> None:
        if self._engine is not None and self._loop is not None:
            with suppress(RuntimeError):  # the loop was closed meanwhile
                self._loop.call_soon_threadsafe(getattr(self._engine, method))
