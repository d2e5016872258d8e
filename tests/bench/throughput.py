"""P1: how much of aiohttp's best speed remains with signatures and durable rows?"""

from __future__ import annotations

from tests.bench import bare, messages, place
from tests.bench.engines import EngineProcess
from tests.bench.receiver import ReceiverProcess
from tests.bench.report import Figure, pairs_in_turns


def project_secret() -> str:
    """Return the secret that signs the benchmark's webhooks."""
    from webhooks_app.signing.store import get_or_create

    return get_or_create(place.SCOPE)


def p1(scale: place.Scale) -> list[Figure]:
    """Compare one engine with the bare loop, by the clock and by the processor's time.

    The clock also counts PostgreSQL and the receiver, who share the machine, and whatever else
    runs on it; the processor's time is the engine's alone.
    """
    secret, count = project_secret(), scale.deliveries
    figure = Figure("P1", "deliveries by one engine", "1/s", 0.55, reference_name="bare loop")
    cpu = Figure("P1", "deliveries for a second of CPU", "1/s", 0.65, reference_name="bare loop")
    with ReceiverProcess() as receiver, place.connect() as connection:
        messages.clear(connection)
        with EngineProcess() as engine:
            messages.deliver_all(connection, receiver, receiver.urls, max(100, count // 10), secret)

            def reference() -> tuple[float, float]:
                receiver.reset()
                seconds, cpu_seconds = bare.run(receiver.urls, count, secret)
                messages.check(receiver, count, secret)
                return count / seconds, count / cpu_seconds

            def ours() -> tuple[float, float]:
                before = engine.cpu_seconds
                rate = messages.deliver_all(connection, receiver, receiver.urls, count, secret)
                return rate, count / (engine.cpu_seconds - before)

            pairs_in_turns(scale.rounds, ours, reference, [figure, cpu])
        messages.check_rows(connection, scale.rounds * count + max(100, count // 10))
    return [figure, cpu]
