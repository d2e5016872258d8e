"""What comes back when a credential is tried out? One signed ping, sent here and now.

Unlike every other request it does not go through the outbox: the answer is for whoever asked, and
no message, destination or attempt row knows of it. It dials through the egress policy all the same.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
import time

import orjson

from webhooks_app import egress, signing
from webhooks_app.conf import webhook_settings
from webhooks_app.credentials import StoredCredential, Unusable, opened, origin_in
from webhooks_app.models import Credential
from webhooks_app.notation import EVENT_ID_PREFIX
from webhooks_app.operators import ping, record
from webhooks_app.operators.credentials import CredentialRefused, NotBound
from webhooks_app.retry import AttemptResult, ErrorCode
from webhooks_app.signing.store import current_secrets

#: Test sends at one time in one process, since each holds a thread.
MAX_AT_ONCE = 2
#: For the token and for the request, each.
SECONDS = 10.0
_free = threading.BoundedSemaphore(MAX_AT_ONCE)


class TooManyTrials(CredentialRefused):
    """Too many test sends are under way in this process."""

    code = "tests_busy"


def send_test(credential: Credential, url: str, *, actor: str, reason: str = "") -> AttemptResult:
    """Send one signed ``webhook.ping`` with the credential; return what came back, masked.

    Raises:
        NotBound: the URL's origin is none of the credential's.
        TooManyTrials: as it says; try again in a moment.
    """
    if origin_in(url) not in credential.origins:
        bound = ", ".join(credential.origins)
        raise NotBound(f"The credential is bound to {bound} and goes to no other origin.")
    if not _free.acquire(blocking=False):
        raise TooManyTrials(f"{MAX_AT_ONCE} test sends are under way already; try again soon")
    try:
        result = _result(credential, url)
    finally:
        _free.release()
    named = f"credential {credential.name} of {credential.scope}"
    came = f"status {result.status}" if result.status else result.error_code
    record.note(actor, "credential.test", f"{named}: {came}", reason, scope=credential.scope)
    return result


def _result(credential: Credential, url: str) -> AttemptResult:
    event_id, now = f"{EVENT_ID_PREFIX}{secrets.token_hex(16)}", int(time.time())
    body = orjson.dumps(ping.body(credential.scope))
    headers = {
        "content-type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": str(now),
        "webhook-signature": signing.signature_header(
            current_secrets(credential.scope),
            event_id,
            now,
            body,
            webhook_settings.ED25519_PRIVATE_KEY,
        ),
        "webhook-attempt": "1",
        "webhook-event": ping.PING,
    }
    try:
        return asyncio.run(_sent(opened(credential), url, headers, body))
    except Unusable as unusable:
        return AttemptResult(error_code=ErrorCode.CREDENTIAL, error=f"not sent: {unusable}")


async def _sent(
    credential: StoredCredential, url: str, headers: dict[str, str], body: bytes
) -> AttemptResult:
    # Here, since web processes and commands start without an HTTP client.
    from webhooks_app.credentials.use import Additions, settled
    from webhooks_app.transport import Transport

    async with Transport(proxy=egress.webhook_proxy()) as transport:
        addition = await Additions(transport).of(credential, url)
        sent = {**headers, **addition.headers}
        result = await transport.send(url, sent, body, SECONDS, addition.identity)
        return settled(addition, result)
