"""Where do the benchmarks send to? A minimal server in its own process that keeps every request.

It answers at once and verifies after the measurement: each signature is computed again here.
Controlled by JSON lines on stdin; answers on stdout.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import os
import socket
import subprocess
import sys
import time
from typing import Any

import uvloop

DESTINATIONS = 32
HANGING = 4
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"


class Store:
    """All requests since the last reset, and the number that somebody waits for."""

    def __init__(self) -> None:
        self.requests: list[tuple[float, bytes]] = []
        self.target = 0

    def add(self, request: bytes) -> None:
        """Keep one request; report it if it is the awaited one."""
        self.requests.append((time.monotonic(), request))
        if len(self.requests) == self.target:
            say({"reached": self.target, "at": self.requests[-1][0]})

    def expect(self, count: int) -> None:
        """Report when ``count`` requests have come."""
        self.target = count
        if len(self.requests) >= count:
            say({"reached": count, "at": self.requests[count - 1][0] if count else 0.0})

    def report(self, secret: str) -> None:
        """Report what came: requests, distinct ids, verified signatures, first arrival by id."""
        key = base64.b64decode(secret.removeprefix("whsec_"))
        first: dict[str, float] = {}
        verified = 0
        for at, request in self.requests:
            head, _, body = request.partition(b"\r\n\r\n")
            fields = _fields(head)
            verified += _is_signed(fields, body, key)
            first.setdefault(fields.get(b"webhook-id", b"").decode(), at)
        count = len(self.requests)
        say({"requests": count, "distinct": len(first), "verified": verified, "first": first})


def _fields(head: bytes) -> dict[bytes, bytes]:
    lines = head.split(b"\r\n")[1:]
    pairs = (line.partition(b":") for line in lines)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _is_signed(fields: dict[bytes, bytes], body: bytes, key: bytes) -> bool:
    content = b".".join(
        [fields.get(b"webhook-id", b""), fields.get(b"webhook-timestamp", b""), body]
    )
    expected = b"v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256))
    return expected in fields.get(b"webhook-signature", b"").split(b" ")


class Answering(asyncio.Protocol):
    """Answer every complete request with 200."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the asyncio transport."""
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        """Parse complete requests from the stream."""
        self._buffer = self._buffer + data if self._buffer else data
        while self._buffer:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            size = end + 4 + _content_length(self._buffer[:end])
            if len(self._buffer) < size:
                return
            request, self._buffer = self._buffer[:size], self._buffer[size:]
            self._transport.write(_ANSWER)
            self._store.add(request)


def _content_length(head: bytes) -> int:
    at = head.lower().find(b"\r\ncontent-length:")
    return int(head[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else 0


def say(answer: dict[str, Any]) -> None:
    """Write one line to the controlling process."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _loopback(first: int, count: int) -> list[str]:
    return [f"127.0.0.{number}" for number in range(first, first + count)]


def _free_port() -> int:
    """Return a port that the egress policy allows: high, and no database's."""
    for port in range(20_000 + os.getpid() % 5_000, 27_000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("0.0.0.0", port))
            return port
    raise RuntimeError("no free port")


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    store = Store()
    port = _free_port()
    hosts, hanging = _loopback(1, DESTINATIONS), _loopback(1 + DESTINATIONS, HANGING)
    await loop.create_server(lambda: Answering(store), hosts, port, backlog=2048)
    await loop.create_server(asyncio.Protocol, hanging, port, backlog=2048)
    ended = asyncio.Event()

    def command() -> None:
        line = sys.stdin.readline()
        if not line:
            ended.set()
            return
        order = json.loads(line)
        if order["do"] == "reset":
            store.requests, store.target = [], 0
            say({"reset": True})
        if order["do"] == "expect":
            store.expect(order["count"])
        if order["do"] == "report":
            store.report(order["secret"])

    loop.add_reader(sys.stdin, command)
    say({"port": port})
    await ended.wait()


class ReceiverProcess:
    """The receiver, as the benchmark controls it; a context manager."""

    def __enter__(self) -> ReceiverProcess:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.receiver"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = self._answer()["port"]
        return self

    def __exit__(self, *exc_info: object) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    @property
    def urls(self) -> list[str]:
        """Return one URL for each healthy destination."""
        return [f"http://{host}:{self.port}/hook" for host in _loopback(1, DESTINATIONS)]

    @property
    def hanging_urls(self) -> list[str]:
        """Return URLs that accept a request and never answer: about a tenth of all."""
        hosts = _loopback(1 + DESTINATIONS, HANGING)
        return [f"http://{host}:{self.port}/hook" for host in hosts]

    @property
    def dead_url(self) -> str:
        """Return a URL where nothing listens."""
        return f"http://127.0.0.{1 + DESTINATIONS + HANGING}:{self.port}/hook"

    def reset(self) -> None:
        """Delete all requests."""
        self._ask(do="reset")

    def wait_for(self, count: int) -> float:
        """Wait for the ``count``-th request since the reset; return when it came (monotonic)."""
        return float(self._ask(do="expect", count=count)["at"])

    def report(self, secret: str) -> dict[str, Any]:
        """Return requests, distinct, verified, and ``first``: webhook-id -> monotonic time."""
        return self._ask(do="report", secret=secret)

    def _ask(self, **order: Any) -> dict[str, Any]:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the receiver ended")
        return dict(json.loads(line))


if __name__ == "__main__":
    uvloop.run(_serve())
