"""Does everybody else go on while clients are slow, silent, or do not read what they asked for?"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import psutil
import pytest

from moviesvc.rsgi import SMALL_BYTES
from tasks_app.media import store
from tests.support import factories
from tests.support.server import WebServer, no_renders
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.long, pytest.mark.django_db(transaction=True)]

SUBMIT = "/api/v1/tasks/submit"
BODY = {**factories.SEED_REQUEST, "task_data": {"prompt": "a lamp"}}
RUDE = 200
#: Long enough to measure meanwhile, short enough to see the end.
DEADLINE = 6.0
MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def media_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server's media folder."""
    return tmp_path_factory.mktemp("rude_media")


@pytest.fixture(scope="module")
def server(django_db_setup: None, django_db_blocker: Any, media_root: Path) -> Iterator[WebServer]:
    """The web processes, with deadlines that a test can wait for."""
    seconds = {name: str(DEADLINE) for name in ("BODY_TIMEOUT_SECONDS", "WRITE_TIMEOUT_SECONDS")}
    environment = {**seconds, **no_renders(), "MEDIA_ROOT": str(media_root)}
    with django_db_blocker.unblock():
        running = WebServer(**environment)
        running._set("--http1-header-read-timeout", str(int(DEADLINE * 1000)))
        with running:
            yield running


@pytest.fixture
def film(media_root: Path, settings: Any) -> str:
    """The path of a stored film of 19 MB."""
    file = factories.make_media_file(size_bytes=19 * MEGABYTE)
    place = media_root / file.path
    place.parent.mkdir(parents=True)
    with place.open("wb") as handle:
        handle.truncate(file.size_bytes)
    return store.media_url(file).removeprefix(settings.PUBLIC_URL)


def silent_body(key: str, length: int = 1_000) -> bytes:
    """A submit that announces a body."""
    lines = [f"POST {SUBMIT} HTTP/1.1", "Host: 127.0.0.1", f"X-API-Key: {key}"]
    lines += ["Content-Type: application/json", f"Content-Length: {length}", "", ""]
    return "\r\n".join(lines).encode()


def download(path: str) -> bytes:
    """A request for a file."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


HALF_HEAD = b"GET /api/v1/tasks HTTP/1.1\r\nHost: a\r\nX-A: "


@contextmanager
def crowd(server: WebServer, *requests: bytes) -> Iterator[list[socket.socket]]:
    """Open 200 connections for each kind of request, say so much, and neither send nor read."""
    with ExitStack() as stack:
        connections = []
        for request in requests * RUDE:
            rude = stack.enter_context(socket.socket())
            # Before it connects: else the system takes megabytes on the client's behalf.
            rude.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            rude.settimeout(10)
            rude.connect(("127.0.0.1", server.port))
            rude.sendall(request)
            connections.append(rude)
        yield connections


def slowest_of_a_hundred(server: WebServer, key: str) -> float:
    """Return the 99th percentile, in seconds, of 120 submits and 120 health requests."""

    def timed(number: int) -> float:
        before = time.monotonic()
        if number % 2:
            assert server.call("GET", "/api/v1/health").status == 200
        else:
            assert server.call("POST", SUBMIT, BODY, key=key).status == 201
        return time.monotonic() - before

    with ThreadPoolExecutor(4) as pool:
        return sorted(pool.map(timed, range(240)))[-3]


def open_connections(server: WebServer) -> int:
    """Count the connections that the web processes keep open.

    Asked on this side, since a client that does not read is not told.
    """
    processes = psutil.Process(server.process.pid).children(recursive=True)
    found = [each for process in processes for each in process.net_connections("tcp")]
    return sum(each.raddr != () and each.laddr.port == server.port for each in found)


def test_six_hundred_rude_clients_keep_nobody_out(
    server: WebServer, api_key: str, film: str
) -> None:
    """Bodies, files and heads that nobody goes on with, all at once: then each is cut off."""
    # A second, but on a machine that does other things as well no less than it takes without them.
    bound = max(1.0, 3 * slowest_of_a_hundred(server, api_key))
    with crowd(server, silent_body(api_key), download(film), HALF_HEAD):
        assert server.call("GET", "/api/v1/health").status == 200, "behind 200 films"
        assert slowest_of_a_hundred(server, api_key) < bound
        assert open_connections(server) >= 3 * RUDE, "measured too late"
        wait_until(lambda: not open_connections(server), timeout=4 * DEADLINE)
    assert slowest_of_a_hundred(server, api_key) < bound


def test_a_steady_reader_and_a_steady_sender_are_not_cut_off(
    server: WebServer, api_key: str, film: str
) -> None:
    """What takes longer than the deadline, but never pauses, is taken and given whole."""
    body = json.dumps({**BODY, "metadata": {"pad": "a" * 15_000}}).encode()
    body += b" " * (SMALL_BYTES - len(body) + 1)
    with (
        closing(socket.create_connection(("127.0.0.1", server.port), 10)) as sender,
        closing(socket.create_connection(("127.0.0.1", server.port), 10)) as reader,
    ):
        sender.sendall(silent_body(api_key, len(body)))
        reader.sendall(download(film))
        steps = int(DEADLINE * 1.25 / 0.2)
        got = 0
        for number in range(steps):
            first, end = number * len(body) // steps, (number + 1) * len(body) // steps
            sender.sendall(body[first:end])
            got += len(reader.recv(200_000))
            Event().wait(0.2)
        assert sender.recv(1000).startswith(b"HTTP/1.1 201")
        while chunk := reader.recv(MEGABYTE):
            got += len(chunk)
    assert got > 19 * MEGABYTE


def test_a_body_that_does_not_come_is_answered(server: WebServer, api_key: str) -> None:
    """The client hears 408, as a problem, and the connection is closed."""
    answer = server.raw(silent_body(api_key), timeout=2 * DEADLINE)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b'"code": "request_timeout"' in answer


def test_a_file_has_its_size_for_head_and_closes_its_connection(
    server: WebServer, api_key: str, film: str
) -> None:
    """HEAD tells the length and sends nothing; a range is sent to the byte."""
    head = server.call("HEAD", film)
    assert (head.headers["Content-Length"], head.content) == (str(19 * MEGABYTE), b"")
    part = server.call("GET", film, headers={"Range": "bytes=100-199999"})
    assert (part.status, len(part.content)) == (206, 199_900)
    assert part.headers["Content-Range"] == f"bytes 100-199999/{19 * MEGABYTE}"
    small = server.call("GET", film, headers={"Range": "bytes=-10"})
    assert (small.status, len(small.content)) == (206, 10)
