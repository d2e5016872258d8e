"""What is due? The engine leases messages, and says what it saw of their destinations.

`claim` leases due messages and inserts their delivery rows in one statement; `record` writes what
came of them.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import orjson
import psycopg

from webhooks_app.functions import BY_VALUE, Function

Connection = psycopg.AsyncConnection[Any]

# In these statements every table is reached by known values: LATERAL with OFFSET 0, an array of
# ids, or BY_VALUE. So the plan does not depend on whether the tables were empty or full when it was
# made. Do not write "status = 'pending'" next to an id: the planner may then use the partial index
# and read everything that is pending. "IS NOT DISTINCT FROM" prevents that.
_CLAIM = Function(
    "webhooks_claim",
    "_token uuid, _limit int, _default_seats int, _known_seats jsonb, _lease_seconds float8,"
    " _full_scopes text[]",
    "TABLE (message_id bigint, url text, destination_id bigint, endpoint_id uuid,"
    " callback_auth text, policy float8[], jitter float8, retry_step smallint,"
    " attempt_number int, replay_id uuid,"
    " event_id text, scope text, subject text, event_type text, sequence int, body bytea,"
    " created_at timestamptz, request_id text, traceparent text, skipped text,"
    " delivery_id bigint)",
    """
WITH RECURSIVE waiting AS (
  (SELECT destination_id, next_attempt_at FROM webhooks_app_webhookmessage
   WHERE status = 'pending' ORDER BY destination_id, next_attempt_at LIMIT 1)
  UNION ALL
  SELECT following.destination_id, following.next_attempt_at FROM waiting
  CROSS JOIN LATERAL (
    SELECT destination_id, next_attempt_at FROM webhooks_app_webhookmessage
    WHERE status = 'pending' AND destination_id > waiting.destination_id
    ORDER BY destination_id, next_attempt_at LIMIT 1
  ) following
), open_destination AS MATERIALIZED (
  SELECT waiting.destination_id,
    coalesce(known.seats, least(_default_seats, destination.max_in_flight)) AS seats
  FROM waiting
  CROSS JOIN LATERAL (
    SELECT (_known_seats ->> waiting.destination_id::text)::int AS seats) known
  CROSS JOIN LATERAL (
    SELECT * FROM webhooks_app_webhookdestination WHERE id = waiting.destination_id OFFSET 0
  ) destination
  WHERE waiting.next_attempt_at <= now() AND destination.disabled_at IS NULL
    AND (destination.held_until IS NULL OR destination.held_until <= now())
    AND coalesce(known.seats, 1) > 0 AND destination.scope <> ALL(_full_scopes)
  -- What fell due at one moment, such as a replay of many, is taken from all alike.
  ORDER BY waiting.next_attempt_at, random()
), picked AS MATERIALIZED (
  SELECT due.id FROM open_destination
  CROSS JOIN LATERAL (
    SELECT id FROM webhooks_app_webhookmessage
    -- A range, not an equality: so only the index that begins with the destination gives this
    -- order, and the planner cannot walk over another destination's backlog instead.
    WHERE status = 'pending' AND lease_token IS NULL AND next_attempt_at <= now()
      AND destination_id BETWEEN open_destination.destination_id
        AND open_destination.destination_id
    ORDER BY destination_id, next_attempt_at LIMIT open_destination.seats FOR UPDATE SKIP LOCKED
  ) due
  LIMIT _limit
), leased AS (
  UPDATE webhooks_app_webhookmessage SET
    -- No column that an index knows: the new version stays on its page, and no index grows.
    lease_token = _token, attempt_count = attempt_count + 1,
    lease_expires_at = now() + make_interval(secs => _lease_seconds)
  WHERE id = ANY(ARRAY(SELECT id FROM picked))
  RETURNING id AS message_id, url, destination_id, endpoint_id, callback_auth, policy, jitter,
    retry_step, attempt_count AS attempt_number, replay_id, event_id, skipped
), loaded AS MATERIALIZED (
  SELECT leased.message_id, leased.url::text, leased.destination_id, leased.endpoint_id,
    leased.callback_auth::text, leased.policy, leased.jitter, leased.retry_step,
    leased.attempt_number, leased.replay_id,
    event.event_id::text, event.scope::text, event.subject::text, event.event_type::text,
    event.sequence, event.body, event.created_at, event.request_id::text,
    event.traceparent::text, leased.skipped::text,
    nextval('webhooks_app_webhookdelivery_id_seq') AS delivery_id
  FROM leased CROSS JOIN LATERAL (
    SELECT * FROM webhooks_app_webhookevent WHERE id = leased.event_id OFFSET 0
  ) event
), attempt AS (
  INSERT INTO webhooks_app_webhookdelivery
    (id, message_id, attempt_number, trigger, url, remote_address, request_headers, started_at,
     phases, outcome, response_headers, is_truncated, reconnected, error_code, error)
  SELECT delivery_id, message_id, attempt_number,
    CASE WHEN event_type = 'webhook.ping' THEN 'ping'
         WHEN replay_id IS NOT NULL THEN 'replay' ELSE 'scheduled' END,
    url, '', '{}', now(), '{}', 'pending', '{}', false, false, '', ''
  FROM loaded
)
SELECT * FROM loaded
""",
    only_if="SELECT FROM webhooks_app_webhookmessage WHERE status = 'pending'",
)

# Counts from the last look, not from now: a message that fell due between the claim and this look
# would be missed by both. Messages behind a hold cause one claim too many, not more.
_NEXT_DUE = Function(
    "webhooks_next_due",
    "_looked_at timestamptz",
    "TABLE (looked_at timestamptz, seconds float8)",
    """
SELECT now(), (
  SELECT extract(epoch FROM next_attempt_at - now())::float8 FROM webhooks_app_webhookmessage
  WHERE status = 'pending' AND next_attempt_at > coalesce(_looked_at, now())
  ORDER BY next_attempt_at LIMIT 1)
""",
)

_OBSERVED = Function(
    "webhooks_observe",
    "_rows json",
    "SETOF bigint",
    """
UPDATE webhooks_app_webhookdestination destination SET
  held_until = CASE WHEN seen.hold IS NULL THEN held_until
    ELSE greatest(held_until, now() + make_interval(secs => seen.hold)) END,
  hold_reason = CASE WHEN seen.hold IS NULL THEN hold_reason ELSE seen.reason END,
  breaker_state = seen.state, failing_messages = seen.failing, "window" = seen.seats,
  last_success_at = CASE WHEN seen.succeeded THEN now() ELSE last_success_at END,
  last_failure_at = CASE WHEN seen.failed THEN now() ELSE last_failure_at END
FROM json_to_recordset(_rows) AS seen(
  id bigint, hold float8, reason text, state text, failing int, seats int, succeeded bool,
  failed bool)
WHERE destination.id = seen.id
RETURNING destination.id
""",
    **BY_VALUE,
)


class Claimed(NamedTuple):
    """One leased message with all that sending needs; ``delivery_id`` is its open attempt.

    A tuple in the order of the statement's columns: a frozen dataclass takes ten times as long to
    make from a row.
    """

    message_id: int
    url: str
    destination_id: int
    endpoint_id: uuid.UUID | None
    callback_auth: str
    waits: Sequence[float]
    jitter: float
    retry_step: int
    attempt_number: int
    replay_id: uuid.UUID | None
    event_id: str
    scope: str
    subject: str
    event_type: str
    sequence: int
    body: bytes
    event_created_at: datetime
    request_id: str
    traceparent: str
    skipped: str
    delivery_id: int


async def claim(
    connection: Connection,
    *,
    token: uuid.UUID,
    limit: int,
    default_seats: int,
    known_seats: Mapping[int, int],
    lease_seconds: float,
    full_scopes: Sequence[str] = (),
) -> list[Claimed]:
    """Lease due messages, fairly across destinations, and insert their delivery rows.

    Args:
        default_seats: the most for a destination that is not in ``known_seats``.
        known_seats: free seats by destination id; 0 skips a destination.
        full_scopes: projects that are at their limit in this engine.
    """
    parameters = {
        "token": token,
        "limit": limit,
        "default_seats": default_seats,
        "known_seats": orjson.dumps(known_seats, option=orjson.OPT_NON_STR_KEYS).decode(),
        "lease_seconds": lease_seconds,
        "full_scopes": list(full_scopes),
    }
    async with connection.cursor(binary=True) as cursor:
        await cursor.execute(_CLAIM.call, parameters)
        return [Claimed._make(row) for row in await cursor.fetchall()]


async def seconds_to_next(
    connection: Connection, looked_at: datetime | None
) -> tuple[datetime, float | None]:
    """Return (time of this look, seconds until the next message is due).

    The seconds are None when no message waits, and 0 or less when one fell due since
    ``looked_at``, the last look, which came before the last claim.
    """
    async with connection.cursor() as cursor:
        await cursor.execute(_NEXT_DUE.call, {"looked_at": looked_at})
        row = await cursor.fetchone()
    assert row is not None
    return row[0], row[1]


async def observe(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write what this engine saw of its destinations, and how long each must be held."""
    await connection.execute(_OBSERVED.call, {"rows": orjson.dumps(rows).decode()})


async def operator_settings(
    connection: Connection, destination_ids: Sequence[int]
) -> list[tuple[int, int | None, bool, str]]:
    """Return (id, max_in_flight, is without a hold, reported state) of destinations."""
    async with connection.cursor() as cursor:
        await cursor.execute(
            "SELECT id, max_in_flight, held_until IS NULL, reported_state"
            " FROM webhooks_app_webhookdestination WHERE id = ANY(%s)",
            [list(destination_ids)],
        )
        return list(await cursor.fetchall())
