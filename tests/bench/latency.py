"""P4: how long after the commit is the first byte at the receiver, when nothing else is due?"""

from __future__ import annotations

import time
from statistics import quantiles

from tests.bench import messages, place
from tests.bench.engines import EngineProcess
from tests.bench.receiver import ReceiverProcess
from tests.bench.report import Figure
from tests.bench.throughput import project_secret

PAUSE_SECONDS = 0.02


def p4(scale: place.Scale) -> list[Figure]:
    """Send one message at a time and take the percentiles of each round."""
    half = Figure("P4", "commit to first byte, p50", "ms", 15, is_less_better=True)
    nearly_all = Figure("P4", "commit to first byte, p99", "ms", 50, is_less_better=True)
    with ReceiverProcess() as receiver, place.connect() as connection, EngineProcess():
        messages.clear(connection)
        _milliseconds(connection, receiver, 10)  # connections and plans are made
        for _ in range(scale.rounds):
            measured = _milliseconds(connection, receiver, scale.idle)
            cuts = quantiles(measured, n=100)
            half.add(cuts[49])
            nearly_all.add(cuts[98])
        messages.check(receiver, scale.idle, project_secret())
    return [half, nearly_all]


def _milliseconds(connection: object, receiver: ReceiverProcess, count: int) -> list[float]:
    receiver.reset()
    found = []
    for number in range(1, count + 1):
        committed_at = messages.owe(connection, receiver.urls[:1], 1)
        found.append(1000 * (receiver.wait_for(number) - committed_at))
        time.sleep(PAUSE_SECONDS)
    return found
