"""How does one prepared request travel over a connection, and when may the next one follow it?

A `Connection` carries one request at a time and feeds what comes back to an `Answer`. It is reused
only when that answer ended cleanly; unrequested bytes or a closed connection make it unusable.
Where to connect, and what an answer means, is not known here.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import ssl
import termios
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from webhooks_app.egress import RequestTarget
from webhooks_app.transport.answer import Answer
from webhooks_app.transport.certificate_names import check_names_here

# How long a body is read once the status is known; the outcome no longer depends on the body.
BODY_SECONDS = 2.0
REQUEST_TIMEOUT = 408


class BadAnswerError(Exception):
    """The received bytes are no HTTP answer; the text gives the reason in our own words."""


class UnaskedAnswerError(ConnectionError):
    """An answer came over a reused connection before the receiver can have read the request."""


def render_post(target: RequestTarget, headers: Mapping[str, str], body: bytes) -> bytes:
    """Return a POST request as bytes; raises ValueError against header injection."""
    host = target.url.host_port_subcomponent or ""
    pairs = {"Host": host, **headers, "Content-Length": str(len(body))}
    if not "".join(pairs.values()).isprintable():
        raise ValueError("a header value contains a control character")
    lines = "\r\n".join([f"{name}: {value}" for name, value in pairs.items()])
    head = f"POST {target.path} HTTP/1.1\r\n{lines}\r\n\r\n"
    return head.encode("ascii") + body


def new_tls_context(has_underscore: bool = False) -> ssl.SSLContext:
    """Return a client TLS context: system certificates, names checked, TLS 1.2 or later.

    ``has_underscore``: for hosts with one in their names, see certificate_names.py.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if has_underscore:
        check_names_here(context)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_default_certs()
    # Makes a receiver that speaks only HTTP/2 fail in the handshake with a clear error.
    context.set_alpn_protocols(["http/1.1"])
    return context


tls_context = lru_cache(maxsize=2)(new_tls_context)  # loading the certificate store takes 20 ms


class ClientIdentity:
    """As whom a request goes out: connections of one identity carry nobody else's requests.

    Args:
        name: what differs between identities, and between versions of one.
        load: puts the client's certificate into a TLS context; None where it has none.
    """

    def __init__(self, name: str, load: Callable[[ssl.SSLContext], None] | None = None) -> None:
        self.name = name
        self._load = load
        self._contexts: dict[bool, ssl.SSLContext] = {}

    def tls_context(self, has_underscore: bool) -> ssl.SSLContext | None:
        """Return the TLS context with its certificate, None if it has none."""
        if self._load is None:
            return None
        if has_underscore not in self._contexts:
            context = new_tls_context(has_underscore)
            self._load(context)
            self._contexts[has_underscore] = context
        return self._contexts[has_underscore]


class Connection(asyncio.Protocol):
    """One connection to a receiver, from its TLS handshake until it closes."""

    def __init__(self, sock: socket.socket, at: str = "") -> None:
        self._socket = sock
        self._transport: Any = None
        self._answer: Answer | None = None
        self._waiter: asyncio.Future[bool] | None = None
        self._awaits_end = False
        self._error: Exception | None = None
        self.is_open = True
        #: Whether it has completed a request before.
        self.is_used = False
        #: Whether bytes came without a request.
        self.is_spoiled = False
        self.opened_at = self.idle_since = time.monotonic()
        #: When the first byte of the last answer came (``time.perf_counter``); 0.0: none came.
        self.first_byte_at = 0.0
        # Asked even if not needed: it raises where the receiver has already closed the connection.
        peer: str = sock.getpeername()[0]
        self.remote_address = at or peer

    @classmethod
    async def over(
        cls,
        sock: socket.socket,
        tls: ssl.SSLContext | None = None,
        host: str | None = None,
        *,
        at: str = "",
    ) -> Connection:
        """Return a connection over a connected socket, after the handshake if ``tls`` is given.

        Args:
            at: the receiver's address, where it is not the one that the socket is connected to.

        Raises:
            OSError: the handshake failed (an ``ssl.SSLError`` is one); the socket is closed.
        """
        try:
            connection = cls(sock, at)
            await asyncio.get_running_loop().create_connection(
                lambda: connection, sock=sock, ssl=tls, server_hostname=host if tls else None
            )
        except BaseException:
            sock.close()
            raise
        return connection

    # -- called by the event loop -----------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """Keep the asyncio transport."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Feed bytes to the current answer; bytes without a request close the connection."""
        answer = self._answer
        if answer is None:
            self.is_spoiled = True
            self.close()
            return
        if not self.first_byte_at:
            self.first_byte_at = time.perf_counter()
            if self.is_used and self._is_request_under_way():
                self._error = UnaskedAnswerError()
                self.close()
                return
        answer.feed(data)
        if answer.is_flood:
            self._transport.pause_reading()
        if answer.is_ended or (answer.is_headed and not self._awaits_end):
            self._tell(True)

    def connection_lost(self, error: Exception | None) -> None:
        """Record that the connection is closed, by either side."""
        self.is_open = False
        self._error = self._error or error or ConnectionResetError()
        if self._answer is not None:
            self._answer.end(is_clean=error is None)
        self._tell(True)

    # -- one request ------------------------------------------------------------------------------

    async def exchange(self, request: bytes, deadline: float, limit: int) -> Answer:
        """Send a request and return its answer; the connection stays open if it may be reused.

        Args:
            deadline: loop time by which the headers must have come. Reading the body takes at most
                BODY_SECONDS more.
            limit: how many bytes of the body to keep.

        Raises:
            BadAnswerError, OSError: no status line came: not HTTP, the connection closed, or
                nothing came in time (a TimeoutError). The connection is closed.
        """
        answer = self._answer = Answer(limit)
        self.first_byte_at = 0.0
        try:
            if self.is_open:
                self._transport.write(request)
            is_in_time = await self._wait(deadline)
            if not is_in_time:
                answer.end(is_timeout=True)
            if answer.fault:
                raise BadAnswerError(answer.fault)
            if answer.status is None:
                raise (self._error or ConnectionResetError()) if is_in_time else TimeoutError
            # A 408 ends a connection that was idle for too long. Of two answers, the first may be
            # a late second answer to the previous request.
            if self.is_used and (answer.status == REQUEST_TIMEOUT or answer.is_followed):
                raise UnaskedAnswerError
            if not answer.is_ended:
                self._awaits_end = True
                await self._wait(asyncio.get_running_loop().time() + BODY_SECONDS)
                answer.end(is_timeout=True)
        except BaseException:
            self.close()
            raise
        finally:
            self._answer, self._awaits_end = None, False
        self.is_used = True
        # A receiver may answer before it has read all of the request: do not send another then.
        if not answer.is_reusable or self._transport.get_write_buffer_size():
            self.close()
        self.idle_since = time.monotonic()
        return answer

    async def _wait(self, until: float) -> bool:
        """Wait for the answer's next stage; return False when ``until`` (loop time) comes first."""
        if not self.is_open:
            return True
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_at(until, self._tell, False)
        try:
            return await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _tell(self, is_in_time: bool) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(is_in_time)

    def _is_request_under_way(self) -> bool:
        """Say whether the receiver's machine has not yet acknowledged the whole request.

        What arrives before that cannot be its answer: it is a late second answer to the previous
        request, or the last words of a server that closes an idle connection (such as a 408).
        """
        unsent = fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4))
        return bool(self._transport.get_write_buffer_size()) or unsent != bytes(4)

    # -- between requests -------------------------------------------------------------------------

    def is_quiet(self) -> bool:
        """Say whether nothing has come since the last answer, including bytes not read yet.

        Unrequested bytes would be mistaken for the answer to the next request.
        """
        if self.is_open:
            try:
                self.is_spoiled = bool(self._socket.recv(1, socket.MSG_PEEK))
            except BlockingIOError:
                return True
            except OSError:
                pass
        return False

    def close(self) -> None:
        """Close the connection at once; may be called again."""
        self.is_open = False
        self._transport.abort()
