"""Which certificates do the TLS tests need? Made in memory, valid or wrong in one respect."""

import datetime
import ssl
import warnings
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOST = "receiver.example.net"
KINDS = ("valid", "expired", "self_signed", "wrong_name", "old_tls")


@lru_cache(maxsize=1)
def authority():
    """Return (key, certificate) of the authority that a test's client trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key, _certificate(key, "Test Authority", key, None)


@lru_cache
def server_context(kind="valid", name=HOST):
    """Return the server side of TLS with a certificate of that kind for that name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if kind == "old_tls":
        _allow_only_tls_1_1(context)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "server.pem"
        path.write_bytes(server_pem(kind, name))
        context.load_cert_chain(path)
    return context


def server_pem(kind, host):
    """Return the key and the certificate of a server of that name, of that kind."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = "other.example.net" if kind == "wrong_name" else host
    if kind == "self_signed":
        return _pem(key, _certificate(key, name, key, None))
    issuer_key, issuer = authority()
    return _pem(key, _certificate(key, name, issuer_key, issuer, is_expired=kind == "expired"))


def authority_pem():
    """Return the certificate of the authority, for a file that a program is told to trust."""
    return authority()[1].public_bytes(serialization.Encoding.PEM)


def files_for(name):
    """Return a key, a certificate of the authority for that name, and the authority's, as PEM."""
    content = server_pem("valid", name)
    begin = content.index(b"-----BEGIN CERTIFICATE")
    return content[:begin], content[begin:], authority_pem()


def trust(context):
    """Make a client context trust the authority, and return it."""
    context.load_verify_locations(cadata=authority_pem().decode())
    return context


def _allow_only_tls_1_1(context):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # outdated on purpose
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")


def _certificate(key, name, issuer_key, issuer, *, is_expired=False):
    now = datetime.datetime.now(datetime.UTC)
    days = datetime.timedelta(days=1)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 3 * days)
        .not_valid_after(now - days if is_expired else now + days)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    names = [x509.DNSName(name.replace(" ", "-").lower())]
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _pem(key, certificate):
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ) + certificate.public_bytes(serialization.Encoding.PEM)
