"""How is a webhook signed, and how is a signature checked?

The Standard Webhooks specification (standardwebhooks.com): ``v1`` is HMAC-SHA256, ``v1a`` is
Ed25519, both over the bytes ``id.timestamp.body``. Pure: where secrets are stored, rotated and
decrypted is not known here, and the body is signed as given, never parsed or built anew.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets as random_source
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SECRET_PREFIX = "whsec_"  # noqa: S105 - a prefix, not a secret
PRIVATE_PREFIX = "whsk_"
PUBLIC_PREFIX = "whpk_"
# Bounds of the specification, in bytes before base64.
SECRET_MIN_BYTES, SECRET_MAX_BYTES = 24, 64
SEED_BYTES = 32
DEFAULT_TOLERANCE_SECONDS = 300


class InvalidSecret(ValueError):
    """A signing secret or key cannot be read. The text never contains it."""


def generate_secret(size: int = 32) -> str:
    """Make a new symmetric secret, ``whsec_`` and the base64 of ``size`` random bytes (24-64)."""
    if not SECRET_MIN_BYTES <= size <= SECRET_MAX_BYTES:
        raise ValueError(f"a secret has {SECRET_MIN_BYTES} to {SECRET_MAX_BYTES} bytes")
    return SECRET_PREFIX + _b64(random_source.token_bytes(size))


def sign(secret: str, message_id: str, timestamp: int, body: bytes | str) -> str:
    """Return the ``v1,<base64>`` signature of one request.

    Args:
        secret: ``whsec_...`` or the bare base64, of 24 to 64 bytes; else raises InvalidSecret.
        message_id: the ``webhook-id``; it may not contain a dot, which separates the parts.
        timestamp: whole Unix seconds, the value of ``webhook-timestamp``.
    """
    return signature_header([secret], message_id, timestamp, body)


def signature_header(
    secrets: Iterable[str],
    message_id: str,
    timestamp: int,
    body: bytes | str,
    private_key: str = "",
) -> str:
    """Return the value of ``webhook-signature``: one signature per secret, space separated.

    During a rotation both the new and the old secret sign, so that a receiver may hold either.
    ``private_key`` (``whsk_...``) adds a ``v1a`` signature.
    """
    if "." in message_id:
        raise ValueError("a webhook-id contains no dot")
    # A bool or float would be written differently in the signed content and in the header.
    if type(timestamp) is not int:
        raise TypeError("the timestamp is whole Unix seconds (int)")
    content = b"%s.%d.%s" % (message_id.encode(), timestamp, _bytes(body))
    signatures = ["v1," + _b64(hmac.digest(_key(secret), content, "sha256")) for secret in secrets]
    if private_key:
        signatures.append("v1a," + _b64(_private_key(private_key).sign(content)))
    return " ".join(signatures)


def verify(
    secrets: str | Sequence[str],
    headers: Mapping[str, str] | tuple[str, str, str],
    body: bytes | str,
    tolerance: float | None = DEFAULT_TOLERANCE_SECONDS,
    *,
    now: float | None = None,
) -> bool:
    """Say whether a request is authentic and fresh.

    Args:
        secrets: one or several of ``whsec_...`` (symmetric) or ``whpk_...`` (public key).
        headers: the request's headers, or ``(webhook-id, webhook-timestamp, webhook-signature)``.
        tolerance: seconds that the timestamp may differ from ``now``; None checks no time.
        now: Unix time; the clock when not given.
    """
    message_id, timestamp, header = _parts(headers)
    if not (message_id and header and timestamp.isascii() and timestamp.isdigit()):
        return False
    if len(timestamp) > 15:  # int() of a very long text is slow, and no valid time is so long
        return False
    current = time.time() if now is None else now
    if tolerance is not None and abs(current - int(timestamp)) > tolerance:
        return False
    content = b".".join((message_id.encode(), timestamp.encode(), _bytes(body)))
    given = [part.partition(",") for part in header.split(" ")]
    keys = [secrets] if isinstance(secrets, str) else secrets
    return any(_matches(key, content, given) for key in keys)


def _matches(key: str, content: bytes, given: Sequence[tuple[str, str, str]]) -> bool:
    if key.startswith(PUBLIC_PREFIX):
        public = _public_key(key)
        return any(_is_ed25519(public, content, s) for version, _, s in given if version == "v1a")
    # Compared as text: another base64 spelling of the same bytes is not accepted.
    expected = _b64(hmac.digest(_key(key), content, "sha256")).encode()
    return any(
        hmac.compare_digest(expected, signature.encode(errors="replace"))
        for version, _, signature in given
        if version == "v1"
    )


def _is_ed25519(public: Ed25519PublicKey, content: bytes, signature: str) -> bool:
    try:
        public.verify(base64.b64decode(signature, validate=True), content)
    except (InvalidSignature, ValueError):  # binascii.Error is a ValueError
        return False
    return True


def _parts(headers: Mapping[str, str] | tuple[str, str, str]) -> tuple[str, str, str]:
    if isinstance(headers, tuple):
        message_id, timestamp, signature = headers
        return message_id, str(timestamp), signature
    lower = {name.lower(): value for name, value in headers.items()}
    return (
        lower.get("webhook-id", ""),
        lower.get("webhook-timestamp", ""),
        lower.get("webhook-signature", ""),
    )


def _bytes(body: bytes | str) -> bytes:
    return body.encode() if isinstance(body, str) else bytes(body)


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _decode(text: str, prefix: str) -> bytes:
    try:
        return base64.b64decode(text.removeprefix(prefix), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidSecret(f"not a {prefix}<base64> value") from None


@lru_cache(maxsize=1024)
def _key(secret: str) -> bytes:
    key = _decode(secret, SECRET_PREFIX)
    if not SECRET_MIN_BYTES <= len(key) <= SECRET_MAX_BYTES:
        raise InvalidSecret(f"a secret has {SECRET_MIN_BYTES} to {SECRET_MAX_BYTES} bytes")
    return key


# -- v1a: Ed25519 ---------------------------------------------------------------------------------


def generate_private_key() -> str:
    """Make a new Ed25519 key, ``whsk_`` and the base64 of its 32-byte seed."""
    return PRIVATE_PREFIX + _b64(Ed25519PrivateKey.generate().private_bytes_raw())


def public_key(private_key: str) -> str:
    """Return the ``whpk_...`` that verifies what ``private_key`` signs."""
    return PUBLIC_PREFIX + _b64(_private_key(private_key).public_key().public_bytes_raw())


def jwks(public_keys: Iterable[str]) -> dict[str, list[dict[str, str]]]:
    """Return the JSON Web Key Set (RFC 7517, RFC 8037) of ``whpk_...`` keys, each once."""
    return {"keys": [_jwk(key) for key in dict.fromkeys(public_keys)]}


def _jwk(public_key: str) -> dict[str, str]:
    x = _b64url(_public_key(public_key).public_bytes_raw())
    # RFC 7638: the thumbprint is over the required members alone, sorted, without spaces.
    required = {"crv": "Ed25519", "kty": "OKP", "x": x}
    canonical = json.dumps(required, separators=(",", ":"), sort_keys=True).encode()
    kid = _b64url(hashlib.sha256(canonical).digest())
    return {**required, "kid": kid, "use": "sig", "alg": "EdDSA"}


def _b64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


@lru_cache(maxsize=16)
def _private_key(text: str) -> Ed25519PrivateKey:
    raw = _decode(text, PRIVATE_PREFIX)
    if len(raw) not in (SEED_BYTES, 2 * SEED_BYTES):  # some tools store seed and public key
        raise InvalidSecret("an Ed25519 private key has 32 bytes (or 64 with its public key)")
    return Ed25519PrivateKey.from_private_bytes(raw[:SEED_BYTES])


@lru_cache(maxsize=64)
def _public_key(text: str) -> Ed25519PublicKey:
    try:
        return Ed25519PublicKey.from_public_bytes(_decode(text, PUBLIC_PREFIX))
    except ValueError:
        raise InvalidSecret("an Ed25519 public key has 32 bytes") from None
