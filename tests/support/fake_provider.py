"""What does a remote provider answer? A stand-in over real HTTP that follows a script.

It knows no protocol: a script maps "METHOD /path" to answers, each request takes the next one
and the last repeats. A path that ends in "/" stands for all below it. A dict is a JSON body with
status 200.
"""

from __future__ import annotations

import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from PIL import Image


class Reply(NamedTuple):
    """A status, a body, further headers, and seconds to wait before."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = {}
    delay: float = 0.0


class Seen(NamedTuple):
    """One request."""

    call: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class FakeProvider:
    """The server; a context manager. ``url`` is its base URL."""

    def __init__(self, script: dict[str, list[Reply | dict]] | None = None) -> None:
        self.script = script or {}
        self.seen: list[Seen] = []
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
        self.seen.append(Seen(call, headers, request.rfile.read(size)))
        folder = call.partition("?")[0].rsplit("/", 1)[0] + "/"
        above = folder.rstrip("/").rsplit("/", 1)[0] + "/"
        keys = (key for key in (call, folder, above) if key in self.script)
        replies = self.script.get(next(keys, "")) or [Reply(404)]
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        if isinstance(reply, dict):
            reply = Reply(body=json.dumps(reply).encode())
        self._stopped.wait(reply.delay)
        try:
            request.send_response(reply.status)
            for name, value in {"content-length": str(len(reply.body)), **reply.headers}.items():
                request.send_header(name, value)
            request.end_headers()
            request.wfile.write(reply.body)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def count(self, call: str) -> int:
        return len(self.calls(call))

    def calls(self, call: str) -> list[Seen]:
        """Return the requests of that call; one that ends in "/" stands for all below it."""
        if call.endswith("/"):
            return [seen for seen in self.seen if seen.call.startswith(call)]
        return [seen for seen in self.seen if seen.call == call]


def png(width: int = 64, height: int = 36) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (40, 60, 90)).save(stream, "PNG")
    return stream.getvalue()
