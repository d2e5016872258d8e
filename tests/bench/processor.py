"""P14, P17: what does the database do for an idle engine, and what does one delivery cost?"""

from __future__ import annotations

import time
from typing import Any

from tests.bench import messages, place
from tests.bench.engines import EngineProcess
from tests.bench.receiver import ReceiverProcess
from tests.bench.report import Figure
from tests.bench.throughput import project_secret

IDLE_SECONDS = 20.0


def database_seconds(connection: Any) -> float:
    """Return the processor time of all the server's processes so far, the ended ones too."""
    import psutil

    from tests.support.processes import cpu_seconds

    (pid,) = connection.execute("SELECT pg_backend_pid()").fetchone()
    postmaster = psutil.Process(pid).parent()
    assert postmaster is not None
    return cpu_seconds(postmaster)


def p14(scale: place.Scale) -> list[Figure]:
    """Let an engine wait for work, and measure the database."""
    figure = Figure("P14", "database for an idle engine", "% of a core", 1.0, is_less_better=True)
    with place.connect() as connection, EngineProcess():
        messages.clear(connection)
        time.sleep(2)  # the cost of its start is not part of this
        seconds = min(IDLE_SECONDS, 5 * scale.steady_seconds)
        for _ in range(max(1, scale.rounds // 2)):
            before = database_seconds(connection)
            time.sleep(seconds)
            figure.add(100 * (database_seconds(connection) - before) / seconds)
    return [figure]


def p17(scale: place.Scale) -> list[Figure]:
    """Publish a backlog, let an engine deliver it, and add up engine and database."""
    secret, count = project_secret(), scale.deliveries
    parts = ("engine and database", "database alone")
    figures = [
        Figure("P17", f"one delivery, {part}", "ms of CPU", 0.3, is_less_better=True)
        for part in parts
    ]
    with ReceiverProcess() as receiver, place.connect() as connection:
        messages.clear(connection)
        with EngineProcess() as engine:
            messages.deliver_all(connection, receiver, receiver.urls, max(100, count // 10), secret)
            for _ in range(scale.rounds):
                ours, database = engine.cpu_seconds, database_seconds(connection)
                messages.deliver_all(connection, receiver, receiver.urls, count, secret)
                used = database_seconds(connection) - database
                figures[0].add(1000 * (engine.cpu_seconds - ours + used) / count)
                figures[1].add(1000 * used / count)
    return figures
