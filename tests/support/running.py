"""How does a test watch a working engine? It starts one, publishes an event and reads the rows.

Retry waits are milliseconds here; the code is the same as for seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import connection
from standardwebhooks import Webhook

from tests.support.receiver import Receiver, is_signed_by
from webhooks_app import outbox
from webhooks_app.delivery.engine import Engine
from webhooks_app.delivery.thread import EngineThread
from webhooks_app.models import SigningSecret, WebhookDelivery, WebhookEvent, WebhookMessage
from webhooks_app.signing.store import decrypt
from webhooks_app.transport import FetchResult, Transport

SCOPE = "engine_project"
SHORT_POLICY = (0.05, 0.1, 0.2)


def download(url: str, **how: Any) -> FetchResult:
    """Download with a transport of its own; takes the arguments of `Transport.fetch`."""

    async def fetch() -> FetchResult:
        async with Transport() as transport:
            return await transport.fetch(url, **how)

    return asyncio.run(fetch())


@contextmanager
def running_engine(**transport: Any) -> Iterator[EngineThread]:
    """Run an engine in a thread, as a worker process does, and check that it stops.

    Args:
        transport: arguments of `Transport`, such as a resolver or a TLS context.
    """
    thread = EngineThread(lambda: Engine(Transport(**transport)))
    thread.start()
    try:
        yield thread
    finally:
        thread.stop()
    assert not thread.is_alive, "the engine did not stop in time"
    check_signatures()


def check_signatures() -> None:
    """F16: let the ``standardwebhooks`` package verify every request since the last call.

    Any secret that exists or existed is accepted; which one it must be is tested with signing.
    """
    requests, Receiver.unchecked[:] = list(Receiver.unchecked), []
    rows = SigningSecret.objects.values_list("ciphertext", "scope") if requests else ()
    verifiers = [Webhook(decrypt(ciphertext, scope)) for ciphertext, scope in rows]
    forged = [r for r in requests if not any(is_signed_by(v, r) for v in verifiers)]
    assert forged == [], "requests went out that no secret verifies"


def publish(
    url: str,
    *,
    subject: str = "task-1",
    sequence: int = 1,
    scope: str = SCOPE,
    event_type: str = "task.completed",
    body: bytes = b'{"n":1}',
    is_terminal: bool = True,
    policy: str | Sequence[float] | None = SHORT_POLICY,
    request_id: str = "",
    callback_auth: str = "",
) -> WebhookEvent:
    """Owe one event to ``url``."""
    return outbox.publish(
        scope=scope,
        subject=subject,
        sequence=sequence,
        event_type=event_type,
        body=body,
        is_terminal=is_terminal,
        targets=[outbox.Target(url, policy, callback_auth=callback_auth)],
        request_id=request_id,
    )


def publish_many(url: str, count: int, *, prefix: str = "task", **fields: Any) -> None:
    """Owe ``count`` events of as many tasks to ``url``."""
    for number in range(count):
        publish(url, subject=f"{prefix}-{number}", **fields)


def status_of(event: WebhookEvent) -> str:
    """Return the state of the event's only message."""
    return str(event.messages.get().status)


def attempts_of(event: WebhookEvent) -> list[WebhookDelivery]:
    """Return the attempts of the event's only message, oldest first."""
    return list(event.messages.get().deliveries.order_by("attempt_number"))


def is_all_ended() -> bool:
    """Say whether no message is pending."""
    return not WebhookMessage.objects.filter(status="pending").exists()


def publish_bulk(url: str, count: int, *, scope: str = SCOPE, policy: Sequence[float] = ()) -> None:
    """Owe ``count`` events to ``url`` in one statement, as `publish` would one by one."""
    destination_id, _ = outbox.destination_of(scope, url)
    with connection.cursor() as cursor:
        cursor.execute(
            _BULK,
            {
                "scope": scope,
                "url": url,
                "count": count,
                "destination": destination_id,
                "waits": list(policy),
                "prefix": f"bulk-{destination_id}-",
            },
        )


_BULK = """
WITH event AS (
  INSERT INTO webhooks_app_webhookevent
    (event_id, scope, subject, sequence, event_type, body, is_terminal, created_at)
  SELECT 'msg_' || md5(%(prefix)s || n), %(scope)s, %(prefix)s || n, 1, 'task.completed',
    '{}'::bytea, true, now()
  FROM generate_series(1, %(count)s) n RETURNING id
)
INSERT INTO webhooks_app_webhookmessage
  (event_id, url, destination_id, status, policy, jitter, retry_step, interrupted_count,
   attempt_count, next_attempt_at, last_error_code, created_at)
SELECT id, %(url)s, %(destination)s, 'pending', %(waits)s::float8[], 0, 0, 0, 0, now(), '', now()
FROM event
"""

#: What a claim leaves if its process dies at once: an expired lease, an open delivery.
CLAIM_AND_DIE = """
WITH leased AS (
  UPDATE webhooks_app_webhookmessage SET attempt_count = attempt_count + 1,
    lease_token = gen_random_uuid(), lease_expires_at = now(), next_attempt_at = now()
  WHERE status = 'pending' AND lease_token IS NULL RETURNING id, attempt_count, url
)
INSERT INTO webhooks_app_webhookdelivery
  (message_id, attempt_number, trigger, url, remote_address, request_headers, started_at, phases,
   outcome, response_headers, is_truncated, reconnected, error_code, error)
SELECT id, attempt_count, 'scheduled', url, '', '{}', now(), '{}', 'pending', '{}', false, false,
  '', '' FROM leased
"""
