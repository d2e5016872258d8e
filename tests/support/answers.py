"""What may a receiver answer? The behaviours that a ``Receiver``'s script is made of."""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

Headers = Sequence[tuple[str, str]]


@dataclass
class Connection:
    """One accepted connection."""

    number: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    requests: int = 0

    async def send(self, data: bytes) -> None:
        """Write and drain."""
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Close with a RST instead of a FIN."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Behaviour = Callable[[Connection], Awaitable[None]]


@dataclass(frozen=True)
class Answer:
    """What to do with one request: an ordinary answer, or ``behave`` with the connection.

    ``behave`` ends the connection; ``is_early`` answers before the request's body is read.
    """

    status: int = 200
    headers: Headers = ()
    body: bytes = b"ok"
    delay: float = 0.0
    is_early: bool = False
    behave: Behaviour | None = field(default=None, compare=False)

    def head(self, length: int | None = None) -> bytes:
        """Return status line and headers; ``length`` sets a wrong Content-Length."""
        pairs = [*self.headers]
        if self.status not in (101, 204, 304):
            pairs.append(("Content-Length", str(len(self.body) if length is None else length)))
        lines = "".join(f"{name}: {value}\r\n" for name, value in pairs)
        return f"HTTP/1.1 {self.status} Scripted\r\n{lines}\r\n".encode("latin-1")


def _behaving(behave: Behaviour) -> Answer:
    return Answer(behave=behave)


def unasked(later: bytes, delay: float = 0.02) -> Answer:
    """Answer 200, and a moment later send bytes without a request."""

    async def behave(connection: Connection) -> None:
        await connection.send(Answer().head() + b"ok")
        await asyncio.sleep(delay)
        await connection.send(later)
        await connection.reader.read()

    return _behaving(behave)


def redirect(location: str, status: int = 302) -> Answer:
    """Answer with a redirect."""
    return Answer(status, headers=(("Location", location),))


def retry_after(value: str, status: int = 429) -> Answer:
    """Answer with a Retry-After header."""
    return Answer(status, headers=(("Retry-After", value),))


def hang() -> Answer:
    """Read the request and never answer."""

    async def behave(connection: Connection) -> None:
        await asyncio.sleep(3600)

    return _behaving(behave)


def reset(after: bytes = b"") -> Answer:
    """Send some bytes, then RST."""

    async def behave(connection: Connection) -> None:
        if after:
            await connection.send(after)
            await asyncio.sleep(0.05)
        connection.reset()

    return _behaving(behave)


def raw(data: bytes) -> Answer:
    """Send these bytes and close."""

    async def behave(connection: Connection) -> None:
        await connection.send(data)

    return _behaving(behave)


def drip(start: bytes, piece: bytes, interval: float = 0.02) -> Answer:
    """Send ``start`` at once and then ``piece`` again and again."""

    async def behave(connection: Connection) -> None:
        await connection.send(start)
        while True:
            await connection.send(piece)
            await asyncio.sleep(interval)

    return _behaving(behave)


def drip_headers() -> Answer:
    """Send a header every 20 ms, never ending them."""
    return drip(b"HTTP/1.1 200 OK\r\n", b"X-Drip: 1\r\n")


def flood_102() -> Answer:
    """Send 102 Processing again and again."""
    return drip(b"", b"HTTP/1.1 102 Processing\r\n\r\n")


def drip_body(status: int = 200) -> Answer:
    """Send the headers at once and a body that never ends, a few bytes at a time."""
    return drip(f"HTTP/1.1 {status} OK\r\nContent-Length: 100000\r\n\r\n".encode(), b"drip")


def endless_body(status: int = 200) -> Answer:
    """Send chunks of 64 KiB as fast as the client reads them."""

    async def behave(connection: Connection) -> None:
        await connection.send(
            f"HTTP/1.1 {status} OK\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        )
        while True:
            await connection.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")

    return _behaving(behave)


@lru_cache(maxsize=4)
def bomb(size: int) -> bytes:
    """Return ``size`` zero bytes, gzipped to a thousandth of that."""
    return gzip.compress(bytes(size), 6)


def gzip_bomb(size: int = 20_000_000) -> Answer:
    """Answer with a small body that claims to inflate to ``size`` bytes."""
    return Answer(headers=(("Content-Encoding", "gzip"),), body=bomb(size))


def huge_headers(count: int = 20_000) -> Answer:
    """Answer with very many headers."""
    return Answer(headers=[(f"X-Header-{n}", "v" * 20) for n in range(count)])


def length_lie(status: int = 200) -> Answer:
    """Promise a longer body than is sent, then close."""
    return raw(Answer(status).head(length=5000) + b"short")
