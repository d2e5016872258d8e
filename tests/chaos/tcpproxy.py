"""How is a reply lost? By a proxy that drops it and resets the connection.

Stands in front of the Unix socket of PostgreSQL or Redis and listens on loopback. One thread with
an event loop; its settings may be changed from any thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from types import TracebackType


class TcpProxy:
    """A proxy to one Unix socket; a context manager.

    Attributes:
        mode: "pass"; "refuse" resets every connection; "hang" takes requests and answers none.
        requests: chunks that clients sent since the last `lose_reply`, about one a request.
        dropped: whether the reply that was to be lost has been.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self.mode = "pass"
        self.requests = 0
        self.dropped = False
        self._lose = 0
        self._loop = asyncio.new_event_loop()
        self._connections: set[asyncio.Task[None]] = set()

    def __enter__(self) -> TcpProxy:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._run, name="tcpproxy", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._main.cancel)
        self._thread.join(5)

    def set_mode(self, mode: str) -> None:
        """Change the mode, and close every connection made before."""
        self.mode = mode
        self._loop.call_soon_threadsafe(self._end_all)

    def lose_reply(self, number: int) -> None:
        """Count requests from now on, and lose the reply to the ``number``-th; 0 for none."""
        self.requests, self.dropped, self._lose = 0, False, number

    def _end_all(self) -> None:
        for connection in self._connections:
            connection.cancel()

    def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._main = asyncio.current_task() or self._loop.create_task(asyncio.sleep(0))
        server = await asyncio.start_server(self._accept, sock=self._listener)
        try:
            await server.serve_forever()
        finally:
            self._end_all()
            await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._connections.add(task)
        try:
            await self._converse(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            _reset(writer)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mode == "refuse":
            return
        if self.mode == "hang":
            await reader.read()  # until the client gives up
            return
        server_reader, server_writer = await asyncio.open_unix_connection(self._target)
        doomed = asyncio.Event()
        pumps = [
            asyncio.create_task(self._requests(reader, server_writer, doomed)),
            asyncio.create_task(self._replies(server_reader, writer, doomed)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            server_writer.close()

    async def _requests(
        self, reader: asyncio.StreamReader, server: asyncio.StreamWriter, doomed: asyncio.Event
    ) -> None:
        while chunk := await reader.read(65536):
            self.requests += 1
            if self._lose and self.requests == self._lose:
                doomed.set()
            server.write(chunk)
            await server.drain()

    async def _replies(
        self, server: asyncio.StreamReader, writer: asyncio.StreamWriter, doomed: asyncio.Event
    ) -> None:
        while chunk := await server.read(65536):
            if doomed.is_set():
                self.dropped = True
                return  # the server has done the work, but its reply is lost
            writer.write(chunk)
            await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
