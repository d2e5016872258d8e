"""How far did a request get, and what does its failure mean?"""

from __future__ import annotations

import errno
import re
import ssl
import time

from webhooks_app.egress import PolicyBlocked
from webhooks_app.retry import ErrorCode
from webhooks_app.shown import printable
from webhooks_app.transport.answer import ONLY_HTTP2
from webhooks_app.transport.wire import BadAnswerError


class LookupFailedError(OSError):
    """The name has no address."""


class ProxyFault(OSError):
    """The forward proxy, not the receiver, is why there is no connection; the text is our own.

    ``is_down``: it works for no receiver, as far as its answer tells.
    """

    def __init__(self, text: str, *, is_down: bool = False) -> None:
        super().__init__(text)
        self.is_down = is_down


class Trace:
    """Times of one request's steps, by ``time.perf_counter``; 0.0: the step has not happened."""

    def __init__(self) -> None:
        self.dns_at = self.dns_done_at = self.dialled_at = self.tls_at = 0.0
        self.sent_at = self.first_byte_at = 0.0
        self.remote_address = ""
        #: Whether the forward proxy itself has not taken the connection yet.
        self.is_at_proxy = False

    def phases(self) -> dict[str, float]:
        """Return the duration of each phase that was reached, in milliseconds.

        The phase in which a request failed is counted up to now. Without an answer there is no
        ``first_byte_ms``.
        """
        phases = {}
        if self.first_byte_at:
            phases["first_byte_ms"] = 1000 * (self.first_byte_at - self.sent_at)
        if self.dialled_at:
            phases["connect_ms"] = 1000 * ((self.sent_at or time.perf_counter()) - self.dialled_at)
        if self.dns_at:
            phases["dns_ms"] = 1000 * ((self.dns_done_at or time.perf_counter()) - self.dns_at)
        return phases


CONNECT_TEXTS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset while connecting",
    errno.EHOSTUNREACH: "host unreachable",
    errno.ENETUNREACH: "network unreachable",
    errno.ETIMEDOUT: "connecting timed out",
}
#: OpenSSL's errors for bytes that are not TLS, and for a receiver that refuses HTTP/1.1.
_NO_TLS = re.compile("wrong version number|packet length too long|record layer failure")
_NO_HTTP1 = "no application protocol"
#: How nginx, Apache and Go's servers (Caddy among them) answer plain HTTP on a TLS port.
_EXPECTS_TLS = re.compile(
    rb"plain HTTP .{0,30}(HTTPS|SSL)|an HTTP request to an HTTPS server", re.IGNORECASE
)


def explain(error: BaseException, trace: Trace) -> tuple[ErrorCode, str]:
    """Return error code and text of a failed request.

    The text is always our own: an exception's text may contain receiver bytes and addresses.
    """
    if isinstance(error, PolicyBlocked):
        return ErrorCode.BLOCKED_ADDRESS, "the address is not allowed"
    if isinstance(error, ProxyFault):
        return ErrorCode.PROXY, str(error)
    if isinstance(error, LookupFailedError):
        return ErrorCode.DNS, "the host name could not be resolved"
    if isinstance(error, TimeoutError):
        return _explain_timeout(trace)
    if isinstance(error, BadAnswerError):
        return ErrorCode.PROTOCOL, str(error)
    if isinstance(error, ssl.SSLError) or (trace.tls_at and not trace.sent_at):
        return ErrorCode.TLS, _tls_text(error)
    if not trace.sent_at:
        number = getattr(error, "errno", None)
        return ErrorCode.CONNECT, CONNECT_TEXTS.get(number or 0, "no connection")
    text = "the connection was closed before the answer was complete"
    if not trace.tls_at and not trace.first_byte_at:
        text = "the connection was closed without an answer; does the receiver expect https here?"
    return ErrorCode.RESET, text


def _explain_timeout(trace: Trace) -> tuple[ErrorCode, str]:
    if trace.dns_at and not trace.dns_done_at:
        return ErrorCode.DNS, "the host name was not resolved in time"
    if trace.sent_at:
        return ErrorCode.TIMEOUT, "no answer in time"
    if trace.is_at_proxy:
        return ErrorCode.PROXY, "the proxy took no connection in time"
    if trace.tls_at:
        return ErrorCode.TLS, f"the TLS handshake did not end in time; {_ASK_FOR_TLS}"
    return ErrorCode.TIMEOUT, "no connection in time"


def _tls_text(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        # OpenSSL's own sentence about the certificate; it quotes at most the host from the URL.
        return f"the certificate is not valid: {printable(error.verify_message, 200)}"
    text = str(error).lower().replace("_", " ")  # OpenSSL spells some codes with underscores
    if _NO_TLS.search(text):
        return "the receiver does not speak TLS on this port; use http or another port in the URL"
    if _NO_HTTP1 in text:
        return ONLY_HTTP2
    if not isinstance(error, ssl.SSLError):
        return f"the connection was closed within the TLS handshake; {_ASK_FOR_TLS}"
    return "the TLS handshake failed"


_ASK_FOR_TLS = "does the receiver speak TLS on this port?"


def expects_tls(status: int, body: bytes) -> bool:
    """Say whether an answer over plain HTTP means that the receiver expects https there."""
    return status == 400 and _EXPECTS_TLS.search(body[:4096]) is not None
