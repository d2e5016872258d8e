"""P5: does a claim take longer after millions of messages?"""

from __future__ import annotations

import asyncio
import time
import uuid
from statistics import median
from typing import Any

from rich.console import Console

from tests.bench import messages, place
from tests.bench.report import Figure, in_turns

LONG = "bench_history"
URLS = [f"http://127.0.0.{number}:20000/hook" for number in range(1, 33)]
CLAIM = 500
CHUNK = 250_000

_FINISHED = """
WITH event AS (
  INSERT INTO webhooks_app_webhookevent
    (event_id, scope, subject, sequence, event_type, is_terminal, body, created_at, request_id)
  SELECT 'msg_' || %(chunk)s || '_' || n, 'bench', 'old-' || %(chunk)s || '-' || n, 1,
    'task.completed', true, '{}', now() - interval '2 days', ''
  FROM generate_series(1, %(count)s) n RETURNING id
)
INSERT INTO webhooks_app_webhookmessage
  (event_id, url, destination_id, status, policy, jitter, retry_step, interrupted_count,
   attempt_count, last_error_code, created_at, delivered_at, finished_at, last_status_code)
SELECT id, %(url)s, %(destination)s, 'delivered', '{1,2,4}', 0, 0, 0, 1, '',
  now() - interval '2 days', now() - interval '2 days', now() - interval '2 days', 200
FROM event
"""


def p5(scale: place.Scale) -> list[Figure]:
    """Claim from a database with a long history and from one without, in turns."""
    with place.connect() as connection:
        messages.clear(connection)
    place.copy_database(LONG)
    _fill(scale.history)
    what = f"claim of {CLAIM}, {scale.history:,} finished"
    figure = Figure("P5", what, "ms", 1.2, is_less_better=True, reference_name="none finished")

    def claim_from(name: str) -> float:
        return asyncio.run(_milliseconds(name, scale.claims))

    return [in_turns(scale.rounds, lambda: claim_from(LONG), lambda: claim_from("movies"), figure)]


def _fill(count: int) -> None:
    """Add finished messages until there are ``count``; they are kept for the next run."""
    with place.connect(LONG) as connection:
        row = connection.execute("SELECT count(*) FROM webhooks_app_webhookmessage").fetchone()
        (destination,) = messages.destination_ids(connection, URLS[:1])
        begin, console = row[0], Console()
        for done in range(begin, count, CHUNK):
            console.print(f"P5: history {done:,} of {count:,}", end="\r")
            given = {"chunk": f"{done}", "count": min(CHUNK, count - done)}
            connection.execute(_FINISHED, given | {"url": URLS[0], "destination": destination})
        if begin < count:
            connection.execute("VACUUM ANALYZE webhooks_app_webhookmessage")


async def _milliseconds(name: str, times: int) -> float:
    """Return the median time of a claim; claimed messages are removed again."""
    from webhooks_app import outbox

    found = []
    with place.connect(name) as owner:
        connection = await _connect(name)
        for _ in range(times):
            messages.owe(owner, URLS, CLAIM)
            begin = time.perf_counter()
            claimed = await outbox.claim(
                connection,
                token=uuid.uuid4(),
                limit=CLAIM,
                default_seats=20,
                known_seats={},
                lease_seconds=60,
            )
            found.append(1000 * (time.perf_counter() - begin))
            if len(claimed) != CLAIM:
                raise RuntimeError(f"claimed {len(claimed)} of {CLAIM}")
            _finish(owner, [message.message_id for message in claimed])
        await connection.close()
    return median(found)


async def _connect(name: str) -> Any:
    import psycopg

    return await psycopg.AsyncConnection.connect(
        place.database_url(name), autocommit=True, prepare_threshold=None
    )


def _finish(connection: Any, ids: list[int]) -> None:
    connection.execute(
        "UPDATE webhooks_app_webhookmessage SET status = 'delivered', next_attempt_at = NULL,"
        " lease_token = NULL, lease_expires_at = NULL, delivered_at = now(), finished_at = now()"
        " WHERE id = ANY(%s)",
        [ids],
    )
