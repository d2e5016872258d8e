"""Which texts are URLs that can be read in exactly one way?

The grammar is stricter than any RFC on purpose: parsers disagree about what the standards leave
open, and an address filter that reads a URL differently from the HTTP client can be bypassed.
Only the form of a URL is checked here; which hosts and addresses are allowed is policy.py's part.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

from yarl import URL

from webhooks_app.notation import DEFAULT_PORTS
from webhooks_app.retry import ErrorCode

MAX_URL_LENGTH = 2048


class EgressDenied(ValueError):
    """The policy refuses a URL. ``code`` is ``invalid_url`` or ``blocked_address``.

    The text may be shown to the client that gave the URL: it names the rule, never an address
    that a name resolved to.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Origin(NamedTuple):
    """Scheme, host (lower case, IPv6 without brackets) and port of a URL."""

    scheme: str
    host: str
    port: int

    @property
    def is_address(self) -> bool:
        """Whether the host is a literal address; the grammar allows only addresses and names."""
        return ":" in self.host or self.host.rpartition(".")[2].isdigit()


class RequestTarget(NamedTuple):
    """A well-formed URL: the form for the HTTP client, its origin, and the path to request.

    ``path`` is path and query byte for byte as given: a ``?`` without a query, dots and
    lower-case percent-encoding are kept. (``url`` drops a ``?`` without a query.)
    """

    url: URL
    origin: Origin
    path: str


_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]+")
_FORBIDDEN = frozenset('\\<>"{}|^`')
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SHAPE = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]+)(?P<rest>(?:/[^?#]*)?(?:\?[^#]*)?)"
)
_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]+)(?::(?P<port>.*))?")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
# Underscores and repeated hyphens are not allowed in host names, but resolvers answer for them.
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*")


def origin_of(url: str) -> Origin:
    """Return the canonical origin of a URL; raises EgressDenied where it is not well-formed."""
    return parse_url(url).origin


def _invalid(message: str) -> EgressDenied:
    return EgressDenied(ErrorCode.INVALID_URL, message)


@lru_cache(maxsize=4096)  # one destination gets many messages
def parse_url(url: str) -> RequestTarget:
    """Read a URL; raises EgressDenied with code ``invalid_url`` when it is not well-formed."""
    _check_characters(url)
    shape = _SHAPE.fullmatch(url)
    if shape is None:
        raise _invalid("a URL reads https://host[:port][/path][?query], without a fragment")
    scheme = shape["scheme"].lower()
    if scheme not in DEFAULT_PORTS:
        raise _invalid("only http and https URLs are called")
    if "@" in shape["authority"]:
        raise _invalid("a URL may not contain a user name or password")
    host, port_text = _split_authority(shape["authority"].lower())
    origin = Origin(scheme, host, int(port_text or DEFAULT_PORTS[scheme]))
    if origin.port > 65535:
        raise _invalid("the port is not a number from 1 to 65535")
    authority = shape["authority"].lower()
    sent = URL(f"{scheme}://{authority}{shape['rest']}", encoded=True)
    _check_agreement(url, origin, sent)
    path = shape["rest"] if shape["rest"].startswith("/") else "/" + shape["rest"]
    return RequestTarget(sent, origin, path)


def parse_within(origin: Origin, url: str) -> RequestTarget | None:
    """Read a URL that begins with a known origin in its usual form; None for every other.

    What follows the authority cannot change how it is read, so the readings are not compared again:
    thousands of jobs at a provider have an address each, and no cache would hold them.

    Raises:
        EgressDenied: as `parse_url`.
    """
    prefix = _prefix(origin)
    rest = url[len(prefix) :]
    if not (url.startswith(prefix) and rest.startswith("/")) or "#" in rest:
        return None
    _check_characters(url)
    return RequestTarget(URL(url, encoded=True), origin, rest)


@lru_cache(maxsize=256)
def _prefix(origin: Origin) -> str:
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    port = "" if origin.port == DEFAULT_PORTS[origin.scheme] else f":{origin.port}"
    return f"{origin.scheme}://{host}{port}"


def _check_characters(url: str) -> None:
    if not 1 <= len(url) <= MAX_URL_LENGTH:
        raise _invalid(f"a URL has 1 to {MAX_URL_LENGTH} characters")
    if not _VISIBLE_ASCII.fullmatch(url):
        raise _invalid(
            "a URL consists of visible ASCII characters; write other ones percent-encoded, "
            "and an international host name in its xn-- form"
        )
    if not _FORBIDDEN.isdisjoint(url):
        raise _invalid('a URL may not contain \\ < > " { } | ^ or a backtick')
    if _BAD_PERCENT.search(url):
        raise _invalid("every % in a URL is followed by two hexadecimal digits")


def _split_authority(authority: str) -> tuple[str, str | None]:
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise _invalid("the host of the URL cannot be read")
    port = match["port"]
    if port is not None and not _PORT.fullmatch(port):
        raise _invalid("the port is not a number from 1 to 65535")
    host = match["host"]
    if host.startswith("["):
        return _ipv6_literal(host[1:-1]), port
    _check_name(host)
    return host, port


def _ipv6_literal(text: str) -> str:
    try:
        if "%" not in text:
            return str(ipaddress.IPv6Address(text))
    except ValueError:
        pass
    raise _invalid("the brackets do not hold an IPv6 address")


def _check_name(host: str) -> None:
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise _invalid(
            "the host name is not valid (letters, digits, hyphens, underscores; no trailing dot)"
        )
    if _NUMERIC_LABEL.fullmatch(labels[-1]):
        try:
            ipaddress.IPv4Address(host)  # takes only the canonical form
        except ValueError:
            text = "a numeric host is written as four decimal numbers, such as 192.0.2.1"
            raise _invalid(text) from None
    for label in labels:
        if label.startswith("xn--"):
            _check_a_label(label)


def _check_a_label(label: str) -> None:
    """Check only that a label decodes to one text and back, as browsers and resolvers do.

    The rules of IDNA 2008 would refuse names that exist, such as those with emoji.
    """
    coded = label.removeprefix("xn--")
    try:
        if coded and coded.encode().decode("punycode").encode("punycode").decode() == coded:
            return
    except UnicodeError:
        pass
    raise _invalid("the host name is not a valid international name")


def _check_agreement(url: str, origin: Origin, sent: URL) -> None:
    """Refuse a URL that parsers read differently: the checked host must be the dialled one."""
    try:
        split = urlsplit(url)
        readings = {
            (split.hostname, split.port or DEFAULT_PORTS[origin.scheme]),
            *((each.raw_host, each.port) for each in (URL(url), sent)),
        }
        seen = {
            (str(ipaddress.IPv6Address(host)) if host and ":" in host else host or "", port)
            for host, port in readings
        }
    except ValueError:
        seen = set()
    if seen != {(origin.host, origin.port)}:
        raise _invalid("the URL can be read in more than one way")
