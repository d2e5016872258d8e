"""What does a receiver of webhooks answer? A real HTTP server with scripted behaviour.

Raw bytes over real sockets, in a thread with its own event loop, so that no test needs a mock.
A script is a list of answers; each request takes the next one and the last one repeats. A number
stands for a plain answer with that status, and tests.support.answers has the stranger ones:

    with Receiver([500, 500, 200], secret=secret) as receiver:
        ...  # let something POST to receiver.url
        receiver.wait_for(3)
        assert all(request.is_verified for request in receiver.requests)

As a program (``python -m tests.support.receiver --port 0 --log requests.jsonl --answers 500,200``)
it appends each request to a file, with fsync, before it answers: the evidence survives any crash.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from standardwebhooks import Webhook, WebhookVerificationError

from tests.support.answers import Answer, Connection


@dataclass
class Request:
    """One request as it came over the wire."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    raw: bytes
    received_at: float
    connection: int
    is_verified: bool | None = None
    #: The status of the answer; None where the script does something else with the connection.
    answered: int | None = None

    @property
    def message_id(self) -> str:
        """The ``webhook-id``, empty when there is none."""
        return self.headers.get("webhook-id", "")


def is_signed_by(verifier: Webhook, request: Request) -> bool:
    """Verify with the ``standardwebhooks`` package, as a receiver would."""
    try:
        verifier.verify(request.body, request.headers, json_parse=False)
    except WebhookVerificationError:
        return False
    return True


# -- the server -----------------------------------------------------------------------------------


class Receiver:
    """A scripted receiver on 127.0.0.1; a context manager.

    Args:
        answers: the script; numbers stand for plain answers with that status.
        secret: verifies each request's signature with the ``standardwebhooks`` package.
        port: 0 takes a free one; the attribute ``port`` is the real one.
        tls: the server side of TLS (see tests.support.certificates), or "hang" or "reset" in
            place of a handshake.
        idle_seconds: close a used connection that was idle so long, as front ends do.
        drops_reused: "fin" or "rst": a second request on a connection finds it closed.
        on_request: called in the receiver's thread before the answer goes out.
    """

    #: Signed requests to any receiver of this process since the last check.
    unchecked: ClassVar[list[Request]] = []

    def __init__(
        self,
        answers: Sequence[Answer | int] = (200,),
        *,
        secret: str | None = None,
        tls: ssl.SSLContext | str | None = None,
        port: int = 0,
        idle_seconds: float | None = None,
        drops_reused: str = "",
        on_request: Callable[[Request], None] | None = None,
    ) -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self.dropped = 0
        self._script = list(answers)
        self._verifier = Webhook(secret) if secret else None
        self._tls = tls
        self.port = port
        self._idle_seconds = idle_seconds
        self._drops_reused = drops_reused
        self._on_request = on_request
        self._arrived = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[Any]] = set()

    def __enter__(self) -> Receiver:
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=512)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, name="receiver", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    @property
    def url(self) -> str:
        """The address to POST to."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/hook"

    def answer(self, *answers: Answer | int) -> None:
        """Replace the rest of the script."""
        self._script = list(answers)

    def wait_for(self, count: int, timeout: float = 5.0) -> list[Request]:
        """Wait until ``count`` requests have arrived and return them; fails after ``timeout``."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self.requests) >= count, timeout):
                raise AssertionError(f"{len(self.requests)} of {count} requests in {timeout} s")
            return list(self.requests)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.add_reader(self._listener, self._accept)
        self._loop.run_forever()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _accept(self) -> None:
        # Not start_server: its close() on Python 3.11 leaks a transport when a connection is being
        # accepted. Not sock_accept: when cancelled it can lose an accepted socket.
        with contextlib.suppress(BlockingIOError):
            sock, _ = self._listener.accept()
            sock.setblocking(False)
            self.connections += 1
            self._spawn(self._serve(sock, self.connections))

    async def _stop(self) -> None:
        self._loop.remove_reader(self._listener)
        self._listener.close()
        await asyncio.sleep(0)  # every task begins before it is cancelled, so that it can clean up
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _ in range(5):  # aborted transports close their sockets in the next rounds
            await asyncio.sleep(0)

    async def _serve(self, sock: socket.socket, number: int) -> None:
        context = self._tls if isinstance(self._tls, ssl.SSLContext) else None
        reader = asyncio.StreamReader(limit=2**22)
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await self._loop.connect_accepted_socket(
                lambda: protocol, sock, ssl=context
            )
        except OSError:
            return  # no handshake; the transport has closed the socket
        writer = asyncio.StreamWriter(transport, protocol, reader, self._loop)
        try:
            await self._converse(Connection(number, reader, writer))
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client closed the connection, which it may do
        except asyncio.CancelledError:
            transport.abort()
        finally:
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _converse(self, connection: Connection) -> None:
        if self._tls == "hang":
            await asyncio.sleep(3600)
        if self._tls == "reset":
            await connection.reader.read(1)
            connection.reset()
            return
        while True:
            head = await self._read_head(connection)
            if not head:
                return
            if connection.requests and self._drops_reused:
                self.dropped += 1
                if self._drops_reused == "rst":
                    connection.reset()
                return
            connection.requests += 1
            if not await self._answer(connection, head):
                return

    async def _read_head(self, connection: Connection) -> bytes:
        reading = connection.reader.readuntil(b"\r\n\r\n")
        idle_seconds = self._idle_seconds if connection.requests else None
        try:
            return await asyncio.wait_for(reading, idle_seconds)
        except (TimeoutError, asyncio.IncompleteReadError):
            return b""

    async def _answer(self, connection: Connection, head: bytes) -> bool:
        answer = self._next()
        if answer.is_early:
            await connection.send(answer.head() + answer.body)
        request = await self._read_request(connection, head)
        request.answered = None if answer.behave else answer.status
        self._record(request)
        if answer.is_early:
            return True
        await asyncio.sleep(answer.delay)
        if answer.behave is not None:
            await answer.behave(connection)
            return False
        body = b"" if answer.status in (101, 204, 304) else answer.body
        await connection.send(answer.head() + body)
        return answer.status != 101

    def _next(self) -> Answer:
        answer = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        return Answer(answer) if isinstance(answer, int) else answer

    async def _read_request(self, connection: Connection, head: bytes) -> Request:
        first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        method, path, _ = first.split(" ", 2)
        headers = {
            name.lower(): value.strip() for name, _, value in (s.partition(":") for s in lines)
        }
        body = await connection.reader.readexactly(int(headers.get("content-length", "0")))
        request = Request(method, path, headers, body, head + body, time.time(), connection.number)
        if self._verifier is not None:
            request.is_verified = is_signed_by(self._verifier, request)
        return request

    def _record(self, request: Request) -> None:
        if self._on_request is not None:
            self._on_request(request)
        with self._arrived:
            if "webhook-signature" in request.headers:
                self.unchecked.append(request)
            self.requests.append(request)
            self._arrived.notify_all()


# -- as a program ---------------------------------------------------------------------------------


def _log_to(path: str) -> Callable[[Request], None]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def log(request: Request) -> None:
        line = {
            "received_at": request.received_at,
            "path": request.path,
            "headers": request.headers,
            "body": request.body.decode("latin-1"),
            "is_verified": request.is_verified,
        }
        os.write(descriptor, json.dumps(line).encode() + b"\n")
        os.fsync(descriptor)

    return log


def main() -> None:
    """Serve until stdin closes or a signal comes; prints the port as its first line."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", required=True, help="file that requests are appended to")
    parser.add_argument("--answers", default="200", help="statuses, such as 500,500,200")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--secret", help="whsec_..., to verify signatures with")
    options = parser.parse_args()
    answers = [Answer(int(text), delay=options.delay) for text in options.answers.split(",")]
    with Receiver(
        answers, secret=options.secret, port=options.port, on_request=_log_to(options.log)
    ) as receiver:
        print(receiver.port, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            sys.stdin.read()


if __name__ == "__main__":
    main()
