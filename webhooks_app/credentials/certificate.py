"""Is this a client certificate with its key, and how does a TLS handshake get it?"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from webhooks_app.notation import rfc3339
from webhooks_app.shown import printable

MAX_PEM = 64_000


class BadCertificate(ValueError):
    """``part`` is ``certificate`` or ``private_key``; the text says what is wrong with it."""

    def __init__(self, part: str, text: str) -> None:
        super().__init__(text)
        self.part = part


@dataclass(frozen=True)
class ReadCertificate:
    """What may be shown of a certificate, and when the first of its chain ends."""

    details: dict[str, Any]
    expires_at: datetime


def read_certificate(certificate: str, private_key: str) -> ReadCertificate:
    """Check a chain and its key, both PEM; the client's own certificate comes first.

    Raises:
        BadCertificate: not PEM, an encrypted key, a key of another certificate, or one that ended.
    """
    if len(certificate) > MAX_PEM or len(private_key) > MAX_PEM:
        part = "certificate" if len(certificate) > MAX_PEM else "private_key"
        raise BadCertificate(part, f"At most {MAX_PEM} characters.")
    try:
        chain = x509.load_pem_x509_certificates(certificate.encode())
    except ValueError:
        text = "This is no PEM certificate; it begins with -----BEGIN CERTIFICATE-----."
        raise BadCertificate("certificate", text) from None
    own = chain[0]
    if _public_bytes(_private_key(private_key)) != _public_bytes(own):
        raise BadCertificate(
            "private_key",
            "The key is not that of the first certificate; the client's own one comes first.",
        )
    if own.not_valid_after_utc <= datetime.now(UTC):
        text = f"The certificate ended on {rfc3339(own.not_valid_after_utc)}."
        raise BadCertificate("certificate", text)
    _try_out(certificate, private_key)
    details = {
        "subject": printable(own.subject.rfc4514_string(), 500),
        "issuer": printable(own.issuer.rfc4514_string(), 500),
        "serial_number": f"{own.serial_number:x}",
        "sha256": own.fingerprint(hashes.SHA256()).hex(),
        "not_before": rfc3339(own.not_valid_before_utc),
        "not_after": rfc3339(own.not_valid_after_utc),
        "chain_length": len(chain),
    }
    # A chain fails with whichever of its certificates ends first.
    return ReadCertificate(details, min(each.not_valid_after_utc for each in chain))


def _private_key(text: str) -> Any:
    try:
        return load_pem_private_key(text.encode(), password=None)
    except TypeError:
        raise BadCertificate(
            "private_key",
            "The key is encrypted with a passphrase. Give it without one, as in `openssl pkey -in"
            " key.pem -out plain.pem`; it is stored encrypted.",
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        text = "This is no PEM private key; it begins with -----BEGIN PRIVATE KEY-----."
        raise BadCertificate("private_key", text) from None


def _public_bytes(owner: Any) -> bytes:
    key = owner.public_key()
    return bytes(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def _try_out(certificate: str, private_key: str) -> None:
    try:
        load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), certificate, private_key)
    except ssl.SSLError as error:  # for example a key that is too short
        reason = printable(str(error.reason or "unknown").lower().replace("_", " "), 100)
        raise BadCertificate("certificate", f"OpenSSL does not take it: {reason}.") from None


def load_into(context: ssl.SSLContext, certificate: str, private_key: str) -> None:
    """Make a client context show this certificate where a server asks for one.

    Raises:
        ssl.SSLError: OpenSSL does not take them.
    """
    # Python reads a chain only from a file: this one is in memory, and gone when it is closed.
    number = os.memfd_create("certificate", os.MFD_CLOEXEC)
    with os.fdopen(number, "wb") as file:
        file.write(f"{private_key.strip()}\n{certificate.strip()}\n".encode())
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{number}")
