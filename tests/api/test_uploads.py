"""Do uploads hold through the real web server: too large, too slow, cut off, many at once?"""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from moviesvc.clients.uploads import SLOWEST_RATE
from tasks_app.media import mark
from tasks_app.models import MediaFile
from tasks_app.upkeep import sweep
from tasks_app.upkeep.orphans import remove_orphans
from tests.support import factories
from tests.support.server import Answer, WebServer, no_renders
from tests.support.uploads import ASSETS, CONTENT_TYPE, form, head, png
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.long, pytest.mark.django_db(transaction=True)]

MOST_BYTES = 2 << 20
#: More than the other requests' mebibyte.
LARGE = png(0, side=640)
SEATS = 3
PAUSE_SECONDS = 2.0
LONG_AGO_SECONDS = 7_200
#: A client that is not cut off by then never will be.
PATIENCE_SECONDS = 30.0


@dataclass
class Place:
    """A server, and where it keeps its files."""

    server: WebServer
    media: Path
    work: Path

    def files(self) -> list[Path]:
        """Return all files, in the storage and in work directories."""
        roots = (self.media, self.work)
        return [path for root in roots for path in root.rglob("*") if path.is_file()]

    def upload(self, key: str, content: bytes, **fields: str) -> Answer:
        """Send one file whole."""
        headers = {"Content-Type": CONTENT_TYPE}
        return self.server.call("POST", ASSETS, form(content, fields), key=key, headers=headers)


def place_in(root: Path, **environment: str) -> Place:
    """Return a server that is not started yet."""
    media, work = root / "media", root / "work"
    places = {"MEDIA_ROOT": str(media), "WORK_ROOT": str(work)}
    limits = {"ASSET_MAX_BYTES": str(MOST_BYTES), "UPLOADS": str(SEATS)}
    limits |= {"BODY_TIMEOUT_SECONDS": str(PAUSE_SECONDS), **environment}
    return Place(WebServer(processes=1, **places, **limits, **no_renders()), media, work)


@pytest.fixture(scope="module")
def shared(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """One web process with a few seats for uploads."""
    place = place_in(tmp_path_factory.mktemp("uploads"))
    with django_db_blocker.unblock(), place.server:
        yield place


@pytest.fixture
def place(shared: Place, settings: Any) -> Place:
    """The same with empty folders, which this process uses, too."""
    for path in shared.files():
        path.unlink()
    settings.MEDIA_ROOT, settings.WORK_ROOT = str(shared.media), str(shared.work)
    options = {"location": settings.MEDIA_ROOT}
    storage = {**settings.STORAGES["default"], "OPTIONS": options}
    settings.STORAGES = {**settings.STORAGES, "default": storage}
    return shared


@pytest.fixture
def key(db: None) -> str:
    """A key of one project."""
    return factories.make_api_key(project_id=factories.PROJECT)[1]


def answer_to(place: Place, *parts: bytes) -> bytes:
    """Send bytes over a connection that stays open; return what comes back until it is closed."""
    address = ("127.0.0.1", place.server.port)
    with closing(socket.create_connection(address, timeout=20)) as connection:
        for part in parts:
            connection.sendall(part)
        answer = b""
        while chunk := connection.recv(65_536):
            answer += chunk
    return answer


def chunked(body: bytes, *, end: bytes = b"0\r\n\r\n") -> bytes:
    pieces = [body[at : at + 50_000] for at in range(0, len(body), 50_000)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + end


def test_a_file_beyond_the_gate_of_other_requests_is_taken(place: Place, key: str) -> None:
    """More than a mebibyte is stored, with and without an announced length."""
    assert len(LARGE) > 1_048_576
    first = place.upload(key, LARGE)
    assert first.status == 201, first.content
    stored = place.media / MediaFile.objects.get().path
    assert stored.read_bytes() == LARGE
    again = answer_to(place, head(key, "Transfer-Encoding: chunked"), chunked(form(LARGE)))
    assert again.startswith(b"HTTP/1.1 201"), again[:300]
    assert first.json()["asset_id"].encode() in again
    assert place.files() == [stored]


def test_only_uploads_pass_the_gate(place: Place, key: str) -> None:
    """A form for another address, and JSON for this one, keep the limit of a mebibyte."""
    headers = {"Content-Type": CONTENT_TYPE}
    body = form(LARGE)
    submit = place.server.call("POST", "/api/v1/tasks/submit", body, key=key, headers=headers)
    assert submit.status in (413, 415)
    assert place.server.call("POST", ASSETS, body, key=key).status == 413


def test_who_may_not_upload_is_told_before_the_body(place: Place, key: str) -> None:
    """No key, a missing scope, and too many announced bytes are refused by the head alone."""
    reader = factories.make_api_key(scopes=["read"])[1]
    length = "Content-Length: 1000000"
    for sent, status in (
        (head("abcdefgh." + "x" * 32, length), 401),
        (head(reader, length), 403),
        (head(key, f"Content-Length: {MOST_BYTES + 70_000}"), 413),
    ):
        answer = answer_to(place, sent)
        assert answer.startswith(b"HTTP/1.1 %d" % status), answer[:300]
        assert b"application/problem+json" in answer
    assert place.files() == []


def test_more_bytes_than_announced_by_nobody_are_413(place: Place, key: str) -> None:
    """Without a length the bytes are counted while they come."""
    body = form(b"x" * (MOST_BYTES + 1))
    answer = answer_to(place, head(key, "Transfer-Encoding: chunked"), chunked(body))
    assert answer.startswith(b"HTTP/1.1 413"), answer[:300]
    wait_until(lambda: place.files() == [], message="nothing stays")
    assert MediaFile.objects.count() == 0


def test_an_upload_that_pauses_is_408(place: Place, key: str) -> None:
    """A client that sends nothing for too long loses its seat, and nothing of it stays."""
    body = form(LARGE)
    answer = answer_to(place, head(key, f"Content-Length: {len(body)}"), body[:300_000])
    assert answer.startswith(b"HTTP/1.1 408"), answer[:300]
    assert place.files() == []


def test_an_upload_below_the_rate_is_408(place: Place, key: str) -> None:
    """Without a pause, but slower than the rate: the credit of one pause is used up in time."""
    body = form(LARGE)
    piece, pause = SLOWEST_RATE // 16, 0.25  # a quarter of the rate
    address = ("127.0.0.1", place.server.port)
    began = time.monotonic()
    with closing(socket.create_connection(address, timeout=pause)) as connection:
        connection.sendall(head(key, f"Content-Length: {len(body)}"))
        answer, at = b"", 0
        while not answer and at < len(body) and time.monotonic() < began + PATIENCE_SECONDS:
            connection.sendall(body[at : at + piece])
            at += piece
            try:
                answer = connection.recv(65_536)
            except TimeoutError:
                continue
    assert answer.startswith(b"HTTP/1.1 408"), answer[:300]
    assert time.monotonic() - began > PAUSE_SECONDS
    assert place.files() == []


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_cut_connection_leaves_nothing(place: Place, key: str, is_chunked: bool) -> None:
    """A client that goes away in the middle leaves no row, no file and no seat taken."""
    body = form(LARGE)
    for _ in range(SEATS + 1):
        length = "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {len(body)}"
        half = chunked(body[:500_000], end=b"") if is_chunked else body[:500_000]
        address = ("127.0.0.1", place.server.port)
        with closing(socket.create_connection(address)) as connection:
            connection.sendall(head(key, length) + half)
            wait_until(lambda: place.files(), message="it is being received")
        wait_until(lambda: place.files() == [], timeout=20, message="nothing stays")
    assert place.upload(key, png(5)).status == 201
    assert MediaFile.objects.count() == 1


def test_uploads_have_seats_of_their_own(place: Place, key: str) -> None:
    """When all are taken another upload is 503, other requests are answered as ever."""
    body = form(LARGE)

    def is_refused() -> bool:
        return place.upload(key, png(6)).status == 503

    with ExitStack() as stack:
        for _ in range(SEATS):
            address = ("127.0.0.1", place.server.port)
            client = stack.enter_context(closing(socket.create_connection(address)))
            client.sendall(head(key, f"Content-Length: {len(body)}") + body[:1000])
        wait_until(is_refused, message="all seats are taken")
        assert place.server.call("GET", ASSETS, key=key).status == 200
    wait_until(lambda: place.upload(key, png(6)).status == 201, message="a seat is free")


def test_the_same_bytes_at_once_are_one_asset(place: Place, key: str) -> None:
    """Of uploads of the same bytes at the same time one is stored, and all get its id."""

    def upload(_: int) -> Any:
        # A seat is free a moment after its answer has been read; until then the next one is 503.
        return wait_until(
            lambda: answer if (answer := place.upload(key, png(7))).status != 503 else None
        )

    with ThreadPoolExecutor(SEATS) as pool:
        answers = list(pool.map(upload, range(2 * SEATS)))
    assert {answer.status for answer in answers} == {201}
    assert len({answer.json()["asset_id"] for answer in answers}) == 1
    assert MediaFile.objects.count() == len(place.files()) == 1


def test_a_quota_holds_for_uploads_at_once(
    tmp_path: Path, key: str, transactional_db: None
) -> None:
    """Of ten uploads at the same time just as many are taken as there is room for."""
    pictures = [png(seed) for seed in range(10)]
    room = 3 * max(map(len, pictures))
    place = place_in(tmp_path, ASSET_QUOTA_BYTES=str(room), UPLOADS="10")
    with place.server, ThreadPoolExecutor(10) as pool:
        answers = Counter(pool.map(lambda each: place.upload(key, each).status, pictures))
    assert answers == {201: 3, 429: 7}
    assert MediaFile.objects.count() == len(place.files()) == 3


def test_a_crash_between_file_and_row_leaves_an_orphan_that_goes(
    tmp_path: Path, place: Place, key: str
) -> None:
    """kill -9 after the file was stored: no row names it, and the daily run deletes it."""
    mark.adopt("a test", "")
    faults = {"FAULT_INJECTION": "1", "FAULTS": "assets.after_save:kill"}
    places = {"MEDIA_ROOT": str(place.media), "WORK_ROOT": str(place.work)}
    dying = WebServer(processes=1, **places, **faults, **no_renders())
    with dying, pytest.raises(OSError):
        dying.call("POST", ASSETS, form(png(8)), key=key, headers={"Content-Type": CONTENT_TYPE})
    assert MediaFile.objects.count() == 0
    kept = place.upload(key, png(9)).json()
    then = time.time() - LONG_AGO_SECONDS
    for path in [*place.media.rglob("*"), *place.work.rglob("*")]:
        os.utime(path, (then, then))
    assert len(list(place.media.rglob("asset.png"))) == 2
    assert sum(remove_orphans()) == 1
    assert [path.parent.name for path in place.media.rglob("asset.png")] == [kept["asset_id"]]
    sweep.remove_dead_work()
    assert list(place.work.iterdir()) == []
