"""P6, P7, P10: what do bad destinations, more engines and many open requests cost?"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from statistics import quantiles
from typing import Any

from tests.bench import messages, place
from tests.bench.engines import EngineProcess
from tests.bench.receiver import ReceiverProcess
from tests.bench.report import Figure, in_turns, pairs_in_turns
from tests.bench.throughput import project_secret

STEADY_PER_SECOND = 200
WAVE = 10
LONG_WAITS = (600.0, 600.0)


def p6(scale: place.Scale) -> list[Figure]:
    """Deliver to healthy destinations, alone and together with a dead and some hanging ones."""
    rate = Figure("P6", "healthy deliveries beside bad ones", "1/s", 0.90)
    p95 = Figure("P6", "healthy p95 beside bad ones", "ms", 1.2, is_less_better=True)
    rate.reference_name = p95.reference_name = "alone"
    with ReceiverProcess() as receiver, place.connect() as connection:

        def alone() -> tuple[float, float]:
            messages.clear(connection)
            with EngineProcess():
                return _healthy(connection, receiver, scale)

        def beside() -> tuple[float, float]:
            messages.clear(connection)
            messages.owe(connection, [receiver.dead_url], scale.backlog, waits=LONG_WAITS)
            messages.owe(connection, receiver.hanging_urls, scale.backlog // 10, waits=LONG_WAITS)
            connection.execute("ANALYZE")
            with EngineProcess():
                return _healthy(connection, receiver, scale)

        pairs_in_turns(scale.rounds, beside, alone, [rate, p95])
    return [rate, p95]


def _healthy(connection: Any, receiver: ReceiverProcess, scale: place.Scale) -> tuple[float, float]:
    """Return (deliveries a second when many are due at once, p95 ms under a steady load)."""
    secret = project_secret()
    messages.deliver_all(connection, receiver, receiver.urls, 200, secret)
    rate = messages.deliver_all(
        connection, receiver, receiver.urls, max(100, scale.deliveries // 4), secret
    )
    return rate, _steady_p95(connection, receiver, scale.steady_seconds)


def _steady_p95(connection: Any, receiver: ReceiverProcess, seconds: float) -> float:
    receiver.reset()
    waves = []
    pause = WAVE / STEADY_PER_SECOND
    for _ in range(max(2, int(seconds / pause))):
        waves.append(messages.owe(connection, receiver.urls[:WAVE], WAVE))
        time.sleep(pause)
    count = len(waves) * WAVE
    receiver.wait_for(count)
    messages.wait_until_recorded(connection, receiver.urls)
    committed = dict(_commit_times(connection, waves))
    first = receiver.report(project_secret())["first"]
    late = [1000 * (first[event] - at) for event, at in committed.items()]
    return quantiles(late, n=20)[-1]


def _commit_times(connection: Any, waves: list[float]) -> list[tuple[str, float]]:
    """Pair the ids of the newest events, in their order, with the commits of their waves."""
    rows = connection.execute(
        "SELECT event_id FROM webhooks_app_webhookevent ORDER BY id DESC LIMIT %s",
        [len(waves) * WAVE],
    ).fetchall()
    ids = [row[0] for row in reversed(rows)]
    return [(event, waves[number // WAVE]) for number, event in enumerate(ids)]


def p7(scale: place.Scale) -> list[Figure]:
    """Deliver with two and with four engines on one machine, against one."""
    with ReceiverProcess() as receiver, place.connect() as connection:

        def rate_of(engines: int) -> float:
            messages.clear(connection)
            count, secret, urls = scale.deliveries // 2, project_secret(), receiver.urls
            with ExitStack() as stack:
                for _ in range(engines):
                    stack.enter_context(EngineProcess())
                messages.deliver_all(connection, receiver, urls, 200, secret)
                return messages.deliver_all(connection, receiver, urls, count, secret)

        return [_against_one(engines, rate_of, scale.rounds) for engines in (2, 4)]


def _against_one(engines: int, rate_of: Callable[[int], float], rounds: int) -> Figure:
    figure = Figure("P7", f"deliveries by {engines} engines", "1/s", 1.0, reference_name="by one")
    return in_turns(rounds, lambda: rate_of(engines), lambda: rate_of(1), figure)


def p10(scale: place.Scale) -> list[Figure]:
    """Hold many requests open and measure the engine's memory."""
    what = f"memory for {scale.in_flight:,} in flight, 16 KB each"
    figure = Figure("P10", what, "MB", 100, is_less_better=True)
    settings = {
        # One project, as used here, has at most three quarters of an engine's seats.
        "MAX_IN_FLIGHT": 2 * scale.in_flight,
        "DESTINATION_START_WINDOW": scale.in_flight,
        "DESTINATION_MAX_WINDOW": scale.in_flight,
    }
    with ReceiverProcess() as receiver, place.connect() as connection:
        for _ in range(min(3, scale.rounds)):
            messages.clear(connection)
            with EngineProcess(**settings) as engine:
                messages.deliver_all(connection, receiver, receiver.urls, 100, project_secret())
                before = engine.rss_bytes
                body = b'{"x":"' + b"x" * 16_000 + b'"}'
                urls = receiver.hanging_urls
                messages.owe(connection, urls, scale.in_flight, body=body, waits=LONG_WAITS)
                _wait_for_open(connection, scale.in_flight)
                figure.add((engine.rss_bytes - before) / 1e6)
    return [figure]


def _wait_for_open(connection: Any, count: int) -> None:
    deadline = time.monotonic() + 60
    statement = "SELECT count(*) FROM webhooks_app_webhookdelivery WHERE outcome = 'pending'"
    while connection.execute(statement).fetchone()[0] < count:
        if time.monotonic() > deadline:
            raise RuntimeError("not all requests are open")
        time.sleep(0.05)
    time.sleep(1.0)  # claimed messages are sent a moment later
