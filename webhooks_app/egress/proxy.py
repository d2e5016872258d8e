"""Which forward proxy do requests go through? The URL in a setting, read."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

from webhooks_app.conf import webhook_settings

#: Longest user name and password in bytes; the protocol of SOCKS has one byte for each length.
MAX_CREDENTIAL_BYTES = 255
FORM = (
    "a proxy reads http://host:port or socks5://host:port, with user:password@ before the host "
    "where it asks for them; special characters in both are percent-encoded (@ is %40)"
)


@dataclass(frozen=True, slots=True)
class Proxy:
    """A forward proxy; its text and its repr never contain the credentials.

    ``scheme`` is ``http`` (CONNECT) or ``socks5``. ``is_guard``: it gets names and judges the
    addresses behind them itself; otherwise it gets addresses that were judged here.
    """

    scheme: str
    host: str
    port: int
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    is_guard: bool = False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def read_proxy(text: str, *, is_guard: bool = False) -> Proxy | None:
    """Return the proxy that a setting names, None when it is empty.

    Raises:
        ValueError: it cannot be used; the text says what to write and quotes nothing.
    """
    if not text:
        return None
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(FORM) from None
    if parts.scheme in ("https", "socks5h", "socks4", "socks4a", "socks"):
        raise ValueError(_INSTEAD.get(parts.scheme, FORM))
    is_bare = parts.path in ("", "/") and not parts.query and not parts.fragment
    is_clean = text.isprintable() and " " not in text
    if parts.scheme not in ("http", "socks5") or not (host and port and is_bare and is_clean):
        raise ValueError(FORM)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    _check_credentials(parts.scheme, user, password)
    return Proxy(parts.scheme, host, port, user, password, is_guard)


def webhook_proxy() -> Proxy | None:
    """Return the proxy of all webhooks, None for none.

    Raises:
        ImproperlyConfigured: it cannot be used.
    """
    try:
        return read_proxy(webhook_settings.PROXY, is_guard=webhook_settings.PROXY_GUARDS)
    except ValueError as error:
        raise ImproperlyConfigured(f"WEBHOOKS['PROXY']: {error}.") from None


_INSTEAD = {
    "https": "TLS to the proxy itself is not supported; name it as http://host:port, over a network"
    " of your own or a tunnel. What goes through it to https receivers is encrypted all the same",
    "socks5h": "write socks5://; whether the proxy gets names or addresses is said by the setting "
    "that ends in PROXY_GUARDS",
}


def _check_credentials(scheme: str, user: str, password: str) -> None:
    if not (user + password).isprintable() or (password and not user):
        raise ValueError(FORM)
    if scheme == "http" and ":" in user:
        raise ValueError("the user name of an http proxy cannot contain a colon")
    if scheme == "socks5" and user:
        lengths = {len(user), len(password)}
        is_fit = (user + password).isascii() and min(lengths) > 0
        if not is_fit or max(lengths) > MAX_CREDENTIAL_BYTES:
            raise ValueError(
                "user and password of a socks5 proxy are ASCII, "
                f"each of 1 to {MAX_CREDENTIAL_BYTES} characters"
            )
