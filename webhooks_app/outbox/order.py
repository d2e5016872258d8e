"""In which order does an endpoint get the events of one subject? One after another, where it asks.

At an ordered endpoint a message waits for the newest one before it that has not ended: that one is
its ``after_id``, and its ``next_attempt_at`` is `WAITS_FOR_PREDECESSOR`. Whoever ends messages
calls `release` (the engine) or `release_now` (everybody else) with their ids; what a crash left
waiting is found by `orphans`. A place is an endpoint, and its URL: a task's callback to that URL
is sent in the same order.

Replays ignore the order: they wait for nothing, and nothing new waits for them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from django.db import connection

from webhooks_app.functions import BY_VALUE, Function
from webhooks_app.models import WebhookEndpoint, WebhookEvent
from webhooks_app.outbox.claim import Connection

#: The most messages that one look for orphans goes through.
WALK = 1_000
_FAR = "'9999-01-01T00:00:00Z'::timestamptz"  # WAITS_FOR_PREDECESSOR
_IN_FLIGHT = "message.lease_token IS NOT NULL AND message.lease_expires_at > now()"

# What is known of a message that stands before another one. A message that was superseded or
# cancelled in the middle of its request blocks until that is over. ``gap``: the event that the
# receiver lacks if nothing after this one was sent; NULL says: ask the message before it.
_STANDS = """
  message.id, message.after_id, message.skipped::text, {blocks} AS blocks,
  CASE WHEN {dropped} THEN NULL WHEN message.delivered_at IS NOT NULL THEN ''
    ELSE event.event_id::text END AS gap
"""
# From one message to the one that it waited for, until one blocks. Read by values alone; see
# `claim.py`.
_WALK = """
  UNION ALL
  SELECT chain.place, older.id, older.after_id, older.skipped, older.blocks,
    coalesce(chain.gap, older.gap)
  FROM chain CROSS JOIN LATERAL (
    SELECT {stands} FROM (
      SELECT * FROM webhooks_app_webhookmessage WHERE id = chain.after_id OFFSET 0) message
    CROSS JOIN LATERAL (
      SELECT * FROM webhooks_app_webhookevent WHERE id = message.event_id OFFSET 0) event
  ) older
  WHERE NOT chain.blocks
), last AS (
  SELECT place, CASE WHEN blocks THEN id END AS blocker,
    CASE WHEN blocks THEN '' ELSE coalesce(gap, skipped) END AS gap
  FROM chain WHERE NOT EXISTS (
    SELECT FROM chain further WHERE further.place = chain.place AND further.id < chain.id)
)
"""

_STANDS_BEFORE = _STANDS.format(
    blocks=f"""CASE WHEN message.status = 'pending'
    THEN message.replay_id IS NULL AND (event.event_type <> _supersedes OR {_IN_FLIGHT})
    ELSE {_IN_FLIGHT} END""",
    dropped="""message.status IN ('superseded', 'cancelled')
    OR (message.status = 'pending' AND event.event_type = _supersedes)""",
)
_BEFORE = Function(
    "webhooks_before",
    "_scope text, _subject text, _urls text[], _endpoints uuid[], _supersedes text",
    "TABLE (place text, blocker bigint, gap text)",
    f"""
WITH RECURSIVE place AS (
  SELECT * FROM unnest(_urls, _endpoints) AS given(url, endpoint_id)
), chain AS (
  SELECT place.url AS place, newest.* FROM place CROSS JOIN LATERAL (
    SELECT {_STANDS_BEFORE} FROM webhooks_app_webhookevent event CROSS JOIN LATERAL (
      SELECT * FROM webhooks_app_webhookmessage WHERE event_id = event.id OFFSET 0) message
    WHERE event.subject = _subject AND event.scope = _scope
      AND (message.url = place.url OR message.endpoint_id = place.endpoint_id)
    ORDER BY event.subject DESC, event.sequence DESC LIMIT 1
  ) newest
  {_WALK.format(stands=_STANDS_BEFORE)}
SELECT last.place, last.blocker, last.gap FROM last
""",  # noqa: S608 - texts of ours
)

_STANDS_AFTER = _STANDS.format(
    blocks=f"""CASE WHEN message.status = 'pending' THEN message.replay_id IS NULL
    ELSE {_IN_FLIGHT} AND NOT (_is_over AND message.id = ANY(_ended)) END""",
    dropped="message.status IN ('superseded', 'cancelled')",
)


def _release(name: str, lock: str) -> Function:
    # The index is of what is not NULL, which an array of unknown length does not prove.
    waits = "after_id = ANY(_ended) AND after_id IS NOT NULL"
    return Function(
        name,
        "_ended bigint[], _is_over bool",
        "TABLE (message_id bigint, is_due bool)",
        f"""
WITH RECURSIVE waiting AS MATERIALIZED (
  SELECT id, after_id FROM webhooks_app_webhookmessage
  WHERE id = ANY(ARRAY(SELECT id FROM webhooks_app_webhookmessage WHERE {waits}))
    AND after_id = ANY(_ended)
  ORDER BY id {lock}
), chain AS (
  SELECT waiting.id AS place, waiting.id, waiting.after_id, '' AS skipped, false AS blocks,
    NULL::text AS gap
  FROM waiting
  {_WALK.format(stands=_STANDS_AFTER)}
UPDATE webhooks_app_webhookmessage released SET
  after_id = last.blocker, skipped = last.gap,
  next_attempt_at = CASE WHEN last.blocker IS NULL AND released.next_attempt_at >= {_FAR}
    THEN now() ELSE released.next_attempt_at END
FROM last WHERE released.id = last.place
RETURNING released.id, coalesce(released.next_attempt_at <= now(), false)
""",  # noqa: S608 - texts of ours
        only_if=f"SELECT FROM webhooks_app_webhookmessage WHERE {waits}",
        **BY_VALUE,
    )


# An engine waits for somebody who publishes after a message that it would release. It holds nothing
# else then; others do, so they leave such a message to the next look for orphans.
_RELEASE = _release("webhooks_release", "FOR UPDATE")
_RELEASE_UNLOCKED = _release("webhooks_release_unlocked", "FOR UPDATE SKIP LOCKED")

_ORPHANS = Function(
    "webhooks_orphans",
    "_beyond bigint, _walk int",
    "TABLE (last bigint, orphaned bigint[])",
    f"""
WITH walked AS MATERIALIZED (
  SELECT after_id FROM webhooks_app_webhookmessage
  WHERE after_id > _beyond ORDER BY after_id LIMIT _walk
)
SELECT CASE WHEN count(*) = _walk THEN max(walked.after_id) ELSE 0 END,
  array_agg(walked.after_id) FILTER (WHERE predecessor.id IS NULL)
FROM walked LEFT JOIN LATERAL (
  SELECT message.id FROM (
    SELECT * FROM webhooks_app_webhookmessage WHERE id = walked.after_id OFFSET 0) message
  WHERE (message.status = 'pending' AND message.replay_id IS NULL) OR ({_IN_FLIGHT})
) predecessor ON true
""",  # noqa: S608 - texts of ours
)

_LOCK = """
SELECT id FROM webhooks_app_webhookmessage WHERE id = ANY(%s || ARRAY(
  SELECT message.id FROM webhooks_app_webhookevent event
  JOIN webhooks_app_webhookmessage message ON message.event_id = event.id
  WHERE event.subject = %s AND event.event_type = %s AND message.status = 'pending'))
ORDER BY id FOR NO KEY UPDATE
"""

_LET_GO = f"""
UPDATE webhooks_app_webhookmessage SET next_attempt_at = now(), after_id = NULL
WHERE id IN (
  SELECT message.id FROM webhooks_app_webhookmessage message
  JOIN webhooks_app_webhookdestination destination ON destination.id = message.destination_id
  WHERE message.after_id IS NOT NULL AND message.status = 'pending'
    AND message.next_attempt_at >= {_FAR} AND destination.scope = %s
    AND (message.endpoint_id = %s OR message.url = %s)
  ORDER BY message.id FOR UPDATE OF message)
"""  # noqa: S608 - texts of ours


class Turn(NamedTuple):
    """When a message may go: after another one has ended, or now; ``skipped`` names a gap."""

    after_id: int | None = None
    skipped: str = ""


def turns(
    event: WebhookEvent, supersedes: str, places: Mapping[str, WebhookEndpoint]
) -> dict[str, Turn]:
    """Return the turn of a new event at each of these ordered endpoints, by their URLs.

    What has to be waited for stays locked until the transaction ends: so its end comes either
    before this look or after the new message is there. Call it before anything is superseded: all
    is locked in the order of the ids, as everywhere.
    """
    if not places:
        return {}
    found = _before(event, supersedes, places)
    while blockers := [turn.after_id for turn in found.values() if turn.after_id]:
        with connection.cursor() as cursor:
            cursor.execute(_LOCK, [blockers, event.subject, supersedes])
        before, found = found, _before(event, supersedes, places)
        if before == found:
            break
    return found


def _before(
    event: WebhookEvent, supersedes: str, places: Mapping[str, WebhookEndpoint]
) -> dict[str, Turn]:
    asked: dict[str, Any] = {
        "scope": event.scope,
        "subject": event.subject,
        "urls": list(places),
        "endpoints": [endpoint.pk for endpoint in places.values()],
        "supersedes": supersedes,
    }
    with connection.cursor() as cursor:
        cursor.execute(_BEFORE.call, asked)
        return {url: Turn(blocker, gap) for url, blocker, gap in cursor.fetchall()}


async def release(connection: Connection, ended: Collection[int], *, is_over: bool = False) -> bool:
    """Make due what waited for messages that have ended; say whether anything is due now.

    Args:
        is_over: their requests are over, too.
    """
    if not ended:
        return False
    async with connection.cursor() as cursor:
        await cursor.execute(_RELEASE.call, {"ended": list(ended), "is_over": is_over})
        return any(is_due for _, is_due in await cursor.fetchall())


async def orphans(connection: Connection, beyond: int) -> tuple[int, list[int]]:
    """Return where the next look begins, and ended messages that others still wait for.

    Args:
        beyond: what the last look returned; 0 at first.
    """
    async with connection.cursor() as cursor:
        await cursor.execute(_ORPHANS.call, {"beyond": beyond, "walk": WALK})
        row = await cursor.fetchone()
    assert row is not None
    return row[0], sorted(set(row[1] or ()))


def release_now(ended: Sequence[int]) -> bool:
    """Do what `release` does, in the caller's transaction."""
    if not ended:
        return False
    with connection.cursor() as cursor:
        cursor.execute(_RELEASE_UNLOCKED.call, {"ended": list(ended), "is_over": False})
        return any(is_due for _, is_due in cursor.fetchall())


def let_go(endpoint: WebhookEndpoint) -> int:
    """Make everything due that waits at an endpoint which is ordered no more; return how many."""
    with connection.cursor() as cursor:
        cursor.execute(_LET_GO, [endpoint.scope, endpoint.pk, endpoint.url])
        return int(cursor.rowcount)
