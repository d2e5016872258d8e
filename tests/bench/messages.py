"""How do messages become due in a benchmark, and how is their delivery checked?

A delivery counts only when the receiver has it and the row says so.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from tests.bench import place
from tests.bench.receiver import ReceiverProcess

#: A task.completed payload of ordinary size: 1 KB.
BODY = b'{"event":"task.completed","data":"' + b"x" * 988 + b'"}'

_INSERT = """
WITH event AS (
  INSERT INTO webhooks_app_webhookevent
    (event_id, scope, subject, sequence, event_type, is_terminal, body, created_at)
  SELECT 'msg_' || replace(gen_random_uuid()::text, '-', ''), %(scope)s, gen_random_uuid()::text,
    1, 'task.completed', true, %(body)s, now()
  FROM generate_series(1, %(count)s) RETURNING id
), numbered AS (SELECT id, 1 + (row_number() OVER () - 1) %% %(kinds)s AS kind FROM event)
INSERT INTO webhooks_app_webhookmessage
  (event_id, url, destination_id, status, policy, jitter, retry_step, interrupted_count,
   attempt_count, next_attempt_at, last_error_code, created_at)
SELECT id, (%(urls)s::text[])[kind], (%(destinations)s::bigint[])[kind], 'pending',
  %(waits)s, 0, 0, 0, 0, now(), '', now() FROM numbered
"""

_TABLES = """
TRUNCATE webhooks_app_webhookevent, webhooks_app_webhookmessage, webhooks_app_webhookdelivery,
  webhooks_app_webhookdestination CASCADE
"""


def destination_ids(connection: Any, urls: Sequence[str]) -> list[int]:
    """Return the destination of each URL, made on first use."""
    from webhooks_app.egress import origin_of

    ids = []
    for url in urls:
        scheme, host, port = origin_of(url)
        row = connection.execute(
            "INSERT INTO webhooks_app_webhookdestination (scope, scheme, host, port, hold_reason,"
            " disabled_reason, breaker_state, failing_messages, created_at)"
            " VALUES (%s, %s, %s, %s, '', '', 'closed', 0, now())"
            " ON CONFLICT (scope, scheme, host, port) DO UPDATE SET host = excluded.host"
            " RETURNING id",
            [place.SCOPE, scheme, host, port],
        ).fetchone()
        ids.append(int(row[0]))
    return ids


def owe(
    connection: Any,
    urls: Sequence[str],
    count: int,
    *,
    body: bytes = BODY,
    waits: Sequence[float] = (1, 2, 4),
) -> float:
    """Make ``count`` messages due, spread evenly; return when that was committed (monotonic)."""
    ids = destination_ids(connection, urls)
    with connection.transaction():
        connection.execute(
            _INSERT,
            {
                "scope": place.SCOPE,
                "body": body,
                "count": count,
                "kinds": len(urls),
                "urls": list(urls),
                "destinations": ids,
                "waits": list(waits),
            },
        )
        connection.execute("SELECT pg_notify('webhooks', '')")
    return time.monotonic()


def clear(connection: Any) -> None:
    """Delete every message, and run ANALYZE."""
    connection.execute(_TABLES)
    connection.execute("ANALYZE")


def wait_until_recorded(connection: Any, urls: Sequence[str], timeout: float = 120.0) -> float:
    """Wait until no message to these URLs is pending; return when that was seen (monotonic)."""
    ids = destination_ids(connection, urls)
    deadline = time.monotonic() + timeout
    statement = (
        "SELECT EXISTS (SELECT 1 FROM webhooks_app_webhookmessage"
        " WHERE status = 'pending' AND destination_id = ANY(%s))"
    )
    while connection.execute(statement, [ids]).fetchone()[0]:
        if time.monotonic() > deadline:
            raise RuntimeError("messages stay pending")
        time.sleep(0.005)
    return time.monotonic()


def deliver_all(
    connection: Any, receiver: ReceiverProcess, urls: Sequence[str], count: int, secret: str
) -> float:
    """Publish ``count`` messages to a running engine; return deliveries per second, verified."""
    receiver.reset()
    begin = owe(connection, urls, count)
    receiver.wait_for(count)
    end = wait_until_recorded(connection, urls)
    check(receiver, count, secret)
    return count / (end - begin)


def check(receiver: ReceiverProcess, count: int, secret: str) -> dict[str, Any]:
    """Compare the receiver's requests with what was published: each once, each signed."""
    report = receiver.report(secret)
    found = (report["requests"], report["distinct"], report["verified"])
    if found != (count, count, count):
        raise RuntimeError(f"requests, distinct, verified: {found}, owed {count}")
    return report


def check_rows(connection: Any, count: int) -> None:
    """Compare the rows with what was published: delivered, with one successful attempt each."""
    row = connection.execute(
        "SELECT (SELECT count(*) FROM webhooks_app_webhookmessage WHERE status = 'delivered'),"
        " (SELECT count(*) FROM webhooks_app_webhookdelivery WHERE outcome = 'succeeded'),"
        " (SELECT count(*) FROM webhooks_app_webhookdelivery)"
    ).fetchone()
    if tuple(row) != (count, count, count):
        raise RuntimeError(f"delivered, succeeded, attempts: {tuple(row)}, owed {count}")
