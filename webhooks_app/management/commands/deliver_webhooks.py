"""How does an engine run in its own process, for example on another machine?"""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import uvloop

from webhooks_app.delivery import Engine, tune_garbage_collector
from webhooks_app.egress import warn_of_open_networks
from webhooks_app.operators.command import OperatorCommand
from webhooks_app.signing.store import require_readable_at_boot


class Command(OperatorCommand):
    help = (
        "Deliver webhooks until SIGTERM or Ctrl-C. Any number of these may run, on any machine "
        "that reaches the database. On SIGTERM it claims nothing more, gives requests in flight "
        "10 seconds and hands the rest back at once; a second signal ends it immediately."
        "\n\nUnless WEBHOOKS['ENGINE'] is 'dedicated' in the workers of this installation, they "
        "deliver as well, which does no harm."
    )
    examples = (("", "deliver, on this machine, until told to stop"),)
    exit_codes = {
        0: "stopped by SIGTERM or Ctrl-C; nothing is left under its leases",
        1: "it cannot start (settings, keys, code), or a fault of its own ended it",
    }

    def handle(self, *args: Any, **options: Any) -> None:
        require_readable_at_boot()
        warn_of_open_networks()
        tune_garbage_collector()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._deliver())

    async def _deliver(self) -> None:
        engine = Engine()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, engine, loop)
        self.stderr.write("delivering webhooks; SIGTERM stops")
        await engine.run()

    def _stop(self, engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
        engine.stop()
