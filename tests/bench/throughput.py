"""P1: how much of what aiohttp can do at best is left with signatures and durable rows?"""

from __future__ import annotations

from tests.bench import bare, messages, place
from tests.bench.engines import EngineProcess
from tests.bench.receiver import ReceiverProcess
from tests.bench.report import Figure, in_turns


def project_secret() -> str:
    """Return the secret that signs the benchmark's webhooks."""
    from webhooks_app.stored_secrets import get_or_create

    return get_or_create(place.SCOPE)


def p1(scale: place.Scale) -> list[Figure]:
    """Measure one engine against the bare loop."""
    secret, count = project_secret(), scale.deliveries
    figure = Figure("P1", "deliveries by one engine", "1/s", 0.50, reference_name="bare loop")
    with ReceiverProcess() as receiver, place.connect() as connection:
        messages.clear(connection)
        with EngineProcess():
            messages.deliver_all(connection, receiver, receiver.urls, max(100, count // 10), secret)

            def reference() -> float:
                receiver.reset()
                seconds = bare.run(receiver.urls, count, secret)
                messages.check(receiver, count, secret)
                return float(count / seconds)

            def ours() -> float:
                return messages.deliver_all(connection, receiver, receiver.urls, count, secret)

            in_turns(scale.rounds, ours, reference, figure)
        messages.check_rows(connection, scale.rounds * count + max(100, count // 10))
    return [figure]
