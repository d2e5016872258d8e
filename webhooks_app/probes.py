"""How far did a request get, and what does its failure mean?

aiohttp's tracing would answer the first question at the price of a quarter of the throughput.
These hooks, on the resolver, the socket factory, the TLS context, the protocol and the request
class, note a few timestamps instead; they find their attempt by a context variable, since all of
them run in the context of the task that sends.
"""

from __future__ import annotations

import errno
import re
import ssl
import time
from collections.abc import Callable
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

from webhooks_app import egress
from webhooks_app.retry import ErrorCode
from webhooks_app.wire import MAX_LINE_BYTES

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Attempt:
    """What is known about a request under way; written by the hooks below as it gets on."""

    __slots__ = (
        "dialled_at",
        "dns_at",
        "dns_done_at",
        "is_blocked",
        "is_new",
        "is_tls_started",
        "protocol",
        "remote_address",
        "sent_at",
    )

    def __init__(self) -> None:
        self.dns_at = self.dns_done_at = self.dialled_at = self.sent_at = 0.0
        self.is_blocked = self.is_new = self.is_tls_started = False
        self.remote_address = ""
        self.protocol: Any = None

    def phases(self, headers_at: float = 0.0) -> dict[str, float]:
        """Return the phases in milliseconds, as far as there were any.

        The phase in which a request failed ends now; without an answer there is no first byte. A
        refused address shows none: how long an inner name takes to resolve is nobody's business.
        """
        if self.is_blocked:
            return {}
        phases = {}
        if first_byte_at := self.first_byte_at or headers_at:
            phases["first_byte_ms"] = 1000 * (first_byte_at - self.sent_at)
        if self.dialled_at:
            phases["connect_ms"] = 1000 * ((self.sent_at or time.perf_counter()) - self.dialled_at)
        if self.dns_at:
            phases["dns_ms"] = 1000 * ((self.dns_done_at or time.perf_counter()) - self.dns_at)
        return phases

    def sending(self, connection: Any) -> None:
        """Note which connection the request got, and when."""
        self.sent_at = time.perf_counter()
        self.protocol = protocol = connection.protocol
        protocol.first_byte_at = 0.0
        if not self.is_new:
            peer = connection.transport.get_extra_info("peername")
            self.remote_address = peer[0] if peer else ""

    def sent(self) -> None:
        """Note when the request left."""
        self.sent_at = time.perf_counter()

    @property
    def first_byte_at(self) -> float:
        """When the answer's first byte came, 0.0 when none did."""
        return getattr(self.protocol, "first_byte_at", 0.0)


current_attempt: ContextVar[Attempt] = ContextVar("current_attempt")


class TimedResolver(AbstractResolver):
    """The guarded resolver, with the time it took."""

    def __init__(self, inner: egress.GuardResolver) -> None:
        self._inner = inner

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        attempt = current_attempt.get()
        attempt.dns_at = time.perf_counter()
        try:
            answers = await self._inner.resolve(host, port, family)
        except egress.PolicyBlocked:
            attempt.is_blocked = True
            raise
        attempt.dns_done_at = time.perf_counter()
        return answers

    async def close(self) -> None:
        await self._inner.close()


def dial(info: tuple[Any, ...], allowed: Callable[[str], bool] = egress.address_allowed) -> Any:
    """Make the guarded socket for one address and note that the connection is new."""
    attempt = current_attempt.get()
    try:
        sock = egress.guarded_socket(info, allowed)
    except egress.PolicyBlocked:
        attempt.is_blocked = True
        raise
    attempt.is_new = True
    attempt.dialled_at = attempt.dialled_at or time.perf_counter()
    attempt.remote_address = info[4][0]
    return sock


class TlsContext(ssl.SSLContext):
    """Notes when a handshake starts, so that a hang or a reset in it can be told apart."""

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        attempt = current_attempt.get(None)
        if attempt is not None:
            attempt.is_tls_started = True
        return super().wrap_bio(*args, **kwargs)


@lru_cache(maxsize=1)  # loading the certificate store takes 20 ms
def tls_context() -> ssl.SSLContext:
    """Return the client side of TLS: system certificates, names checked, TLS 1.2 at least."""
    context = TlsContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_default_certs()
    return context


class NotingProtocol(ResponseHandler):
    """Notes the first byte of an answer: before it, repeating on a fresh connection is safe."""

    first_byte_at = 0.0

    def data_received(self, data: bytes) -> None:
        if not self.first_byte_at:
            self.first_byte_at = time.perf_counter()
        super().data_received(data)


class NotingRequest(aiohttp.ClientRequest):
    """Notes which connection a download got, and when."""

    async def send(self, conn: Any) -> aiohttp.ClientResponse:
        current_attempt.get().sending(conn)
        return await super().send(conn)


def printable(text: str, limit: int = 2048) -> str:
    """Return text of a receiver without control characters, cut to ``limit`` characters."""
    return _CONTROL.sub("?", text[:limit])


@lru_cache(maxsize=1024)  # a receiver answers many webhooks alike
def shown_headers(raw: tuple[tuple[bytes, bytes], ...]) -> tuple[tuple[str, str], ...]:
    """Return raw headers as text that can be stored and shown, without control characters."""
    # latin-1 maps every byte, and never to a surrogate, which PostgreSQL would refuse.
    pairs = tuple([(name.decode("latin-1"), value.decode("latin-1")) for name, value in raw])
    everything = "".join([value for _, value in pairs])
    if everything.isascii() and everything.isprintable():
        return pairs
    return tuple((printable(name), printable(value, MAX_LINE_BYTES)) for name, value in pairs)


_BAD_ANSWERS = aiohttp.ClientResponseError | aiohttp.ClientPayloadError
_CONNECT_TEXTS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset while connecting",
    errno.EHOSTUNREACH: "host unreachable",
    errno.ENETUNREACH: "network unreachable",
    errno.ETIMEDOUT: "connecting timed out",
}


def explain(error: BaseException, attempt: Attempt) -> tuple[ErrorCode, str]:
    """Return error code and text of a failed request.

    The text is ours alone: aiohttp's messages contain receiver bytes, URLs and addresses.
    """
    if attempt.is_blocked:
        return ErrorCode.BLOCKED_ADDRESS, "the address is not allowed"
    if isinstance(error, TimeoutError):
        return _explain_timeout(attempt)
    if isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError):
        return ErrorCode.INVALID_URL, "the HTTP client refuses the URL"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return ErrorCode.DNS, "the host name could not be resolved"
    tls_error = error.__cause__ if isinstance(error.__cause__, ssl.SSLError) else error
    is_in_handshake = attempt.is_tls_started and not attempt.sent_at
    if is_in_handshake or isinstance(tls_error, ssl.SSLError | aiohttp.ClientSSLError):
        return ErrorCode.TLS, _tls_text(tls_error)
    if not attempt.sent_at:
        number = getattr(error, "errno", None)
        return ErrorCode.CONNECT, _CONNECT_TEXTS.get(number or 0, "no connection")
    if isinstance(error, HttpProcessingError | _BAD_ANSWERS):
        return ErrorCode.PROTOCOL, "the answer is not valid HTTP"
    return ErrorCode.RESET, "the connection was closed before the answer was complete"


def _explain_timeout(attempt: Attempt) -> tuple[ErrorCode, str]:
    if attempt.dns_at and not attempt.dns_done_at:
        return ErrorCode.DNS, "the host name was not resolved in time"
    if attempt.sent_at:
        return ErrorCode.TIMEOUT, "no answer in time"
    if attempt.is_tls_started:
        return ErrorCode.TLS, "the TLS handshake did not end in time"
    return ErrorCode.TIMEOUT, "no connection in time"


def _tls_text(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        # OpenSSL's own sentence, about the certificate; it quotes at most the host that we gave.
        return f"the certificate is not valid: {printable(error.verify_message, 200)}"
    return "the TLS handshake failed"
