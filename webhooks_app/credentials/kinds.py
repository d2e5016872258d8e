"""What does a credential of each kind consist of, and which part of it may be shown?

Pure: no database, no network. What was given comes in as plain values; what is wrong with it is
said field by field, in sentences that never quote a secret.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote_plus

from webhooks_app.credentials.certificate import BadCertificate, read_certificate
from webhooks_app.egress import EgressDenied, check_url, origin_of, target_of
from webhooks_app.models import CredentialKind
from webhooks_app.notation import origin_text

NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}"
NAME_SHAPE = "Use 1 to 80 letters, digits, '_', '.' or '-', beginning with a letter or a digit."
MAX_ORIGINS = 20
MAX_HEADERS = 20
MAX_VALUE = 4096
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
#: Visible ASCII with single spaces and tabs nowhere: the one form that every server reads alike.
_HEADER_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
#: Ours, or about one connection only (RFC 9110, 7.6.1); and all ``content-*`` and ``webhook-*``.
RESERVED = frozenset(
    {
        *("host", "accept-encoding", "user-agent", "expect", "traceparent", "tracestate"),
        *("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"),
    }
)
_RESERVED_BEGINNINGS = ("content-", "webhook-", "proxy-")
#: The parts that are given for each kind: the secret one first.
PARTS: Mapping[str, Sequence[str]] = {
    CredentialKind.HEADERS: ("headers",),
    CredentialKind.BEARER: ("token",),
    CredentialKind.BASIC: ("password", "username"),
    CredentialKind.OAUTH2: (
        *("client_secret", "client_id", "token_url", "oauth_scope", "audience", "client_auth"),
    ),
    CredentialKind.CLIENT_CERTIFICATE: ("private_key", "certificate"),
}
OPTIONAL = frozenset({"oauth_scope", "audience", "client_auth"})
#: How an OAuth 2 client names itself (RFC 6749, 2.3.1): by HTTP Basic, or in the request's body.
CLIENT_AUTHS = ("basic", "body")


class BadCredential(ValueError):
    """What was given is no credential; ``problems``: a sentence for each wrong field.

    ``missing``: those of the fields that were not given at all.
    """

    def __init__(self, problems: Mapping[str, str], missing: Collection[str] = ()) -> None:
        super().__init__(" ".join(f"{name}: {text}" for name, text in problems.items()))
        self.problems, self.missing = dict(problems), frozenset(missing)


@dataclass(frozen=True)
class Parts:
    """A checked credential: what is kept secret, and what may be shown of it."""

    values: dict[str, Any]
    details: dict[str, Any]
    expires_at: datetime | None = None


def read_parts(kind: str, given: Mapping[str, Any]) -> Parts:
    """Check the parts of a credential.

    Raises:
        BadCredential: something is missing, too much, or has not the right form.
    """
    known = PARTS[kind]
    problems: dict[str, str] = {}
    values = {name: value for name, value in given.items() if value not in (None, "", {})}
    for name in values.keys() - set(known):
        problems[name] = f"A credential of the kind {kind} has no such part."
    for name in known:
        if name not in values and name not in OPTIONAL:
            problems[name] = f"A credential of the kind {kind} needs it."
        elif name in values and (fault := _FAULTS[name](values[name])):
            problems[name] = fault
    if problems:
        raise BadCredential(problems, set(problems) - values.keys())
    if kind == CredentialKind.CLIENT_CERTIFICATE:
        return _of_certificate(values)
    details: dict[str, Any] = {name: values[name] for name in known[1:] if name in values}
    if kind == CredentialKind.HEADERS:
        details["header_names"] = sorted(values["headers"])
    if kind == CredentialKind.OAUTH2:
        values.setdefault("client_auth", CLIENT_AUTHS[0])
        details["client_auth"] = values["client_auth"]
    return Parts(values, details)


def _of_certificate(values: dict[str, Any]) -> Parts:
    try:
        read = read_certificate(values["certificate"], values["private_key"])
    except BadCertificate as bad:
        raise BadCredential({bad.part: str(bad)}) from None
    return Parts(values, read.details, read.expires_at)


def read_origins(given: Sequence[str]) -> list[str]:
    """Return the origins that these URLs name, each once, as ``scheme://host:port``.

    Raises:
        BadCredential: none, too many, one with a path, or one that may not be called.
    """
    if not 1 <= len(given) <= MAX_ORIGINS:
        raise BadCredential({"origins": f"Name 1 to {MAX_ORIGINS} origins."})
    found: dict[str, None] = {}
    for text in given:
        try:
            target = target_of(text)
        except EgressDenied as denied:
            raise BadCredential({"origins": f"{text[:100]}: {denied.message}."}) from None
        if target.path != "/":
            say = f"{text[:100]} is a URL; an origin ends behind its host or port."
            raise BadCredential({"origins": say})
        found[origin_text(*target.origin)] = None
    return list(found)


def origin_in(url: str) -> str:
    """Return the origin of a URL in the form in which a credential's are kept."""
    return origin_text(*origin_of(url))


def header_fault(name: str, value: object = "x") -> str:
    """Return what is wrong with a header that a credential would set; empty if nothing is."""
    lower = name.lower()
    if not _HEADER_NAME.fullmatch(name):
        return "A header's name has 1 to 100 letters, digits and hyphens."
    if lower in RESERVED or lower.startswith(_RESERVED_BEGINNINGS):
        return f"The header {lower} is the service's own and cannot be set."
    if not isinstance(value, str):
        return f"The value of {lower} must be a string."
    if _CONTROL.search(value):
        return f"The value of {lower} has a line break, a NUL or another control character."
    if len(value) > MAX_VALUE or not _HEADER_VALUE.fullmatch(value):
        return (
            f"The value of {lower} must be 1 to {MAX_VALUE} visible ASCII characters, with spaces"
            " only in between."
        )
    return ""


def headers_of(kind: str, values: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers that a credential adds to a request, those of a token left out."""
    if kind == CredentialKind.HEADERS:
        return dict(values["headers"])
    if kind == CredentialKind.BEARER:
        return {"authorization": f"Bearer {values['token']}"}
    if kind == CredentialKind.BASIC:
        return {"authorization": basic(values["username"], values["password"])}
    return {}


def basic(name: str, password: str) -> str:
    """Return the value of an Authorization header after RFC 7617."""
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def token_request(values: Mapping[str, Any]) -> tuple[dict[str, str], bytes]:
    """Return headers and body that ask for a token: RFC 6749, section 4.4."""
    form = {"grant_type": "client_credentials"}
    form |= {"scope": values["oauth_scope"]} if "oauth_scope" in values else {}
    form |= {"audience": values["audience"]} if "audience" in values else {}
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    if values["client_auth"] == "body":
        form |= {"client_id": values["client_id"], "client_secret": values["client_secret"]}
    else:  # both are form-encoded first: RFC 6749, section 2.3.1
        pair = quote_plus(values["client_id"]), quote_plus(values["client_secret"])
        headers["Authorization"] = basic(*pair)
    body = "&".join(f"{name}={quote_plus(text)}" for name, text in form.items())
    return headers, body.encode()


def _headers_fault(given: object) -> str:
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        return "Give an object of names and values."
    if len(given) > MAX_HEADERS:
        return f"At most {MAX_HEADERS} headers."
    if len({name.lower() for name in given}) < len(given):
        return "A header is named twice."
    return next(filter(None, (header_fault(*pair) for pair in given.items())), "")


def _visible_fault(given: object) -> str:
    if not isinstance(given, str) or len(given) > MAX_VALUE or not _VISIBLE.fullmatch(given):
        return f"Must be 1 to {MAX_VALUE} visible ASCII characters, without spaces."
    return ""


def _text_fault(given: object) -> str:
    if not isinstance(given, str) or len(given) > MAX_VALUE:
        return f"Must be a string of at most {MAX_VALUE} characters."
    if _CONTROL.search(given):
        return "May not contain line breaks, NUL or other control characters."
    return ""


def _username_fault(given: object) -> str:
    return _text_fault(given) or ("May not contain a colon." if ":" in str(given) else "")


def _url_fault(given: object) -> str:
    if not isinstance(given, str):
        return "Must be a string."
    try:
        check_url(given)
    except EgressDenied as denied:
        return f"{denied.message[:1].upper()}{denied.message[1:]}."
    return ""


def _client_auth_fault(given: object) -> str:
    return "" if given in CLIENT_AUTHS else f"Must be one of: {', '.join(CLIENT_AUTHS)}."


def _pem_fault(given: object) -> str:
    return "" if isinstance(given, str) else "Must be PEM text."


_FAULTS: Mapping[str, Callable[[object], str]] = {
    "headers": _headers_fault,
    "token": _visible_fault,
    "username": _username_fault,
    "password": _text_fault,
    "client_id": _text_fault,
    "client_secret": _text_fault,
    "token_url": _url_fault,
    "oauth_scope": _text_fault,
    "audience": _text_fault,
    "client_auth": _client_auth_fault,
    "certificate": _pem_fault,
    "private_key": _pem_fault,
}
