"""Who signs, and with what?"""

from webhooks_app.signing.scheme import (
    InvalidSecret,
    generate_private_key,
    jwks,
    public_key,
    sign,
    signature_header,
    verify,
)

__all__ = [
    "InvalidSecret",
    "generate_private_key",
    "jwks",
    "public_key",
    "sign",
    "signature_header",
    "store",
    "verify",
]
