"""Which credentials does a project have, and how are their secrets kept?

Encrypted at rest with the keys of the signing secrets. The ciphertext also holds the project, the
name, the kind and the origins: a row that somebody copied, renamed or bound to another origin in
the database is not used. This module never logs or raises a secret.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from django.db import transaction
from django.utils import timezone

from webhooks_app.credentials.kinds import Parts
from webhooks_app.database import DatabaseThread
from webhooks_app.models import Credential
from webhooks_app.signing.store import FRESH_SECONDS, UnreadableSecret, decrypt, encrypt

#: A warning comes so long before a client certificate ends, for so many of them.
WARN_DAYS = 30
MOST_WARNED = 100


class Unusable(Exception):
    """A credential cannot be used now; the text says why, and may be shown."""


class StoredCredential(NamedTuple):
    """A credential as it is used. ``values`` holds the secrets: never log it or keep it longer.

    ``version`` differs after every change, and between any two credentials.
    """

    scope: str
    name: str
    kind: str
    origins: frozenset[str]
    values: Mapping[str, Any]
    version: str


def seal(credential: Credential, parts: Parts) -> None:
    """Put the parts into a row that has its scope, name, kind and origins; saving is up to you."""
    credential.details = parts.details
    credential.expires_at = parts.expires_at
    kept = [credential.kind, credential.origins, parts.values]
    credential.ciphertext = encrypt(json.dumps(kept), _owner(credential))


def unseal(credential: Credential) -> dict[str, Any]:
    """Return the parts of a stored credential, the secret ones included.

    Raises:
        UnreadableSecret: the keys do not fit, or the row was changed by another hand.
    """
    kind, origins, values = json.loads(_plain(credential))
    if kind != credential.kind or origins != credential.origins:
        raise UnreadableSecret(
            f"the stored credential {credential.name!r} of {credential.scope!r} was changed without"
            " this program"
        )
    return dict(values)


def _plain(credential: Credential) -> str:
    try:
        return decrypt(credential.ciphertext, _owner(credential))
    except UnreadableSecret as error:
        text = str(error).replace("a stored signing secret", f"the credential {credential}")
        raise UnreadableSecret(text) from None


def _owner(credential: Credential) -> str:
    # No project's id has a colon, so no signing secret can pass for a credential.
    return f"credential:{credential.scope}:{credential.name}"


def read(scope: str, name: str) -> StoredCredential:
    """Return a credential by its name.

    Raises:
        Unusable: the project has none of that name, or it cannot be decrypted.
    """
    row = Credential.objects.filter(scope=scope, name=name).first()
    if row is None:
        raise Unusable(f"there is no credential {name!r}")
    return opened(row)


def opened(row: Credential) -> StoredCredential:
    """Return a row as it is used; raises Unusable."""
    try:
        values = unseal(row)
    except UnreadableSecret:
        raise Unusable(
            f"the stored credential {row.name!r} cannot be decrypted with the configured keys"
        ) from None
    version = f"{row.pk.hex}.{row.version}"
    return StoredCredential(row.scope, row.name, row.kind, frozenset(row.origins), values, version)


def reencrypt_all(batch: int = 200) -> Iterable[int]:
    """Encrypt every credential with the newest key; yield the rows done after each batch.

    Raises:
        UnreadableSecret: one cannot be read; those before it are done.
    """
    last_id = None
    while True:
        with transaction.atomic():
            later = Credential.objects.select_for_update().order_by("id")
            rows = list((later if last_id is None else later.filter(id__gt=last_id))[:batch])
            for row in rows:
                row.ciphertext = encrypt(_plain(row), _owner(row))
            Credential.objects.bulk_update(rows, ["ciphertext"])
        if not rows:
            return
        last_id = rows[-1].pk
        yield len(rows)


def require_readable() -> None:
    """Raise UnreadableSecret if the newest or the oldest credential cannot be decrypted."""
    rows = Credential.objects.order_by("created_at")
    for row in [*rows[:1], *rows.reverse()[:1]]:
        _plain(row)


def expiring(days: int = WARN_DAYS) -> list[Credential]:
    """Return the credentials whose certificate ends within so many days, or has ended."""
    rows = Credential.objects.filter(expires_at__lte=timezone.now() + timedelta(days=days))
    return list(rows.defer("ciphertext").order_by("expires_at")[:MOST_WARNED])


class CredentialCache:
    """The credentials of projects, without a query for each message.

    At most `FRESH_SECONDS` old; concurrent callers share one query.
    """

    def __init__(self, thread: DatabaseThread) -> None:
        #: Time of the last query, and its result.
        self._asked: dict[tuple[str, str], tuple[float, asyncio.Future[StoredCredential]]] = {}
        self._thread = thread

    async def get(self, scope: str, name: str, *, is_anew: bool = False) -> StoredCredential:
        """Return a credential, read now if ``is_anew``; raises Unusable."""
        now = time.monotonic()
        asked_at, answer = self._asked.get((scope, name), (now, None))
        if answer is None or (
            answer.done() and (is_anew or answer.exception() or now - asked_at >= FRESH_SECONDS)
        ):
            answer = self._thread.call(read, scope, name)
            self._asked[scope, name] = (now, answer)
        # Shielded: a cancelled caller must not cancel the query for the others.
        return await asyncio.shield(answer)
