"""How does a benchmark run engines? Each in a process of its own, as `deliver_webhooks` does."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import IO, Any

from tests.bench import place


class EngineProcess:
    """One delivery engine on a database of the benchmark; a context manager.

    Args:
        settings: values of ``WEBHOOKS`` that differ from the service's.
    """

    def __init__(self, database: str = "movies", **settings: Any) -> None:
        self._environment = os.environ | {"DATABASE_URL": place.database_url(database)}
        self._settings = settings

    def __enter__(self) -> EngineProcess:
        self._log: IO[bytes] = (place.var_directory() / "engine.log").open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.engines", repr(self._settings)],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        assert self._process.stdout
        if self._process.stdout.readline() != b"ready\n":
            raise RuntimeError("the engine did not start; see engine.log")
        return self

    def __exit__(self, *exc_info: object) -> None:
        assert self._process.stdout
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)
        self._process.stdout.close()
        self._log.close()

    @property
    def cpu_seconds(self) -> float:
        """Return the processor time of the process so far, all threads."""
        import psutil

        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)

    @property
    def rss_bytes(self) -> int:
        """Return the process's resident memory."""
        import psutil

        return int(psutil.Process(self._process.pid).memory_info().rss)


async def _deliver() -> None:
    from webhooks_app.delivery.engine import Engine

    engine = Engine()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, engine.stop)
    running = asyncio.create_task(engine.run())
    while not engine.is_ready and not running.done():
        await asyncio.sleep(0.01)
    print("ready", flush=True)
    await running


def main() -> None:
    """Run one engine until SIGTERM, with the service's own garbage collector settings."""
    import ast

    import uvloop

    place.set_up_django()
    from django.conf import settings

    from webhooks_app.delivery.thread import tune_garbage_collector

    settings.WEBHOOKS = settings.WEBHOOKS | ast.literal_eval(sys.argv[1])
    tune_garbage_collector()
    profile = os.environ.get("BENCH_PROFILE")
    if not profile:
        uvloop.run(_deliver())
        return
    import cProfile
    import time

    profiler = cProfile.Profile(time.process_time)
    profiler.enable()
    uvloop.run(_deliver())
    profiler.disable()
    profiler.dump_stats(profile)


if __name__ == "__main__":
    main()
