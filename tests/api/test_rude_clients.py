"""Do other clients get answers while some are slow, silent, or do not read?"""

from __future__ import annotations

import itertools
import math
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from moviesvc.rsgi import SMALL_BYTES
from tests.support import slow_clients
from tests.support.family import answers, family
from tests.support.server import WebServer, no_renders
from tests.support.slow_clients import BODY, SUBMIT
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

RUDE = 200
#: Long enough to measure meanwhile, short enough to see the end.
DEADLINE = 2.0
MEGABYTE = 1 << 20
HALF_HEAD = b"GET /api/v1/tasks HTTP/1.1\r\nHost: a\r\nX-A: "
#: So many answers measured are enough; there are 240 on a machine that has little else to do.
ENOUGH = 60


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
    """Return the path of a stored film of 19 MB."""
    return slow_clients.stored_film(media_root, settings.PUBLIC_URL, 19 * MEGABYTE)


@contextmanager
def crowd(server: WebServer, *requests: bytes) -> Iterator[None]:
    """Open 200 connections for each kind of request, send some bytes, then do nothing."""
    with ExitStack() as stack:
        for request in requests * RUDE:
            stack.enter_context(slow_clients.connect(server, request))
        yield


def answer_times(server: WebServer, key: str, until: float = math.inf) -> list[float]:
    """Return the seconds of 120 submits and 120 health requests that end in time."""

    def timed(number: int) -> float | None:
        before = time.monotonic()
        if number % 2:
            assert server.call("GET", "/api/v1/health").status == 200
        else:
            assert server.call("POST", SUBMIT, BODY, key=key).status == 201
        return time.monotonic() - before if time.monotonic() < until else None

    with ThreadPoolExecutor(4) as pool:
        return [seconds for seconds in pool.map(timed, range(240)) if seconds]


def slowest_of_a_hundred(times: list[float]) -> float:
    """Return the 99th percentile."""
    return sorted(times)[-1 - len(times) // 100]


def open_connections(server: WebServer) -> int:
    """Count the connections that the web processes keep open.

    Asked on this side, since a client that does not read is not told.
    """
    found = answers(family(server.process.pid)[1:], lambda each: each.net_connections("tcp"))
    sockets = itertools.chain.from_iterable(found)
    return sum(each.raddr != () and each.laddr.port == server.port for each in sockets)


def test_six_hundred_rude_clients_keep_nobody_out(
    server: WebServer, api_key: str, film: str
) -> None:
    """Unfinished bodies, files and heads, all at once: each is disconnected in time."""
    # A second, but on a machine that does other things as well no less than it takes without them.
    bound = max(1.0, 3 * slowest_of_a_hundred(answer_times(server, api_key)))
    kinds = (slow_clients.submit_head(api_key), slow_clients.download(film), HALF_HEAD)

    def is_measured() -> bool:
        """Measure while all of them are connected; False if the machine was too slow for that."""
        first_ends_at = time.monotonic() + DEADLINE
        with crowd(server, *kinds):
            assert server.call("GET", "/api/v1/health").status == 200, "behind 200 films"
            is_full = open_connections(server) >= 3 * RUDE
            times = answer_times(server, api_key, until=first_ends_at)
            if not is_full or len(times) < ENOUGH:
                return False
            assert slowest_of_a_hundred(times) < bound
            wait_until(lambda: not open_connections(server), timeout=20)
            return True

    wait_until(is_measured, timeout=60)
    assert slowest_of_a_hundred(answer_times(server, api_key)) < bound


@contextmanager
def talking(server: WebServer, request: bytes) -> Iterator[socket.socket]:
    """Connect as most clients do, and send these bytes."""
    with closing(socket.create_connection(("127.0.0.1", server.port), 20)) as client:
        client.sendall(request)
        yield client


def test_who_is_steady_is_served_and_who_stops_is_told(
    server: WebServer, api_key: str, film: str
) -> None:
    """A transfer longer than the deadline but without pauses is received and sent completely.

    A body that does not come is answered meanwhile: 408, as a problem.
    """
    body = slow_clients.padded_body(SMALL_BYTES + 1)
    steps = int(DEADLINE * 1.25 / 0.1)

    def are_served() -> bool:
        got, pause, last = 0, 0.0, time.monotonic()
        with (
            talking(server, slow_clients.submit_head(api_key, len(body))) as sender,
            talking(server, slow_clients.download(film)) as reader,
            talking(server, slow_clients.submit_head(api_key)) as silent,
        ):
            for number in range(steps):
                first, end = number * len(body) // steps, (number + 1) * len(body) // steps
                with suppress(OSError):  # looked at below
                    sender.sendall(body[first:end])
                    got += len(reader.recv(100_000))
                Event().wait(0.1)
                pause, last = max(pause, time.monotonic() - last), time.monotonic()
            if pause > DEADLINE / 2:
                return False  # the machine did, and not the server
            assert sender.recv(1000).startswith(b"HTTP/1.1 201")
            while chunk := reader.recv(MEGABYTE):
                got += len(chunk)
            assert got > 19 * MEGABYTE
            answer = silent.recv(2000)
            assert answer.startswith(b"HTTP/1.1 408")
            assert b'"code":"request_timeout"' in answer
        return True

    wait_until(are_served, timeout=60)


def test_a_file_has_its_size_for_head_and_closes_its_connection(
    server: WebServer, api_key: str, film: str
) -> None:
    """HEAD gives the length and sends nothing; a range is sent exactly."""
    head = server.call("HEAD", film)
    assert (head.headers["Content-Length"], head.content) == (str(19 * MEGABYTE), b"")
    part = server.call("GET", film, headers={"Range": "bytes=100-199999"})
    assert (part.status, len(part.content)) == (206, 199_900)
    assert part.headers["Content-Range"] == f"bytes 100-199999/{19 * MEGABYTE}"
    small = server.call("GET", film, headers={"Range": "bytes=-10"})
    assert (small.status, len(small.content)) == (206, 10)
