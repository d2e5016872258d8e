"""How does one batch of a replay become due messages? The SQL for `operators.replay`.

Skipped are messages under a valid lease, messages that are already due, and messages whose
destination is disabled. Rows are locked in the order of their ids and locked rows are skipped:
they are in flight.

What goes to another URL is a message of its own there, the copy. The original is linked to it, and
if it was given up it is `replayed` from then on: the copy is what is owed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db import connection

from webhooks_app.egress import origin_of
from webhooks_app.models import WebhookMessage
from webhooks_app.notation import LEFT_OFF, origin_text
from webhooks_app.outbox.auth import take_defaults, take_up
from webhooks_app.outbox.publish import destination_of

_TO_GO = """
  NOT (message.lease_token IS NOT NULL AND message.lease_expires_at > now())
  AND NOT (message.status = 'pending' AND message.next_attempt_at <= now())
"""

# `after_id` stays: who waits for this one still finds what this one waited for.
_RESET = """
  status = 'pending', next_attempt_at = now(), retry_step = 0, interrupted_count = 0,
  finished_at = NULL, lease_token = NULL, lease_expires_at = NULL
"""

_LOCK = f"""
SELECT message.id, message.lease_token IS NOT NULL FROM webhooks_app_webhookmessage message
JOIN webhooks_app_webhookdestination destination ON destination.id = message.destination_id
WHERE message.id = ANY(%(ids)s) AND destination.disabled_at IS NULL AND {_TO_GO}
ORDER BY message.id FOR UPDATE OF message SKIP LOCKED
"""  # noqa: S608 - built from constants of this module

# What the endpoint carries now: a credential may be why the message is replayed.
_REPLAY = f"""
UPDATE webhooks_app_webhookmessage message SET {_RESET}, replay_id = %(job)s,
  callback_auth = coalesce((
    SELECT nullif(endpoint.callback_auth, '') FROM webhooks_app_webhookendpoint endpoint
    WHERE endpoint.id = message.endpoint_id AND endpoint.url = message.url), callback_auth)
WHERE id = ANY(%(ids)s)
"""  # noqa: S608

# A late answer to an attempt whose lease expired may still overwrite this with its real outcome.
_INTERRUPT = """
UPDATE webhooks_app_webhookdelivery SET outcome = 'interrupted'
WHERE message_id = ANY(%s) AND outcome = 'pending'
"""

# What has changed its status since it was chosen is not meant any more: another replay took it.
_LOCK_SOURCES = """
SELECT id FROM webhooks_app_webhookmessage
WHERE id = ANY(%(ids)s) AND (%(status)s = '' OR status IS NOT DISTINCT FROM %(status)s)
ORDER BY id FOR UPDATE SKIP LOCKED
"""

_LOCK_TWINS = """
SELECT message.event_id FROM webhooks_app_webhookmessage message
WHERE message.url = %(url)s AND message.event_id = ANY(%(events)s)
ORDER BY message.id FOR UPDATE SKIP LOCKED
"""

# A credential goes to no origin that it is not bound to; the name is kept to say what was left off.
_AUTH = f"""
CASE WHEN source.callback_auth IN ('', '{LEFT_OFF}') OR EXISTS (
    SELECT FROM webhooks_app_credential credential
    WHERE credential.scope = event.scope AND credential.origins ? %(origin)s
      AND credential.name = ltrim(source.callback_auth, '{LEFT_OFF}'))
  THEN ltrim(source.callback_auth, '{LEFT_OFF}')
  ELSE '{LEFT_OFF}' || ltrim(source.callback_auth, '{LEFT_OFF}') END
"""

_REPLAY_TO = f"""
INSERT INTO webhooks_app_webhookmessage AS message
  (event_id, url, destination_id, callback_auth, status, policy, jitter, retry_step,
   interrupted_count, attempt_count, next_attempt_at, last_error_code, created_at, replay_id)
SELECT DISTINCT ON (source.event_id) source.event_id, %(url)s, destination.id,
  {_AUTH}, 'pending', source.policy, source.jitter, 0, 0, 0, now(), '', now(), %(job)s
FROM webhooks_app_webhookmessage source
JOIN webhooks_app_webhookevent event ON event.id = source.event_id
JOIN unnest(%(scopes)s::text[], %(destinations)s::bigint[]) AS destination(scope, id)
  ON destination.scope = event.scope
WHERE source.id = ANY(%(ids)s) AND source.event_id <> ALL(%(busy)s)
ORDER BY source.event_id, source.id
ON CONFLICT (event_id, url) DO UPDATE
  SET {_RESET}, replay_id = excluded.replay_id, replayed_as_id = NULL
  WHERE message.replay_id IS DISTINCT FROM excluded.replay_id AND {_TO_GO}
RETURNING id
"""  # noqa: S608

# Several originals of one event have one copy, also where an earlier batch made it.
_LINK = """
UPDATE webhooks_app_webhookmessage original SET
  replayed_as_id = copy.id,
  status = CASE WHEN original.status IN ('dead', 'set_aside') THEN 'replayed'
    ELSE original.status END
FROM webhooks_app_webhookmessage copy
WHERE original.id = ANY(%(ids)s) AND copy.url = %(url)s AND copy.replay_id = %(job)s
  AND copy.event_id = original.event_id AND copy.id <> original.id
"""


def replay_messages(job_id: UUID, ids: Sequence[int]) -> list[int]:
    """Make these messages due again; return the ids of those that now are."""
    with connection.cursor() as cursor:
        cursor.execute(_LOCK, {"ids": list(ids)})
        locked = cursor.fetchall()
        started = [row[0] for row in locked]
        cursor.execute(_REPLAY, {"job": job_id, "ids": started})
        _interrupt([row[0] for row in locked if row[1]])
    take_up(started)
    take_defaults(started)
    return started


def replay_messages_to(job_id: UUID, ids: Sequence[int], url: str, status: str = "") -> list[int]:
    """Owe the events of these messages to another URL; return the ids of the messages there.

    Each event goes there once per replay, however many of its messages were selected. The messages
    are linked to those there; dead letters among them become ``replayed``.

    Args:
        status: only messages that still have it; empty: whatever they have.
    """
    with connection.cursor() as cursor:
        cursor.execute(_LOCK_SOURCES, {"ids": list(ids), "status": status})
        held = [row[0] for row in cursor.fetchall()]
    of_them = WebhookMessage.objects.filter(id__in=held)
    events = dict(of_them.values_list("event_id", "event__scope"))
    found = [(scope, *destination_of(scope, url)) for scope in sorted(set(events.values()))]
    destinations = {scope: pk for scope, pk, is_disabled in found if not is_disabled}
    with connection.cursor() as cursor:
        parameters: dict[str, Any] = {
            "job": job_id,
            "ids": held,
            "url": url,
            "origin": origin_text(*origin_of(url)),
            "scopes": list(destinations),
            "destinations": list(destinations.values()),
            "busy": _busy_twins(list(events), url),
        }
        cursor.execute(_REPLAY_TO, parameters)
        started = [row[0] for row in cursor.fetchall()]
        cursor.execute(_LINK, parameters)
        _interrupt(started)
    take_up(started)
    return started


def _interrupt(ids: list[int]) -> None:
    """Close attempts whose process died before these messages were replayed."""
    if ids:
        with connection.cursor() as cursor:
            cursor.execute(_INTERRUPT, [ids])


def _busy_twins(event_ids: list[int], url: str) -> list[int]:
    """Lock these events' messages for ``url``; return the events locked by somebody else."""
    existing = WebhookMessage.objects.filter(url=url, event_id__in=event_ids)
    with connection.cursor() as cursor:
        cursor.execute(_LOCK_TWINS, {"url": url, "events": event_ids})
        locked = {row[0] for row in cursor.fetchall()}
    return [event for event in existing.values_list("event_id", flat=True) if event not in locked]
