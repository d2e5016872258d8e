"""How does one prepared request travel over a pooled connection, and what comes back?

aiohttp's session builds for every request what a browser needs: a cookie lookup, redirects,
negotiated headers, a request and a response object. A webhook needs none of that, and it is more
than half of the time. Here a request is bytes; aiohttp's connector resolves, dials, does TLS and
pools, and its parser reads the answer. Nothing here knows what an answer means.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

import aiohttp
from yarl import URL

MAX_LINE_BYTES = 8190
# How long a body is read once the status is known; the outcome no longer depends on it.
BODY_SECONDS = 2.0
CONNECT_SECONDS = 10.0
_READ_BYTES = 2**16
TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
_SWITCHING_PROTOCOLS = 101


def render_post(url: URL, headers: Mapping[str, str], body: bytes) -> bytes:
    """Return a POST as it goes over the wire.

    Raises:
        ValueError: a header would end its line and begin another.
    """
    pairs = {"Host": url.host_port_subcomponent or "", **headers, "Content-Length": str(len(body))}
    if not "".join(pairs.values()).isprintable():
        raise ValueError("a header value contains a control character")
    lines = "\r\n".join([f"{name}: {value}" for name, value in pairs.items()])
    head = f"POST {url.raw_path_qs} HTTP/1.1\r\n{lines}\r\n\r\n"
    return head.encode("ascii") + body


class Note(Protocol):
    """Who wants to know how far a request got."""

    def sending(self, connection: Any) -> None:
        """Note which connection it has."""

    def sent(self) -> None:
        """Note that it is on its way."""


class Reply:
    """An answer whose head has come; ``read`` its body, or ``close`` it, exactly once.

    ``raw_headers`` are pairs of bytes in the order of the wire, ``headers`` the same by name.
    """

    __slots__ = ("_connection", "_content", "headers", "raw_headers", "status")

    def __init__(self, connection: Any, message: Any, content: aiohttp.StreamReader) -> None:
        self.status: int = message.code
        self.headers: Mapping[str, str] = message.headers
        self.raw_headers: tuple[tuple[bytes, bytes], ...] = message.raw_headers
        self._connection = connection
        self._content = content

    async def read(self, limit: int) -> tuple[bytes, bool]:
        """Return the body's beginning and whether anything is missing from it."""
        try:
            return await self._read(limit)
        finally:
            self.close()

    async def _read(self, limit: int) -> tuple[bytes, bool]:
        content = self._content
        if self.status == _SWITCHING_PROTOCOLS:  # no body follows, but another protocol might
            return b"", False
        if content.is_eof():  # it came with the headers, as nearly always
            whole = content.read_nowait()
            return whole[:limit], len(whole) > limit
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while size <= limit and (chunk := await content.readany()):
                    chunks.append(chunk)
                    size += len(chunk)
        except (aiohttp.ClientError, OSError):  # a TimeoutError is an OSError
            return b"".join(chunks)[:limit], True
        return b"".join(chunks)[:limit], size > limit

    def close(self) -> None:
        """Give the connection back to the pool, or end it when it cannot serve another request."""
        transport = self._connection.transport
        # A receiver may answer before it has read the request; the next one must not follow it.
        if transport is None or transport.get_write_buffer_size():
            self._connection.close()
        else:
            self._connection.release()  # which ends it when the body has not been read to its end


class Outgoing:
    """Requests that leave together when the loop has gone round.

    A write to a receiver that sleeps wakes it, which costs the writer as much as the write. While
    many messages are due, each request would find the receivers asleep again after the time that
    it took to make it; written one right after the other, they find them awake.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[asyncio.WriteTransport, bytes, Note]] = []

    def put(self, transport: asyncio.WriteTransport, request: bytes, note: Note) -> None:
        """Take a request to be written in this turn of the loop."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._write_all)
        self._waiting.append((transport, request, note))

    def _write_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        for transport, request, note in waiting:
            # Who closed it lets the task know that waits for the answer.
            if not transport.is_closing():
                note.sent()
                transport.write(request)


async def exchange(
    connector: aiohttp.BaseConnector,
    origin: aiohttp.ClientRequest,
    request: bytes,
    outgoing: Outgoing,
    note: Note,
) -> Reply:
    """Send a request over a pooled or new connection and return the head of its answer.

    Args:
        origin: names where to connect; nothing of it is sent.
        note: is told how far the request got.

    Raises:
        aiohttp.ClientError, OSError, HttpProcessingError: what became of it instead.
    """
    connection = await connector.connect(origin, [], TIMEOUT)
    try:
        note.sending(connection)
        protocol: Any = connection.protocol
        # Closed meanwhile, or the receiver has sent what nobody asked for: the next bytes that are
        # read would be no answer to this request.
        if protocol.should_close or not protocol.is_connected():
            raise aiohttp.ServerDisconnectedError
        protocol.set_response_params(
            read_until_eof=True,
            auto_decompress=False,
            read_bufsize=_READ_BYTES,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_LINE_BYTES,
        )
        outgoing.put(protocol.transport, request, note)
        message, content = await protocol.read()
        while 100 <= message.code < 200 and message.code != _SWITCHING_PROTOCOLS:
            message, content = await protocol.read()
    except BaseException:
        connection.close()
        raise
    return Reply(connection, message, content)
