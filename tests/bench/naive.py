"""P2, P3: how much faster is the engine than a Dramatiq message for each delivery?"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.bench import messages, place
from tests.bench.engines import EngineProcess
from tests.bench.receiver import ReceiverProcess
from tests.bench.report import Figure, in_turns
from tests.bench.throughput import project_secret

THREADS = 8  # Dramatiq's own default
ENGINE_DELIVERIES = 20  # times as many as for the naive way, so that both run long enough


def p2(scale: place.Scale) -> list[Figure]:
    """Compare with an actor that was written with care."""
    what = "deliveries, by one Dramatiq message each"
    return _against("deliver", Figure("P2", what, "1/s", 20, reference_name="actor"), scale)


def p3(scale: place.Scale) -> list[Figure]:
    """Compare with an actor that opens a new HTTP client for each attempt."""
    what = "deliveries, by a new client each"
    return _against("first", Figure("P3", what, "1/s", 100, reference_name="actor"), scale)


def _against(actor: str, figure: Figure, scale: place.Scale) -> list[Figure]:
    with ReceiverProcess() as receiver, place.connect() as connection:
        in_turns(
            scale.rounds,
            _by_engine(connection, receiver, ENGINE_DELIVERIES * scale.naive),
            _by_actor(connection, receiver, scale.naive, actor),
            figure,
        )
    return [figure]


def _by_engine(connection: Any, receiver: ReceiverProcess, count: int) -> Callable[[], float]:
    def rate() -> float:
        messages.clear(connection)
        with EngineProcess():
            secret = project_secret()
            messages.deliver_all(connection, receiver, receiver.urls, 200, secret)
            return messages.deliver_all(connection, receiver, receiver.urls, count, secret)

    return rate


def _by_actor(
    connection: Any, receiver: ReceiverProcess, count: int, actor: str
) -> Callable[[], float]:
    def rate() -> float:
        messages.clear(connection)
        with _worker():
            _send(connection, receiver, 2 * THREADS, actor)  # every thread has its connections
            return _send(connection, receiver, count, actor)

    return rate


def _send(connection: Any, receiver: ReceiverProcess, count: int, actor: str) -> float:
    from tests.bench import naive_actors

    receiver.reset()
    begin = messages.owe(connection, receiver.urls, count)
    rows = connection.execute(
        "SELECT id FROM webhooks_app_webhookmessage WHERE status = 'pending'"
    ).fetchall()
    for row in rows:
        getattr(naive_actors, actor).send(row[0])
    receiver.wait_for(count)
    end = messages.wait_until_recorded(connection, receiver.urls)
    messages.check(receiver, count, project_secret())
    return count / (end - begin)


@contextmanager
def _worker() -> Iterator[None]:
    command = [sys.executable, "-m", "dramatiq", "tests.bench.naive_actors"]
    log = (place.var_directory() / "naive.log").open("ab")
    process = subprocess.Popen(
        [*command, "--processes", "1", "--threads", str(THREADS)], stdout=log, stderr=log
    )
    try:
        time.sleep(2.0)  # importing Django
        yield
    finally:
        process.terminate()
        process.wait(30)
        log.close()
