"""What came of an attempt, and where does its message stand then?

`record` closes a batch of deliveries and updates their messages in one statement. It always closes
its own delivery row, but changes a message only while that is pending under the same lease token.
"""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from operator import attrgetter

import orjson

from webhooks_app.functions import BY_VALUE, Function
from webhooks_app.models import DeliveryOutcome, MessageStatus
from webhooks_app.outbox.claim import Claimed, Connection
from webhooks_app.retry import AttemptResult, Dead, Decision, Delivered, RetryAt

_RECORD = Function(
    "webhooks_record",
    "_rows json",
    "SETOF bigint",
    """
WITH result AS (
  SELECT * FROM json_to_recordset(_rows) AS r(
    delivery_id bigint, message_id bigint, token uuid, outcome text, remote_address text,
    request_headers jsonb, duration_ms float8, phases jsonb, response_status int,
    response_headers jsonb, response_body text, is_truncated bool, reconnected bool,
    error_code text, error text, status text, wait float8, retry_step int)
), closed AS (
  UPDATE webhooks_app_webhookdelivery delivery SET
    outcome = result.outcome, remote_address = result.remote_address,
    request_headers = result.request_headers, duration_ms = result.duration_ms,
    phases = result.phases, response_status = result.response_status,
    response_headers = result.response_headers,
    response_body = decode(result.response_body, 'base64'),
    is_truncated = result.is_truncated, reconnected = result.reconnected,
    error_code = result.error_code, error = result.error
  FROM result WHERE delivery.id = result.delivery_id
)
UPDATE webhooks_app_webhookmessage message SET
  status = result.status, retry_step = result.retry_step,
  interrupted_count = CASE WHEN result.outcome = 'interrupted'
    THEN message.interrupted_count ELSE 0 END,
  next_attempt_at = CASE WHEN result.status = 'pending' THEN
    CASE WHEN result.wait IS NULL THEN message.next_attempt_at
      ELSE now() + make_interval(secs => result.wait) END END,
  lease_token = NULL, lease_expires_at = NULL,
  last_status_code = CASE WHEN result.outcome = 'interrupted'
    THEN message.last_status_code ELSE result.response_status END,
  last_error_code = CASE WHEN result.outcome = 'interrupted'
    THEN message.last_error_code ELSE result.error_code END,
  delivered_at = CASE WHEN result.status = 'delivered' THEN now() ELSE message.delivered_at END,
  finished_at = CASE WHEN result.status <> 'pending' THEN now() END
FROM result
WHERE message.id = result.message_id AND message.lease_token = result.token
  AND message.status IS NOT DISTINCT FROM 'pending'
RETURNING message.id
""",
    **BY_VALUE,
)

# A replay was asked for by somebody: an older event that waits for one is sent nevertheless.
_SUPERSEDE_OLDER = Function(
    "webhooks_supersede_older",
    "_delivered bigint[]",
    "SETOF bigint",
    """
UPDATE webhooks_app_webhookmessage older
SET status = 'superseded', next_attempt_at = NULL, finished_at = now()
WHERE id = ANY(ARRAY(
  SELECT message.id FROM unnest(_delivered) AS given(id)
  CROSS JOIN LATERAL (
    SELECT * FROM webhooks_app_webhookmessage WHERE id = given.id OFFSET 0) delivered
  CROSS JOIN LATERAL (
    SELECT * FROM webhooks_app_webhookevent WHERE id = delivered.event_id OFFSET 0) event
  CROSS JOIN LATERAL (
    SELECT id FROM webhooks_app_webhookevent
    WHERE subject = event.subject AND sequence < event.sequence OFFSET 0) earlier
  CROSS JOIN LATERAL (
    SELECT id FROM webhooks_app_webhookmessage
    WHERE event_id = earlier.id AND url = delivered.url OFFSET 0) message
  WHERE delivered.status = 'delivered' AND event.is_terminal))
  AND status IS NOT DISTINCT FROM 'pending' AND lease_token IS NULL AND replay_id IS NULL
RETURNING older.id
""",
    **BY_VALUE,
)

# Messages that `_SUPERSEDE_OLDER` skipped because they were in flight.
_SUPERSEDE_LATE = Function(
    "webhooks_supersede_late",
    "_put_back bigint[]",
    "SETOF bigint",
    """
UPDATE webhooks_app_webhookmessage older
SET status = 'superseded', next_attempt_at = NULL, finished_at = now()
WHERE id = ANY(ARRAY(
  SELECT message.id FROM unnest(_put_back) AS given(id)
  CROSS JOIN LATERAL (
    SELECT * FROM webhooks_app_webhookmessage WHERE id = given.id OFFSET 0) message
  CROSS JOIN LATERAL (
    SELECT * FROM webhooks_app_webhookevent WHERE id = message.event_id OFFSET 0) event
  CROSS JOIN LATERAL (
    SELECT id, is_terminal FROM webhooks_app_webhookevent
    WHERE subject = event.subject AND sequence > event.sequence OFFSET 0) newer
  CROSS JOIN LATERAL (
    SELECT delivered_at FROM webhooks_app_webhookmessage
    WHERE event_id = newer.id AND url = message.url OFFSET 0) delivered
  WHERE newer.is_terminal AND delivered.delivered_at IS NOT NULL))
  AND status IS NOT DISTINCT FROM 'pending' AND lease_token IS NULL AND replay_id IS NULL
RETURNING older.id
""",
    **BY_VALUE,
)


@dataclass(kw_only=True)
class Outcome:
    """What came of one attempt, and the new state of its message.

    Never changed once made, but not frozen: that takes four times as long to make, and a tuple
    three times as long to write as JSON. The fields up to ``wait`` are those of the statement.
    """

    delivery_id: int
    message_id: int
    token: str
    outcome: DeliveryOutcome
    remote_address: str = ""
    request_headers: Mapping[str, str] = field(default_factory=dict)
    duration_ms: float | None = None
    phases: Mapping[str, float] = field(default_factory=dict)
    response_status: int | None = None
    response_headers: Mapping[str, str] = field(default_factory=dict)
    response_body: str = ""  # base64
    is_truncated: bool = False
    reconnected: bool = False
    error_code: str = ""
    error: str = ""
    status: MessageStatus
    retry_step: int
    #: Seconds until the message is due again; None while pending: it stays due since when it was.
    wait: float | None
    #: Seconds from the event to the first byte sent; None except on a first attempt.
    latency: float | None = None
    is_endpoint_gone: bool = False
    scope: str
    url: str
    sequence: int


def outcome_of(
    message: Claimed,
    token: uuid.UUID,
    headers: Mapping[str, str],
    result: AttemptResult,
    decision: Decision,
) -> Outcome:
    """Return the outcome of a finished attempt."""
    is_retried = isinstance(decision, RetryAt)
    is_held_back = isinstance(decision, RetryAt) and decision.is_held_back
    is_delivered = isinstance(decision, Delivered)
    last = MessageStatus.DELIVERED if is_delivered else MessageStatus.DEAD
    is_repeat = message.attempt_number > 1 or message.replay_id is not None
    return Outcome(
        delivery_id=message.delivery_id,
        message_id=message.message_id,
        token=str(token),
        outcome=DeliveryOutcome.FAILED if result.error_code else DeliveryOutcome.SUCCEEDED,
        remote_address=result.remote_address,
        request_headers=headers,
        duration_ms=round(result.duration_ms, 3),
        phases=result.phases,
        response_status=result.status,
        response_headers=dict(result.response_headers),
        response_body=base64.b64encode(result.response_body).decode(),
        is_truncated=result.truncated,
        reconnected=result.reconnected,
        error_code=str(result.error_code),
        error=result.error[:500],
        status=MessageStatus.PENDING if is_retried else last,
        retry_step=decision.step if isinstance(decision, RetryAt) else message.retry_step,
        wait=decision.delay if isinstance(decision, RetryAt) and not is_held_back else None,
        latency=None if is_repeat else first_byte_latency(message.event_created_at, result),
        is_endpoint_gone=isinstance(decision, Dead) and decision.is_endpoint_gone,
        scope=message.scope,
        url=message.url,
        sequence=message.sequence,
    )


def first_byte_latency(created_at: datetime, result: AttemptResult) -> float | None:
    """Return the seconds from an event to the first byte sent, None if there was no answer.

    The database's clock, which gave ``created_at``, and this machine's must agree (NTP).
    """
    if result.status is None:
        return None
    phases = result.phases
    before = phases.get("dns_ms", 0.0) + phases.get("connect_ms", 0.0)
    began = time.time() - result.duration_ms / 1000
    return max(0.0, began + before / 1000 - created_at.timestamp())


def interrupted_outcome(message: Claimed, token: uuid.UUID, wait_seconds: float = 0.0) -> Outcome:
    """Return the outcome of an attempt that this engine gave up: it uses up no retry."""
    return Outcome(
        delivery_id=message.delivery_id,
        message_id=message.message_id,
        token=str(token),
        outcome=DeliveryOutcome.INTERRUPTED,
        status=MessageStatus.PENDING,
        retry_step=message.retry_step,
        wait=wait_seconds,
        scope=message.scope,
        url=message.url,
        sequence=message.sequence,
    )


def bare_outcome(outcome: Outcome) -> Outcome:
    """Return the outcome without any data that came from outside."""
    return replace(
        outcome,
        remote_address="",
        request_headers={},
        response_headers={},
        response_body="",
        error="",
    )


async def record(connection: Connection, outcomes: Sequence[Outcome]) -> set[int]:
    """Close deliveries and update their messages; return the ids of messages that changed.

    A message that was acknowledged, superseded or leased again meanwhile is left as it is.
    """
    # Sorted by id: every writer locks messages in this order, so none can deadlock.
    in_order = sorted(outcomes, key=attrgetter("message_id"))
    payload = orjson.dumps(in_order).decode()
    async with connection.cursor() as cursor:
        await cursor.execute(_RECORD.call, {"rows": payload})
        return {row[0] for row in await cursor.fetchall()}


async def supersede_older(connection: Connection, message_ids: Sequence[int]) -> list[int]:
    """Supersede older events after a newer terminal one was delivered to the same URL.

    Returns the ids of the messages that ended so.
    """
    ended = await connection.execute(_SUPERSEDE_OLDER.call, {"delivered": list(message_ids)})
    return [row[0] for row in await ended.fetchall()]


async def supersede_late(connection: Connection, message_ids: Sequence[int]) -> list[int]:
    """Supersede messages that became pending again after a newer terminal event was delivered.

    Returns the ids of the messages that ended so.
    """
    ended = await connection.execute(_SUPERSEDE_LATE.call, {"put_back": list(message_ids)})
    return [row[0] for row in await ended.fetchall()]
