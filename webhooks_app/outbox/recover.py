"""What happens to messages that no attempt brings to an end?

Messages whose engine died become pending again; those that waited behind a hold for too long die.
The usual way of a message is in `claim.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from webhooks_app.functions import BY_VALUE, Function
from webhooks_app.outbox.claim import Connection

# Range and order match exactly one index, and ids come as an array: with outdated statistics the
# planner still does not read all attempts or everything that is pending. See `claim.py`.
_UNDER_WAY = """ARRAY(
  SELECT message_id FROM webhooks_app_webhookdelivery
  WHERE outcome BETWEEN 'pending' AND 'pending' ORDER BY outcome, id DESC)"""

_IF_UNDER_WAY = "SELECT FROM webhooks_app_webhookdelivery WHERE outcome = 'pending'"

# A leased message always has an open attempt: the claim writes both, recording ends both.
_EXPIRED_LEASES = Function(
    "webhooks_expired_leases",
    "",
    "TABLE (id bigint, policy float8[], jitter float8, retry_step int, in_a_row int)",
    f"""
SELECT id, policy, jitter, retry_step::int, interrupted_count + 1 FROM webhooks_app_webhookmessage
WHERE id = ANY({_UNDER_WAY}) AND status IS NOT DISTINCT FROM 'pending'
  AND lease_token IS NOT NULL AND lease_expires_at <= now()
LIMIT 500 FOR UPDATE SKIP LOCKED
""",  # noqa: S608 - texts of ours
    only_if=_IF_UNDER_WAY,
)

_RECOVER = Function(
    "webhooks_recover",
    "_rows json",
    "SETOF bigint",
    """
WITH recovered AS (
  SELECT * FROM json_to_recordset(_rows) AS r(id bigint, wait float8, step int, is_dead bool)
), closed AS (
  UPDATE webhooks_app_webhookdelivery delivery SET outcome = 'interrupted'
  FROM recovered WHERE delivery.message_id = recovered.id
    AND delivery.outcome IS NOT DISTINCT FROM 'pending'
)
UPDATE webhooks_app_webhookmessage message SET
  lease_token = NULL, lease_expires_at = NULL, interrupted_count = message.interrupted_count + 1,
  retry_step = recovered.step,
  status = CASE WHEN recovered.is_dead THEN 'dead' ELSE 'pending' END,
  next_attempt_at = CASE WHEN recovered.is_dead THEN NULL
    ELSE now() + make_interval(secs => recovered.wait) END,
  finished_at = CASE WHEN recovered.is_dead THEN now() END
FROM recovered WHERE message.id = recovered.id
RETURNING message.id
""",
    **BY_VALUE,
)

# For messages that were superseded, acknowledged or disabled during an attempt whose engine then
# died: nothing is due any more, but the attempt must not look as if it were still in flight.
_CLOSE_ENDED = Function(
    "webhooks_close_ended",
    "",
    "SETOF bigint",
    f"""
UPDATE webhooks_app_webhookdelivery SET outcome = 'interrupted'
WHERE outcome IS NOT DISTINCT FROM 'pending' AND message_id = ANY(ARRAY(
  SELECT id FROM webhooks_app_webhookmessage
  WHERE id = ANY({_UNDER_WAY}) AND status IS DISTINCT FROM 'pending'
    AND (lease_expires_at IS NULL OR lease_expires_at <= now())))
RETURNING id
""",  # noqa: S608 - texts of ours
    only_if=_IF_UNDER_WAY,
)

_EXPIRE_HELD = Function(
    "webhooks_expire_held",
    "_max_wait_seconds float8",
    "SETOF bigint",
    """
UPDATE webhooks_app_webhookmessage SET status = 'dead', next_attempt_at = NULL,
  finished_at = now(), last_error_code = 'expired'
WHERE id = ANY(ARRAY(
  SELECT waiting.id FROM webhooks_app_webhookdestination destination
  CROSS JOIN LATERAL (
    SELECT id FROM webhooks_app_webhookmessage
    WHERE status = 'pending' AND lease_token IS NULL
      AND next_attempt_at < now() - make_interval(secs => _max_wait_seconds)
      AND destination_id BETWEEN destination.id AND destination.id
    ORDER BY destination_id, next_attempt_at LIMIT 500 FOR UPDATE SKIP LOCKED
  ) waiting
  WHERE destination.held_until > now()
  LIMIT 500))
RETURNING id
""",
)

_DEAD_LETTERS = """
SELECT message.url, event.subject, event.event_id, event.request_id, event.traceparent
FROM webhooks_app_webhookmessage message
JOIN webhooks_app_webhookevent event ON event.id = message.event_id
WHERE message.id = ANY(%s) AND message.status = 'dead'
"""


async def expired_leases(connection: Connection) -> list[tuple[int, list[float], float, int, int]]:
    """Lock messages whose engine died: (id, waits, jitter, step, interruptions in a row)."""
    async with connection.cursor() as cursor:
        await cursor.execute(_EXPIRED_LEASES.call)
        return list(await cursor.fetchall())


async def recover(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Mark the open deliveries of these messages interrupted and make the messages pending."""
    await connection.execute(_RECOVER.call, {"rows": orjson.dumps(rows).decode()})


async def close_ended(connection: Connection) -> int:
    """Close attempts of dead engines whose messages have ended meanwhile; return how many."""
    async with connection.cursor() as cursor:
        await cursor.execute(_CLOSE_ENDED.call)
        return cursor.rowcount


async def expire_held(connection: Connection, max_wait_seconds: float) -> list[int]:
    """End messages that waited behind a breaker or a pause for too long; return their ids."""
    async with connection.cursor() as cursor:
        await cursor.execute(_EXPIRE_HELD.call, {"max_wait_seconds": max_wait_seconds})
        return [row[0] for row in await cursor.fetchall()]


async def dead_letters(
    connection: Connection, message_ids: Sequence[int]
) -> list[tuple[str, str, str, str, str]]:
    """Return (url, subject, event id, request id, trace) of the dead ones, for their log lines."""
    async with connection.cursor() as cursor:
        await cursor.execute(_DEAD_LETTERS, [list(message_ids)])
        return list(await cursor.fetchall())
