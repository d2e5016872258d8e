"""What does a remote provider answer? A stand-in over real HTTP that follows a script.

It knows no protocol: a script maps "METHOD /path" to answers, each request takes the next one
and the last repeats. A path that ends in "/" stands for all below it. A dict is a JSON body with
status 200.
"""

from __future__ import annotations

import io
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from PIL import Image


class Reply(NamedTuple):
    """A status, a body, further headers, and seconds to wait before."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = {}
    delay: float = 0.0


class Stream(NamedTuple):
    """An answer that comes part by part; a number is that many seconds, True means until the end.

    What the parts are may depend on what the client does meanwhile, so they are made anew for each
    request.
    """

    parts: Callable[[], Iterable[bytes | float | bool]]
    content_type: str = "text/event-stream"


class Through(NamedTuple):
    """Hand the request on to another server, and its answer back, as a proxy in front does."""

    url: str


class Seen(NamedTuple):
    """One request."""

    call: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class FakeProvider:
    """The server; a context manager. ``url`` is its base URL."""

    def __init__(self, script: dict[str, list[Any]] | None = None) -> None:
        self.script = script or {}
        self.seen: list[Seen] = []
        self.open_streams = self.most_streams = 0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                fake.answer(self)

            do_GET = do_POST = do_PUT = do_DELETE = answer

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FakeProvider:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        size = int(request.headers.get("content-length", 0))
        call = f"{request.command} {request.path}"
        headers = {name.lower(): value for name, value in request.headers.items()}
        seen = Seen(call, headers, request.rfile.read(size))
        self.seen.append(seen)
        folder = call.partition("?")[0].rsplit("/", 1)[0] + "/"
        above = folder.rstrip("/").rsplit("/", 1)[0] + "/"
        keys = (key for key in (call, folder, above) if key in self.script)
        replies = self.script.get(next(keys, "")) or [Reply(404)]
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        if isinstance(reply, Through):
            reply = _handed_on(seen, reply.url)
        if isinstance(reply, dict):
            reply = Reply(body=json.dumps(reply).encode())
        if isinstance(reply, Stream):
            return self._stream(request, reply)
        self._stopped.wait(reply.delay)
        try:
            request.send_response(reply.status)
            for name, value in {"content-length": str(len(reply.body)), **reply.headers}.items():
                request.send_header(name, value)
            request.end_headers()
            request.wfile.write(reply.body)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def _stream(self, request: BaseHTTPRequestHandler, reply: Stream) -> None:
        with self._lock:
            self.open_streams += 1
            self.most_streams = max(self.most_streams, self.open_streams)
        request.close_connection = True
        try:
            request.send_response(200)
            request.send_header("content-type", reply.content_type)
            request.end_headers()
            for part in reply.parts():
                if isinstance(part, bytes):
                    request.wfile.write(part)
                elif part is True:
                    self._wait_for_close(request)
                else:
                    self._stopped.wait(part)
                if self._stopped.is_set():
                    break
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            with self._lock:
                self.open_streams -= 1

    def _wait_for_close(self, request: BaseHTTPRequestHandler) -> None:
        request.connection.settimeout(0.05)
        while not self._stopped.is_set():
            try:
                if not request.connection.recv(1):
                    return
            except TimeoutError:
                continue

    def count(self, call: str) -> int:
        return len(self.calls(call))

    def calls(self, call: str) -> list[Seen]:
        """Return the requests of that call; one that ends in "/" stands for all below it."""
        if call.endswith("/"):
            return [seen for seen in self.seen if seen.call.startswith(call)]
        return [seen for seen in self.seen if seen.call == call]


def _handed_on(seen: Seen, url: str) -> Reply:
    method, _, path = seen.call.partition(" ")
    headers = {"Content-Type": seen.headers.get("content-type", "application/octet-stream")}
    asked = urllib.request.Request(url + path, seen.body or None, headers, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return Reply(answer.status, answer.read())
    except urllib.error.HTTPError as error:
        return Reply(error.code, error.read())


def png(width: int = 64, height: int = 36) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (40, 60, 90)).save(stream, "PNG")
    return stream.getvalue()
