"""Is a certificate valid for this host, where OpenSSL's own check is too strict?

Public authorities issue no certificate that spells out a name with an underscore, so such a host
shows a wildcard certificate. In OpenSSL a wildcard matches letters, digits and hyphens only; in
browsers and curl it matches any single label, and so it does here.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any


def check_names_here(context: ssl.SSLContext) -> None:
    """Check host names with `is_for` below; OpenSSL still verifies everything else."""
    context.check_hostname = False
    context.sslobject_class = _NameChecked


def is_for(certificate: Mapping[str, Any], host: str) -> bool:
    """Say whether one of the names in a certificate (as ``getpeercert`` gives them) matches."""
    _, _, parent = host.partition(".")
    accepted = {host, f"*.{parent}"} if "." in parent else {host}
    names = certificate.get("subjectAltName", ())
    return any(kind == "DNS" and name.lower() in accepted for kind, name in names)


class _NameChecked(ssl.SSLObject):
    """A TLS session whose handshake fails when the certificate is for another host."""

    def do_handshake(self) -> None:
        super().do_handshake()
        host = self.server_hostname
        if not host or not is_for(self.getpeercert() or {}, host):
            error = ssl.SSLCertVerificationError(1, "the certificate is for another host")
            error.verify_message = f"Hostname mismatch, certificate is not valid for '{host}'."
            raise error
