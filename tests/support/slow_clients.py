"""What do slow clients send to the web server, in tests? Requests as bytes, over their sockets."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from tasks_app.media import serve
from tests.support import factories
from tests.support.server import WebServer

SUBMIT = "/api/v1/tasks/submit"
BODY = {**factories.SEED_REQUEST, "task_data": {"prompt": "a lamp"}}


def padded_body(length: int) -> bytes:
    """Return the body of a valid submit, as long as asked for."""
    return json.dumps(BODY).encode().ljust(length)


def submit_head(key: str, length: int = 1_000) -> bytes:
    """The head of a submit that announces a body."""
    lines = [f"POST {SUBMIT} HTTP/1.1", "Host: 127.0.0.1", f"X-API-Key: {key}"]
    lines += ["Content-Type: application/json", f"Content-Length: {length}", "", ""]
    return "\r\n".join(lines).encode()


def download(path: str) -> bytes:
    """A request for a file."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


def stored_film(media_root: Path, public_url: str, size_bytes: int) -> str:
    """Store a film of zeros and return its path on the server."""
    file = factories.make_media_file(size_bytes=size_bytes)
    place = media_root / file.path
    place.parent.mkdir(parents=True)
    with place.open("wb") as handle:
        handle.truncate(size_bytes)
    return serve.media_url(file).removeprefix(public_url)


def connect(server: WebServer, request: bytes, *, window: int = 4096) -> socket.socket:
    """Connect with a small receive buffer, and send these bytes."""
    client = socket.socket()
    # Set before it connects: otherwise the system buffers megabytes for the client.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    client.settimeout(20)
    client.connect(("127.0.0.1", server.port))
    client.sendall(request)
    return client
