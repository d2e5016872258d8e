"""P4: how long after a task's end is committed does its webhook reach an idle receiver?"""

from __future__ import annotations

import time
from statistics import quantiles
from typing import Any

from tests.bench import messages, place
from tests.bench.engines import EngineProcess
from tests.bench.receiver import ReceiverProcess
from tests.bench.report import Figure
from tests.bench.throughput import project_secret
from tests.bench.web import forget_tasks

TASK_TYPE = "image_generation"
RESULT = {
    "media_url": "https://media.example.org/still.png",
    "payload_media_id": "64f1b2c3a8d9e0f1",
}


def _claimed_task(callback_url: str) -> Any:
    from tasks_app.state import lifecycle
    from tasks_app.state.submit import Submit, submit

    submit(
        Submit(
            project_id=place.SCOPE,
            task_type=TASK_TYPE,
            task_data={"scene_data": {"prompt": "A lighthouse"}},
            callback_url=callback_url,
        )
    )
    return lifecycle.claim_next(TASK_TYPE)


def _milliseconds(receiver: ReceiverProcess, url: str, number: int) -> float:
    """End one task and return the time from its commit to the ``number``-th request."""
    from django.db import transaction

    from tasks_app.state import lifecycle

    task = _claimed_task(url)
    with transaction.atomic():
        lifecycle.complete(task, RESULT, [])
    committed_at = time.monotonic()
    return 1000 * (receiver.wait_for(number) - committed_at)


def p4(scale: place.Scale) -> list[Figure]:
    """End tasks one at a time, each after the one before has been delivered."""
    secret, rounds = project_secret(), max(2, scale.rounds)
    figures = [
        Figure("P4", f"commit to first byte, {part}", "ms", goal, is_less_better=True)
        for part, goal in (("p50", 3), ("p99", 10))
    ]
    with ReceiverProcess() as receiver, place.connect() as connection:
        messages.clear(connection)
        forget_tasks(connection)
        with EngineProcess():
            for _ in range(rounds):
                receiver.reset()
                url = receiver.urls[0]
                times = [_milliseconds(receiver, url, n + 1) for n in range(scale.idle)]
                messages.wait_until_recorded(connection, [url])
                messages.check(receiver, scale.idle, secret)
                cuts = quantiles(times, n=100, method="inclusive")
                figures[0].add(cuts[49])
                figures[1].add(cuts[98])
        messages.check_rows(connection, rounds * scale.idle)
        forget_tasks(connection)
    return figures
