"""Which secrets sign a project's webhooks, and how are they kept?

Secrets must be recoverable, since they sign every request, so they are encrypted at rest
(Fernet): a dump of the database holds no usable one. The scope lies inside the plaintext and is
checked on reading, so that a row copied to another project signs nothing there. Signing itself
is `signing`; this module never logs or raises a secret.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import Error, connection, transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Least, Now

from webhooks_app.conf import webhook_settings
from webhooks_app.database import DatabaseThread
from webhooks_app.log import get_logger
from webhooks_app.models import SigningSecret, WebhookEndpoint
from webhooks_app.signing.scheme import generate_secret

logger = get_logger(__name__)

OVERLAP_SECONDS = 86_400.0
#: How long a `SecretCache` uses what it read; much less than the overlap of a rotation.
FRESH_SECONDS = 5.0
# Every overlapping secret adds a signature, and receivers limit a header's length: keep the newest.
MAX_OVERLAPPING = 3
_LIVES = Q(expires_at__isnull=True) | Q(expires_at__gt=Now())


class UnreadableSecret(ImproperlyConfigured):
    """A stored secret cannot be decrypted with the configured keys, or is another project's."""


class LivingSecret(NamedTuple):
    """A secret that signs now: until ``expires_at``, or as the current one (None)."""

    secret: str
    expires_at: datetime | None


def encrypt(secret: str, scope: str) -> bytes:
    """Return the ciphertext of a secret with its scope, encrypted with the newest key."""
    return _fernet().encrypt(json.dumps([scope, secret]).encode())


def decrypt(ciphertext: bytes | memoryview, scope: str) -> str:
    """Decrypt one secret; raises UnreadableSecret for a wrong key or another scope's secret."""
    try:
        plaintext = _fernet().decrypt(bytes(ciphertext))
    except InvalidToken:
        raise UnreadableSecret(
            "a stored signing secret cannot be decrypted: WEBHOOKS['SECRET_KEYS'] (or "
            "SECRET_KEY, where it is unset) lacks the key it was encrypted with. Add the old key "
            "behind the new one, start again, then run `manage.py rotate_secret_keys`."
        ) from None
    owner, secret = json.loads(plaintext)
    if owner != scope:
        raise UnreadableSecret(f"a stored signing secret of {scope!r} was made for another scope")
    return str(secret)


def current_secrets(scope: str, endpoint_id: UUID | None = None) -> list[str]:
    """Return the secrets that sign now, newest first; the overlapping ones follow the current.

    An endpoint without a secret of its own is signed by its project's. The first use makes one.
    One indexed query as a rule; callers on a hot path keep the answer for a few seconds.
    """
    return [found.secret for found in living_secrets(scope, endpoint_id)]


def living_secrets(scope: str, endpoint_id: UUID | None = None) -> list[LivingSecret]:
    """Return the same as `current_secrets`, each with its expiry."""
    found = _read(scope, endpoint_id)
    if not found and endpoint_id is not None:
        return living_secrets(scope)
    return _with_current(found, scope, endpoint_id)


def get_or_create(scope: str, endpoint_id: UUID | None = None) -> str:
    """Return the current secret of a scope (or of one endpoint), making it on first use."""
    return _with_current(_read(scope, endpoint_id), scope, endpoint_id)[0].secret


def _with_current(
    found: list[LivingSecret], scope: str, endpoint_id: UUID | None
) -> list[LivingSecret]:
    if found and found[0].expires_at is None:
        return found
    _insert(scope, endpoint_id)
    return _read(scope, endpoint_id)


def rotate(
    scope: str,
    overlap_seconds: float = OVERLAP_SECONDS,
    endpoint_id: UUID | None = None,
) -> str:
    """Make a new current secret; the previous one also signs for ``overlap_seconds``.

    Concurrent rotations wait for each other. With 0 all old secrets stop signing at once, including
    older overlapping ones, for use after a leak.
    """
    with transaction.atomic():
        _hold(endpoint_id)
        with connection.cursor() as cursor:
            name = f"webhook secret {scope} {endpoint_id or ''}"
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [name])
        ending = Now() + timedelta(seconds=overlap_seconds)
        living = _living(scope, endpoint_id)
        # Least ignores NULL in PostgreSQL: the current secret gets this expiry, and others keep an
        # earlier one.
        living.update(expires_at=Least(F("expires_at"), ending))
        kept = list(living.order_by("-id").values_list("id", flat=True)[: MAX_OVERLAPPING - 1])
        living.exclude(id__in=kept).update(expires_at=Now())
        _insert(scope, endpoint_id)
        return _read(scope, endpoint_id)[0].secret


def reencrypt_all(batch: int = 200) -> Iterable[int]:
    """Encrypt every stored secret with the newest key; yield the rows done after each batch."""
    last_id = 0
    while True:
        with transaction.atomic():
            later = SigningSecret.objects.select_for_update().filter(id__gt=last_id)
            rows = list(later.order_by("id")[:batch])
            for row in rows:
                row.ciphertext = encrypt(decrypt(row.ciphertext, row.scope), row.scope)
            SigningSecret.objects.bulk_update(rows, ["ciphertext"])
        if not rows:
            return
        last_id = rows[-1].id
        yield len(rows)


def require_readable() -> None:
    """Raise UnreadableSecret, which says what to do, if a valid secret cannot be decrypted.

    Tries the newest and the oldest: after an incomplete change of keys one of them fails.
    """
    living = SigningSecret.objects.filter(_LIVES)
    for row in [*living.order_by("id")[:1], *living.order_by("-id")[:1]]:
        decrypt(row.ciphertext, row.scope)


def require_readable_at_boot() -> None:
    """Call `require_readable`, if the database answers, and leave no connection open."""
    try:
        require_readable()
    except Error as error:
        logger.warning("Stored secrets were not checked", error=type(error).__name__)
    finally:
        connection.close()


def _read(scope: str, endpoint_id: UUID | None) -> list[LivingSecret]:
    rows = _living(scope, endpoint_id).order_by(F("expires_at").desc(nulls_first=True), "-id")
    return [LivingSecret(decrypt(row.ciphertext, scope), row.expires_at) for row in rows]


def _living(scope: str, endpoint_id: UUID | None) -> QuerySet[SigningSecret]:
    return SigningSecret.objects.filter(_LIVES, scope=scope, endpoint_id=endpoint_id)


def _insert(scope: str, endpoint_id: UUID | None) -> None:
    """Insert a new current secret; if another process was first, its secret is kept."""
    ciphertext = encrypt(generate_secret(), scope)
    row = SigningSecret(scope=scope, endpoint_id=endpoint_id, ciphertext=ciphertext)
    with transaction.atomic():
        _hold(endpoint_id)
        SigningSecret.objects.bulk_create([row], ignore_conflicts=True)


def _hold(endpoint_id: UUID | None) -> None:
    """Lock an endpoint against deletion in this transaction; raises DoesNotExist."""
    if endpoint_id is not None:
        WebhookEndpoint.objects.select_for_update(no_key=True).get(pk=endpoint_id)


def _fernet() -> MultiFernet:
    fallbacks = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
    return _multi_fernet(tuple(webhook_settings.SECRET_KEYS), fallbacks)


@lru_cache(maxsize=8)
def _multi_fernet(keys: tuple[str, ...], fallbacks: tuple[str, ...]) -> MultiFernet:
    """Build the cipher: it encrypts with the first key and decrypts with any.

    Keys derived from SECRET_KEY remain as the last ones, so that setting SECRET_KEYS on a
    running installation loses nothing.
    """
    try:
        configured = [Fernet(key) for key in keys]
    except ValueError:
        raise ImproperlyConfigured(
            "WEBHOOKS['SECRET_KEYS']: each key is 32 random bytes in URL-safe base64; make one "
            "with `python -c 'from cryptography.fernet import Fernet; "
            "print(Fernet.generate_key().decode())'`"
        ) from None
    for key in fallbacks:
        derivation = HKDF(SHA256(), length=32, salt=None, info=b"webhook signing secrets at rest")
        derived = base64.urlsafe_b64encode(derivation.derive(key.encode()))
        configured.append(Fernet(derived))
    return MultiFernet(configured)


class SecretCache:
    """The secrets of a scope and endpoint, without a query for each message.

    At most `FRESH_SECONDS` old; concurrent callers share one query.
    """

    def __init__(self) -> None:
        #: Time of the last query, and its result.
        self._asked: dict[tuple[str, UUID | None], tuple[float, asyncio.Future[list[str]]]] = {}
        self._thread = DatabaseThread("secrets")

    async def get(self, scope: str, endpoint_id: UUID | None) -> list[str]:
        """Return the secrets that sign now, newest first; the first is made on first use."""
        now = time.monotonic()
        asked_at, answer = self._asked.get((scope, endpoint_id), (now, None))
        if answer is None or (
            answer.done() and (answer.exception() or now - asked_at >= FRESH_SECONDS)
        ):
            answer = self._thread.call(current_secrets, scope, endpoint_id)
            self._asked[scope, endpoint_id] = (now, answer)
        # Shielded: a cancelled caller must not cancel the query for the others.
        return await asyncio.shield(answer)

    async def close(self) -> None:
        """Close the database connection."""
        await self._thread.close()
