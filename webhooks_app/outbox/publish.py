"""Who is owed the news? Events and messages are written here, inside the caller's transaction.

Nothing is sent here: `claim.py` has what the engine reads and writes afterwards.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

import orjson
from django.db import connection

from webhooks_app.crash_points import faultpoint
from webhooks_app.egress import origin_of
from webhooks_app.log import get_logger
from webhooks_app.models import WAITS_FOR_PREDECESSOR, WebhookEndpoint, WebhookEvent
from webhooks_app.notation import EVENT_ID_PREFIX
from webhooks_app.outbox.auth import nearest
from webhooks_app.outbox.order import Turn, release_now, turns
from webhooks_app.outbox.stop import supersede
from webhooks_app.outbox.subscribers import held_endpoints, subscribers
from webhooks_app.retry import Policy, resolve_policy

logger = get_logger(__name__)

CHANNEL = "webhooks"


@dataclass(frozen=True, slots=True)
class Target:
    """One URL that an event is owed to.

    ``policy`` is a name, a list of waits or None; ``callback_auth`` a credential's name.
    """

    url: str
    policy: str | Sequence[float] | None = None
    endpoint: WebhookEndpoint | None = None
    callback_auth: str = ""


_DESTINATION = """
WITH inserted AS (
  INSERT INTO webhooks_app_webhookdestination
    (scope, scheme, host, port, hold_reason, disabled_reason, breaker_state, failing_messages,
     created_at)
  SELECT %(scope)s, %(scheme)s, %(host)s, %(port)s, '', '', 'closed', 0, now()
  WHERE NOT EXISTS (
    SELECT 1 FROM webhooks_app_webhookdestination
    WHERE scope = %(scope)s AND scheme = %(scheme)s AND host = %(host)s AND port = %(port)s)
  ON CONFLICT DO NOTHING RETURNING id, false AS is_disabled
)
SELECT id, is_disabled FROM inserted
UNION ALL
SELECT id, disabled_at IS NOT NULL FROM webhooks_app_webhookdestination
WHERE scope = %(scope)s AND scheme = %(scheme)s AND host = %(host)s AND port = %(port)s
LIMIT 1
"""

_EVENT = """
INSERT INTO webhooks_app_webhookevent
  (event_id, scope, subject, sequence, event_type, body, is_terminal, request_id,
   traceparent, metadata, created_at)
VALUES (%(event_id)s, %(scope)s, %(subject)s, %(sequence)s, %(event_type)s, %(body)s,
  %(is_terminal)s, %(request_id)s, %(traceparent)s, %(metadata)s, now())
RETURNING id, created_at
"""

_MESSAGE = """
INSERT INTO webhooks_app_webhookmessage
  (event_id, url, destination_id, endpoint_id, callback_auth, status, policy, jitter, retry_step,
   interrupted_count, attempt_count, next_attempt_at, last_error_code, created_at, finished_at,
   after_id, skipped)
VALUES (%(event)s, %(url)s, %(destination)s, %(endpoint)s, %(callback_auth)s,
  CASE WHEN %(is_disabled)s THEN 'dead' ELSE 'pending' END, %(waits)s, %(jitter)s, 0, 0, 0,
  CASE WHEN %(is_disabled)s THEN NULL ELSE coalesce(%(due)s, now()) END,
  CASE WHEN %(is_disabled)s THEN 'destination_disabled' ELSE '' END, now(),
  CASE WHEN %(is_disabled)s THEN now() END, %(after_id)s, %(skipped)s)
ON CONFLICT (event_id, url) DO NOTHING
"""


def publish(
    *,
    scope: str,
    subject: str,
    sequence: int,
    event_type: str,
    body: bytes,
    is_terminal: bool = False,
    targets: Sequence[Target] = (),
    is_for_endpoints: bool = True,
    supersedes: str = "",
    request_id: str = "",
    traceparent: str = "",
    metadata: Mapping[str, str] | None = None,
    default_auth: Callable[[], Sequence[str]] | None = None,
) -> WebhookEvent:
    """Write an event and a message for every target and subscribed endpoint.

    Must run inside the transaction of whatever happened, so that all is stored or nothing.

    Args:
        is_for_endpoints: False for a test event, which goes only to its target.
        supersedes: an event type that this event makes obsolete; its pending messages are ended.
        traceparent: W3C Trace Context of what led to the event.
        metadata: what the event may be found by, beside its subject.
        default_auth: returns names of credentials, nearest first, for targets that name none; one
            that is not bound to a target's origin is not used there.
    """
    event = WebhookEvent(
        event_id=f"{EVENT_ID_PREFIX}{secrets.token_hex(16)}",  # a webhook-id has no dot
        scope=scope,
        subject=subject,
        sequence=sequence,
        event_type=event_type,
        body=body,
        is_terminal=is_terminal,
        request_id=request_id,
        traceparent=traceparent,
        metadata=metadata or None,
    )
    # Lock endpoints before messages, here and where endpoints are deleted, to avoid deadlocks.
    endpoints = held_endpoints(scope) if is_for_endpoints else []
    subscribed = [_target_of(one) for one in subscribers(endpoints, event_type, body)]
    # If an endpoint has the callback's URL, the callback wins, since it comes last here.
    owed = _with_auth(scope, [*subscribed, *reversed(targets)], default_auth)
    turn_at = _make_way(event, supersedes, owed, endpoints)
    _insert_event(event)
    _owe(event, owed, turn_at)
    return event


def _make_way(
    event: WebhookEvent,
    supersedes: str,
    owed: Mapping[str, Target],
    endpoints: Sequence[WebhookEndpoint],
) -> dict[str, Turn]:
    """End what the event makes obsolete, and return its turn by the URLs of ordered endpoints."""
    ordered = {one.url: one for one in endpoints if one.ordered}
    turn_at = turns(event, supersedes, {url: ordered[url] for url in owed if url in ordered})
    if supersedes and (ended := supersede(event.subject, supersedes)) and ordered:
        release_now(ended)
    return turn_at


def _target_of(endpoint: WebhookEndpoint) -> Target:
    return Target(endpoint.url, endpoint.retry_policy, endpoint, endpoint.callback_auth)


def _insert_event(event: WebhookEvent) -> None:
    with connection.cursor() as cursor:
        found_by = orjson.dumps(event.metadata).decode() if event.metadata else None
        cursor.execute(_EVENT, {**vars(event), "metadata": found_by})
        event.pk, event.created_at = cursor.fetchone()


def _owe(event: WebhookEvent, owed: Mapping[str, Target], turn_at: Mapping[str, Turn]) -> None:
    """Write a message for each URL."""
    # Sorted: two transactions that insert the same destinations must lock them in one order.
    for url, target in sorted(owed.items(), key=itemgetter(0)):
        _add_message(event, target, turn_at.get(url, Turn()))
    faultpoint("publish.before_wake")
    if owed:
        wake()


def _with_auth(
    scope: str, targets: list[Target], default_auth: Callable[[], Sequence[str]] | None
) -> dict[str, Target]:
    """Return the target of each URL, the last if there are several, with its credential.

    That is the nearest: its own, its endpoint's, or a default.
    """
    if all(target.callback_auth for target in targets):
        return {target.url: target for target in targets}
    defaults = default_auth() if default_auth else ()
    of_endpoints = {each.url: each.callback_auth for each in targets if each.callback_auth}
    if not defaults and not of_endpoints:
        return {target.url: target for target in targets}
    return {
        each.url: each
        if each.callback_auth
        else replace(
            each,
            callback_auth=of_endpoints.get(each.url) or nearest(scope, defaults, each.url),
        )
        for each in targets
    }


def _add_message(event: WebhookEvent, target: Target, turn: Turn) -> None:
    """Owe ``event`` to one more URL; does nothing if it already is."""
    destination_id, is_disabled = destination_of(event.scope, target.url)
    policy = _policy_of(target)
    with connection.cursor() as cursor:
        cursor.execute(
            _MESSAGE,
            {
                "event": event.pk,
                "url": target.url,
                "destination": destination_id,
                "endpoint": target.endpoint.pk if target.endpoint else None,
                "callback_auth": target.callback_auth,
                "is_disabled": is_disabled,
                "due": WAITS_FOR_PREDECESSOR if turn.after_id else None,
                "after_id": None if is_disabled else turn.after_id,
                "skipped": turn.skipped,
                # psycopg refuses a list that mixes int and float, as JSON lists do.
                "waits": [float(wait) for wait in policy.waits],
                "jitter": policy.jitter,
            },
        )


def _policy_of(target: Target) -> Policy:
    """Return the target's policy; the default if its name is no longer in the settings.

    The task was accepted under that name, so renaming a policy must not keep it from ending.
    """
    try:
        return resolve_policy(target.policy)
    except ValueError as error:
        logger.error("Retry policy is unusable, the default is used", error=str(error))
        return resolve_policy(None)


def destination_of(scope: str, url: str) -> tuple[int, bool]:
    """Return (id of the URL's destination, is it disabled); inserts it on first use."""
    scheme, host, port = origin_of(url)
    parameters: dict[str, Any] = {"scope": scope, "scheme": scheme, "host": host, "port": port}
    with connection.cursor() as cursor:
        row = None
        while row is None:  # a concurrent insert is invisible until it commits
            cursor.execute(_DESTINATION, parameters)
            row = cursor.fetchone()
    return int(row[0]), bool(row[1])


def wake() -> None:
    """Notify every engine, on commit, that a message is due."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, '')", [CHANNEL])
