"""How does a large file come in? Piece by piece to a thread of its own, at no less than some rate.

A form with a file, and a provider's call that brings a result, are the requests that Django begins
to answer before their body is there: so a client without a key, or a call for no job, is refused
before it has sent anything. The event loop receives; a thread asks it for the next piece, so
nothing is buffered. There are few such threads, the seats, and no other request waits for one.
"""

from __future__ import annotations

import asyncio
import io
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from granian.rsgi import ProtocolClosed  # type: ignore[attr-defined]

#: The slowest rate, in bytes per second; who has sent faster may pause, but no longer than others.
SLOWEST_RATE = 16 * 1024
FORM = "multipart/form-data"
CONTENT_TYPE = "CONTENT_TYPE"
#: Where providers call: `tasks_app.api.providers.ProviderCallbackView`.
CALLBACK = re.compile(r"/api/v1/providers/[^/]+/callback/[0-9a-f]{48}")


class Uploads:
    """The seats for uploads in one process.

    Args:
        path: the only address to which they go.
        seats: uploads at once.
        limit_bytes: the longest body.
        pause_seconds: how long a client may send nothing; also its credit against the rate.
    """

    def __init__(self, path: str, seats: int, limit_bytes: int, pause_seconds: float) -> None:
        self.limit_bytes = limit_bytes
        self.pause_seconds = pause_seconds
        self.threads = ThreadPoolExecutor(seats, thread_name_prefix="upload")
        self._path = path
        self._seats = seats
        self._taken = 0

    def takes(self, environ: dict[str, Any]) -> bool:
        """Say whether a request is an upload."""
        kind = environ.get(CONTENT_TYPE, "").lower()
        is_form = environ["REQUEST_METHOD"] == "POST" and kind.startswith(FORM)
        return bool(is_form and environ["PATH_INFO"] == self._path)

    def take_seat(self) -> bool:
        """Take a seat, in the loop; say whether one was free."""
        if self._taken >= self._seats:
            return False
        self._taken += 1
        return True

    def free_seat(self) -> None:
        """Give a seat back, in the loop."""
        self._taken -= 1


class LargeCallbacks(Uploads):
    """The seats for providers' calls that are larger than other requests may be.

    Args:
        above_bytes: shorter calls are received like any other request.
        seats, limit_bytes, pause_seconds: as of `Uploads`.
    """

    def __init__(
        self, above_bytes: int, seats: int, limit_bytes: int, pause_seconds: float
    ) -> None:
        super().__init__("", seats, limit_bytes, pause_seconds)
        self._above_bytes = above_bytes

    def takes(self, environ: dict[str, Any]) -> bool:
        """Say whether a request is such a call; one without a length may become one."""
        length = environ.get("CONTENT_LENGTH")
        is_large = length is None or int(length) > self._above_bytes
        is_call = environ["REQUEST_METHOD"] == "POST" and CALLBACK.fullmatch(environ["PATH_INFO"])
        return bool(is_call and is_large)


class UploadBody:
    """A body that is received while it is read (`wsgi.input`); read by one thread.

    Args:
        length: as announced; None for a chunked body.
    """

    def __init__(
        self,
        protocol: Any,
        loop: asyncio.AbstractEventLoop,
        length: int | None,
        pause_seconds: float,
    ) -> None:
        self._chunks = aiter(protocol)
        self._loop = loop
        self._length = length
        self._received = 0
        self._is_over = length == 0
        self._rest = b""
        self._pause_seconds = pause_seconds
        self._credit_seconds = pause_seconds

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes of the next piece; nothing at the end.

        Raises:
            TimeoutError: it comes too slowly. ConnectionError: it broke off.
        """
        if not self._rest and not self._is_over:
            coming = asyncio.run_coroutine_threadsafe(self._next(), self._loop)
            # The loop keeps the time; longer only where it has been stopped with the process.
            self._rest = coming.result(2 * self._pause_seconds + 5)
        piece = self._rest if size < 0 else self._rest[:size]
        self._rest = self._rest[len(piece) :]
        return piece

    def readline(self, size: int = -1) -> bytes:
        """Refuse: Django wants the method, and does not call it for a form."""
        raise io.UnsupportedOperation

    async def _next(self) -> bytes:
        while True:
            began = self._loop.time()
            try:
                async with asyncio.timeout(self._credit_seconds):
                    piece: bytes = await anext(self._chunks)
            except StopAsyncIteration:
                return self._end()
            except ProtocolClosed:
                raise ConnectionError("the client is gone") from None
            self._received += len(piece)
            # Only the time that the client took counts, not how long its last piece was written.
            left = self._credit_seconds - (self._loop.time() - began) + len(piece) / SLOWEST_RATE
            self._credit_seconds = min(self._pause_seconds, left)
            if self._credit_seconds <= 0:
                raise TimeoutError
            if piece:
                return piece

    def _end(self) -> bytes:
        self._is_over = True
        if self._length is not None and self._received != self._length:
            raise ConnectionError("the body was cut short")
        return b""
