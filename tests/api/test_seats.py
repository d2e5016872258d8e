"""Who gets a seat, what is the answer without one, and when is a seat free again?

Large files and large bodies each have a limited number of seats in each web process.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from moviesvc.rsgi import LARGE_BODIES, SMALL_BYTES
from tasks_app.models import Task
from tests.support import slow_clients
from tests.support.server import Answer, WebServer, no_renders
from tests.support.slow_clients import BODY, SUBMIT
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

SEATS = 2
#: What the second server grants each pause; a transfer has twice as much beyond its size's share.
PAUSE_SECONDS = 1.0
#: A reading in which nothing came for so long is taken anew.
STALLED_SECONDS = 3.0
FILM_BYTES = 19 << 20
HASTY_RATE = 6 << 20
LARGE_BYTES = SMALL_BYTES + 4_000


@pytest.fixture(scope="module")
def media_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The servers' media folder."""
    return tmp_path_factory.mktemp("seats_media")


@pytest.fixture(scope="module")
def server(django_db_setup: None, django_db_blocker: Any, media_root: Path) -> Iterator[WebServer]:
    """One web process with two seats for transfers and production's deadlines."""
    with django_db_blocker.unblock():
        seats = {"MEDIA_TRANSFERS": str(SEATS), "MEDIA_ROOT": str(media_root)}
        with WebServer(processes=1, **seats, **no_renders()) as running:
            yield running


@pytest.fixture(scope="module")
def hasty(django_db_setup: None, django_db_blocker: Any, media_root: Path) -> Iterator[WebServer]:
    """The same, with deadlines short enough for a test."""
    with django_db_blocker.unblock():
        names = ("BODY_TIMEOUT_SECONDS", "WRITE_TIMEOUT_SECONDS")
        given = dict.fromkeys(names, str(PAUSE_SECONDS))
        given |= {"MEDIA_TRANSFERS": str(SEATS), "MEDIA_ROOT": str(media_root)}
        running = WebServer(processes=1, **given, **no_renders())
        running._command[-1] = "tests.support.hasty_front:front"
        running._set("--host", "0.0.0.0")  # as in production
        with running:
            yield running


def is_told_to_come_back(answer: Answer) -> bool:
    """Say whether an answer is 503, after checking the rest of it."""
    if answer.status != 503:
        return False
    assert answer.headers["Retry-After"] == "1"
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "busy"
    return True


def seated(server: WebServer, path: str) -> socket.socket | None:
    """Begin to read a file and return the connection; None if there was no seat."""
    reader = slow_clients.connect(server, slow_clients.download(path))
    if reader.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 200":
        return reader
    reader.close()
    return None


def test_a_file_waits_for_a_seat_that_an_ended_or_left_transfer_frees(
    server: WebServer, media_root: Path, settings: Any
) -> None:
    """The end of a transfer frees exactly one seat; small files need none."""
    film = slow_clients.stored_film(media_root, settings.PUBLIC_URL, FILM_BYTES)

    def is_full() -> bool:
        return is_told_to_come_back(server.call("GET", film))

    def new_reader() -> socket.socket:
        taken = wait_until(lambda: seated(server, film), message="a seat is free")
        assert taken is not None
        return stack.enter_context(taken)

    with ExitStack() as stack:
        ends, leaves = new_reader(), new_reader()
        assert is_full()
        part = server.call("GET", film, headers={"Range": "bytes=-10"})
        assert (part.status, len(part.content)) == (206, 10)
        while ends.recv(1 << 20):
            pass
        new_reader()
        assert is_full()
        leaves.close()
        new_reader()
        assert is_full()
    for _ in range(50):  # who have gone before they are answered
        slow_clients.connect(server, slow_clients.download(film)).close()
    with ExitStack() as stack:
        for _ in range(SEATS):
            new_reader()
        assert is_full()


@dataclass
class Reading:
    """The result of one reader: the bytes it got, its seconds, the longest pause of its own."""

    received: int
    seconds: float
    pause: float


def read_at(rate: float, server: WebServer, path: str) -> Reading:
    """Read a file at a given rate, in bytes per second, until the server closes."""
    request = slow_clients.download(path)
    with closing(slow_clients.connect(server, request, window=1 << 16)) as reader:
        reader.settimeout(STALLED_SECONDS)
        begin = last = time.monotonic()
        received, pause = 0, 0.0
        while True:
            Event().wait(0.05)
            now = time.monotonic()
            pause, last = max(pause, now - last), now
            while received < (now - begin) * rate:
                try:
                    chunk = reader.recv(int((now - begin) * rate) - received + 1)
                except ConnectionResetError:
                    chunk = b""
                except TimeoutError:  # the machine let nobody work: to be taken anew
                    return Reading(received, now - begin, float("inf"))
                if not chunk:
                    return Reading(received, now - begin, pause)
                received += len(chunk)


def test_a_reader_below_the_slowest_rate_is_cut_off_and_one_above_it_is_not(
    hasty: WebServer, media_root: Path, settings: Any
) -> None:
    """Two readers without pauses: one is fast enough; the slow one loses its seat in time."""
    film = slow_clients.stored_film(media_root, settings.PUBLIC_URL, FILM_BYTES)

    def readings() -> list[Reading] | None:
        with ThreadPoolExecutor(2) as pool:
            rates = (HASTY_RATE * 1.1, HASTY_RATE / 3)
            both = [pool.submit(read_at, rate, hasty, film) for rate in rates]
            wait_until(lambda: is_told_to_come_back(hasty.call("GET", film)))
            found = [each.result() for each in both]
        # If the machine did not let them read for so long, the result says nothing.
        return found if max(each.pause for each in found) < PAUSE_SECONDS / 2 else None

    above, below = wait_until(readings, timeout=60) or []
    assert above.received > FILM_BYTES
    assert above.seconds > 2 * PAUSE_SECONDS, "its size counted"
    assert below.received < FILM_BYTES
    with ExitStack() as stack:
        for _ in range(SEATS):
            taken = wait_until(lambda: seated(hasty, film), message="a seat is free again")
            assert taken is not None
            stack.enter_context(taken)


class Sender:
    """A client that has sent half of a large body, and has a seat."""

    def __init__(self, server: WebServer, key: str) -> None:
        body = slow_clients.padded_body(LARGE_BYTES)
        self.rest = body[LARGE_BYTES // 2 :]
        first = slow_clients.submit_head(key, LARGE_BYTES) + body[: LARGE_BYTES // 2]
        self.connection = slow_clients.connect(server, first)

    def finish(self) -> int:
        """Send the rest and return the status of the answer."""
        with suppress(BrokenPipeError, ConnectionResetError):  # refused before
            self.connection.sendall(self.rest)
        return self.status()

    def status(self) -> int:
        """Wait for the answer and return its status."""
        return int(self.connection.recv(12, socket.MSG_WAITALL)[9:])


def test_a_large_body_waits_for_a_seat_while_small_ones_go_on(
    server: WebServer, api_key: str
) -> None:
    """The 65th body is refused even if complete; a finished and an aborted one free a seat each."""

    def large() -> Answer:
        return server.call("POST", SUBMIT, slow_clients.padded_body(LARGE_BYTES), key=api_key)

    def is_full() -> bool:
        return is_told_to_come_back(large())

    def is_taken() -> bool:
        return large().status == 201

    def new_sender() -> Sender:
        sender = Sender(server, api_key)
        stack.callback(sender.connection.close)
        return sender

    with ExitStack() as stack:
        ends, leaves, *_ = [new_sender() for _ in range(LARGE_BODIES)]
        wait_until(is_full, message="all have begun")
        for _ in range(5):
            assert server.call("POST", SUBMIT, BODY, key=api_key).status == 201
        assert is_full()
        assert ends.finish() == 201
        assert is_taken()
        new_sender()
        wait_until(is_full)
        leaves.connection.close()
        wait_until(is_taken)
        new_sender()
        wait_until(is_full)

    def all_are_taken() -> bool:
        senders = [new_sender() for _ in range(LARGE_BODIES)]
        return {sender.finish() for sender in senders} == {201}

    with ExitStack() as stack:
        wait_until(all_are_taken, message="who went took no seat along")


def test_large_bodies_that_stop_lose_their_seats(hasty: WebServer, api_key: str) -> None:
    """Each gets 408 after too long a pause, and the next one is accepted at once."""
    with ExitStack() as stack:
        senders = [Sender(hasty, api_key) for _ in range(LARGE_BODIES)]
        for sender in senders:
            stack.callback(sender.connection.close)
        assert {sender.status() for sender in senders} == {408}
    body = slow_clients.padded_body(LARGE_BYTES)
    assert hasty.call("POST", SUBMIT, body, key=api_key).status == 201


def test_a_large_body_below_the_slowest_rate_is_given_up(hasty: WebServer, api_key: str) -> None:
    """Its client never pauses, and still gets 408."""
    sender = Sender(hasty, api_key)
    with closing(sender.connection):
        sender.connection.settimeout(0.1)
        answer = b""
        for byte in sender.rest[:200]:
            with suppress(TimeoutError):
                answer = sender.connection.recv(12)
                break
            sender.connection.send(bytes([byte]))
    assert answer == b"HTTP/1.1 408"


@pytest.mark.parametrize("coding", ["length", "chunks"])
def test_a_large_body_that_is_cut_short_is_no_task(
    server: WebServer, api_key: str, coding: str
) -> None:
    """An incomplete body is refused, even if what came is valid JSON."""
    head, body = (
        slow_clients.submit_head(api_key, LARGE_BYTES),
        slow_clients.padded_body(LARGE_BYTES),
    )
    if coding == "chunks":
        head = head.replace(b"Content-Length: %d" % LARGE_BYTES, b"Transfer-Encoding: chunked")
        body = b"%x\r\n%s\r\n" % (len(body), body)
    with closing(slow_clients.connect(server, head + body[:-1])) as connection:
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 400"
    assert not Task.objects.exists()
