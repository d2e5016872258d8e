"""Is a certificate for this host, where OpenSSL says no too soon?

Public authorities issue certificates for no name with an underscore, so that such a host always
shows one for a wildcard. OpenSSL lets a wildcard stand for letters, digits and hyphens only;
browsers and curl let it stand for any one label, and so does this.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any


def check_names_here(context: ssl.SSLContext) -> None:
    """Let the rule below say whether a certificate is for the host; OpenSSL judges all else."""
    context.check_hostname = False
    context.sslobject_class = _NameChecked


def is_for(certificate: Mapping[str, Any], host: str) -> bool:
    """Say whether one of the certificate's names, as ``getpeercert`` gives them, is the host's."""
    _, _, parent = host.partition(".")
    accepted = {host, f"*.{parent}"} if "." in parent else {host}
    names = certificate.get("subjectAltName", ())
    return any(kind == "DNS" and name.lower() in accepted for kind, name in names)


class _NameChecked(ssl.SSLObject):
    """One end of TLS whose handshake fails when the certificate is for another host."""

    def do_handshake(self) -> None:
        super().do_handshake()
        host = self.server_hostname
        if not host or not is_for(self.getpeercert() or {}, host):
            error = ssl.SSLCertVerificationError(1, "the certificate is for another host")
            error.verify_message = f"Hostname mismatch, certificate is not valid for '{host}'."
            raise error
