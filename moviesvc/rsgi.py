"""What does the web server call? Django in threads, behind an event loop that waits for clients.

A client may be slow at sending its body or reading a file; neither occupies a thread. The loop
receives each body completely, in a limited time, before a thread gets the request. The server
sends files itself, by their path; large ones need one of a limited number of seats. Slower clients
are disconnected.
"""

from __future__ import annotations

import asyncio
import io
import sys
import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from wsgiref.util import FileWrapper

import structlog
from granian.rsgi import ProtocolClosed  # type: ignore[attr-defined]

from moviesvc import problems
from moviesvc.clients import connections
from moviesvc.clients.transfers import Transfers
from moviesvc.clients.uploads import UploadBody, Uploads
from moviesvc.run import lifeline, watchdog
from webhooks_app.api.problems import ApiProblem

logger = structlog.get_logger(__name__)

WSGIApplication = Callable[[dict[str, Any], Any], Iterable[bytes]]
Headers = list[tuple[str, str]]

BODILESS_METHODS = {"GET", "HEAD", "OPTIONS", "TRACE"}
#: Larger bodies and files need a seat; smaller ones fit into a connection's own buffers.
SMALL_BYTES = 64 * 1024
#: The slowest rate, in bytes per second, at which a large body or file may be transferred.
SLOWEST_RATE = 16 * 1024
#: Large bodies that one process receives at once; each may take a megabyte of memory.
LARGE_BODIES = 64
#: Django parses this header before any middleware, in a time that grows with its length.
LONGEST_CONTENT_TYPE = 1_024
CONTENT_TYPE = "CONTENT_TYPE"
CONNECTION = "moviesvc.connection"
CUT_SHORT = "The request's body was cut short."
SOON = {"Retry-After": "1"}
#: Replaces a header value that is not ASCII: the header is present, but no value matches.
UNREADABLE = "\xef\xbf\xbd"


class Front:
    """An RSGI application around a WSGI one.

    Args:
        threads: requests that Django answers at once.
        limit_bytes: the largest body; Django sees one byte more of a longer one and answers 413.
        transfers: large files that are sent at once.
        uploads: the seats of requests whose bodies may be longer.
        body_seconds: time for a small body, and for each pause within a large one.
        write_seconds: how long a client may read nothing of its answer.
    """

    def __init__(
        self,
        application: WSGIApplication,
        *,
        threads: int,
        limit_bytes: int,
        transfers: int = 256,
        uploads: Sequence[Uploads] = (),
        body_seconds: float = 15.0,
        write_seconds: float = 30.0,
    ) -> None:
        self.finished = 0
        self._application = application
        self._limit_bytes = limit_bytes
        self._body_seconds = body_seconds
        self._write_seconds = write_seconds
        self._thread_count = threads
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="web")
        self._running = 0
        self._large_bodies = 0
        self._transfers = Transfers(transfers)
        self._uploads = uploads
        self._tasks: list[asyncio.Task[None]] = []
        self._common = {
            "SCRIPT_NAME": "",
            "wsgi.version": (1, 0),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            "wsgi.file_wrapper": FileWrapper,
        }

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start watching transfers, once the loop runs and the server listens."""
        self._loop = loop
        loop.call_soon(connections.limit_unread_writes, self._write_seconds)
        loop.call_soon(self._begin_to_watch)

    def _begin_to_watch(self) -> None:
        self._tasks.append(self._loop.create_task(self._transfers.watch()))
        if touch := lifeline.sign_of_life():
            self._tasks.append(self._loop.create_task(watchdog.beat(self, touch)))

    def has_room(self) -> bool:
        """Whether a thread is free, so that no request waits."""
        return self._running < self._thread_count

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        environ = self._environ(scope)
        try:
            if len(environ.get(CONTENT_TYPE, "")) > LONGEST_CONTENT_TYPE:
                detail = f"A Content-Type may have at most {LONGEST_CONTENT_TYPE} characters."
                raise ApiProblem(431, "headers_too_long", detail)
            for uploads in self._uploads:
                if uploads.takes(environ):
                    await self._take_upload(uploads, environ, protocol)
                    return
            if scope.method not in BODILESS_METHODS:
                await self._take_body(environ, protocol)
        except ApiProblem as problem:
            _refuse(environ, protocol, problem)
            return
        self._running += 1
        await self._answered(self._threads, environ, protocol, self._free_thread)

    async def _take_upload(self, uploads: Uploads, environ: dict[str, Any], protocol: Any) -> None:
        """Answer a request whose body is received while Django reads it.

        Raises:
            ApiProblem: there is no seat.
        """
        announced = environ.get("CONTENT_LENGTH")
        length = None if announced is None else int(announced)
        if length is None and "HTTP_TRANSFER_ENCODING" in environ:
            environ["CONTENT_LENGTH"] = str(uploads.limit_bytes)  # without one Django reads nothing
        elif length is None:
            length = 0
        if not uploads.take_seat():
            detail = "Other clients are still uploading. Try again in a second."
            raise ApiProblem(503, "busy", detail, headers=SOON)
        environ["wsgi.input"] = UploadBody(protocol, self._loop, length, uploads.pause_seconds)
        await self._answered(uploads.threads, environ, protocol, uploads.free_seat)

    async def _answered(
        self,
        threads: ThreadPoolExecutor,
        environ: dict[str, Any],
        protocol: Any,
        free: Callable[[], None],
    ) -> None:
        """Let Django answer in a thread; ``free`` is called in the loop when the thread is free."""
        done: asyncio.Future[None] = self._loop.create_future()
        threads.submit(self._answer, environ, protocol, done, free)
        await done

    def _free_thread(self) -> None:
        self._running -= 1

    # -- the request, in the loop ---------------------------------------------------------

    def _environ(self, scope: Any) -> dict[str, Any]:
        name, _, port = scope.server.rpartition(":")
        environ = {
            **self._common,
            "REQUEST_METHOD": scope.method,
            "PATH_INFO": scope.path.encode().decode("latin-1"),
            "QUERY_STRING": scope.query_string,
            "SERVER_NAME": name.strip("[]"),
            "SERVER_PORT": port,
            "SERVER_PROTOCOL": f"HTTP/{scope.http_version}",
            "REMOTE_ADDR": scope.client.rpartition(":")[0].strip("[]"),
            "wsgi.url_scheme": scope.scheme,
            CONNECTION: connections.ends_of(scope.server, scope.client),
            "wsgi.input": io.BytesIO(),
        }
        _add_headers(environ, scope.headers)
        return environ

    async def _take_body(self, environ: dict[str, Any], protocol: Any) -> None:
        """Put the whole body, with its length, where Django reads it.

        Django would read a chunked body as empty.

        Raises:
            ApiProblem: it comes too slowly or incompletely, or too many large bodies are coming.
        """
        length = environ.get("CONTENT_LENGTH")
        if length is None and "HTTP_TRANSFER_ENCODING" not in environ:
            return
        if length is not None and int(length) > self._limit_bytes:
            return  # Django refuses it by its length, without reading it
        try:
            if length is not None and int(length) <= SMALL_BYTES:
                async with asyncio.timeout(self._body_seconds):
                    body = await protocol()
            else:
                body = await self._large_body(protocol)
        except TimeoutError:
            detail = "The request's body did not come in time. Send it faster, without pauses."
            raise ApiProblem(408, "request_timeout", detail) from None
        except ProtocolClosed:  # the client is gone
            raise ApiProblem(400, "bad_request", CUT_SHORT) from None
        environ["wsgi.input"] = io.BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body))

    async def _large_body(self, protocol: Any) -> bytes:
        """Return a body, cut one byte above the limit, so that Django answers 413."""
        if self._large_bodies >= LARGE_BODIES:
            detail = "Other clients are still sending their bodies. Try again in a second."
            raise ApiProblem(503, "busy", detail, headers=SOON)
        self._large_bodies += 1
        try:
            async with asyncio.timeout(self._body_seconds + self._limit_bytes / SLOWEST_RATE):
                return await self._read(protocol)
        finally:
            self._large_bodies -= 1

    async def _read(self, protocol: Any) -> bytes:
        body, ends = bytearray(), 0
        chunks = aiter(protocol)
        while len(body) <= self._limit_bytes:
            async with asyncio.timeout(self._body_seconds):
                try:
                    # Without a default: the server's awaitable cannot be cancelled inside another.
                    chunk = await anext(chunks)
                except StopAsyncIteration:
                    break
            body += chunk
            ends += not chunk
        if ends > 1:  # the server's only sign of a client that broke off, or sent trailers
            raise ApiProblem(400, "bad_request", CUT_SHORT)
        return bytes(body[: self._limit_bytes + 1])

    # -- the answer, in a thread ----------------------------------------------------------

    def _answer(
        self,
        environ: dict[str, Any],
        protocol: Any,
        done: asyncio.Future[None],
        free: Callable[[], None],
    ) -> None:
        try:
            self._respond(environ, protocol)
        except ApiProblem as problem:
            _refuse(environ, protocol, problem)
        except Exception as error:  # an error that Django did not turn into an answer
            logger.exception("A request could not be answered", error=type(error).__name__)
            ours = ApiProblem(500, "internal_error", "Something went wrong here.")
            _refuse(environ, protocol, ours)
        finally:
            self._loop.call_soon_threadsafe(self._finish, done, free)

    def _finish(self, done: asyncio.Future[None], free: Callable[[], None]) -> None:
        """Note, in the loop, that a thread is free; the waiting request may be gone already."""
        free()
        self.finished += 1
        if not done.cancelled():
            done.set_result(None)

    def _respond(self, environ: dict[str, Any], protocol: Any) -> None:
        status, headers = 500, Headers()

        def start_response(line: str, given: Headers, exc_info: object = None) -> None:
            nonlocal status, headers
            status, headers = int(line[:3]), given

        result: Any = self._application(environ, start_response)
        try:
            if environ["REQUEST_METHOD"] == "HEAD":
                protocol.response_empty(status, headers)
            elif isinstance(result, FileWrapper) and isinstance(result.filelike.name, str):
                self._send_file(result.filelike, status, headers, protocol, environ[CONNECTION])
            elif getattr(result, "streaming", False):
                _stream(result, protocol.response_stream(status, headers))
            else:
                protocol.response_bytes(status, headers, b"".join(result))
        finally:
            result.close()

    def _send_file(
        self, file: Any, status: int, headers: Headers, protocol: Any, ends: connections.Ends
    ) -> None:
        """Let the server send a file by its path; a large one needs a seat.

        Its connection is closed afterwards, the only sign that the transfer has ended.
        """
        size, first = int(dict(headers)["Content-Length"]), file.tell()
        if not size:
            protocol.response_empty(status, headers)
            return
        if size > SMALL_BYTES:
            seconds = 2 * self._write_seconds + size / SLOWEST_RATE
            if not self._transfers.take_seat(ends, seconds):
                detail = "Too many files are being sent. Try again in a second."
                raise ApiProblem(503, "busy", detail, headers=SOON)
            headers.append(("Connection", "close"))
        protocol.response_file_range(status, headers, file.name, first, first + size)


def _add_headers(environ: dict[str, Any], headers: Any) -> None:
    """Add a request's headers under their CGI names.

    There `-` becomes `_`, so a name with an underscore could pass for another header. It is
    dropped, as in nginx and gunicorn; otherwise a client could forge a header that a proxy sets.
    """
    for name in headers.keys():  # noqa: SIM118 - no dict
        if "_" not in name:
            values = headers.get_all(name)
            joined = ("; " if name == "cookie" else ",").join(values) if values else UNREADABLE
            environ["HTTP_" + name.upper().replace("-", "_")] = joined
    for name in (CONTENT_TYPE, "CONTENT_LENGTH"):
        if (value := environ.pop(f"HTTP_{name}", None)) is not None:
            environ[name] = value


def _stream(result: Iterable[bytes], transport: Any) -> None:
    try:
        for chunk in result:
            next(transport.send_bytes(chunk), None)  # an awaitable that need not be waited for
    except ProtocolClosed:
        return


def _refuse(environ: dict[str, Any], protocol: Any, problem: ApiProblem) -> None:
    """Answer here, with a problem in the same form as Django's."""
    path = environ["PATH_INFO"].encode("latin-1").decode(errors="replace")
    body = problems.body_of(problem, path, uuid.uuid4().hex)
    headers = [("Content-Type", problems.CONTENT_TYPE), *problem.headers.items()]
    protocol.response_bytes(problem.status_code, headers, body)
