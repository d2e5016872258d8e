"""What do we make of the answers that receivers really send, however they are cut into segments?

`vectors/http_answers.json` holds answers seen in the wild; `MORE` are shapes beyond it. Each goes
over real sockets; what depends on bytes alone is asked of the parser at every byte boundary.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import resource
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import uvloop
from django.test import override_settings
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests import ROOT
from webhooks_app.retry import AttemptResult
from webhooks_app.transport import answer as parser
from webhooks_app.transport import wire
from webhooks_app.transport.answer import Answer
from webhooks_app.transport.client import Transport

VECTORS = ROOT / "tests/vectors" / "http_answers.json"
LIMIT = 65_536
IN_FLIGHT = 100
#: Bytes. Longer than any answer of the corpus; our own longer cases are cut at some places only.
LONG = 15_000
OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: 2\r\n"
END = LENGTH + b"\r\nok"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class Case:
    """An answer: pieces of bytes and pauses in seconds, and what becomes of the connection.

    ``status`` is what an attempt must record; None where any outcome will do.
    """

    name: str
    parts: tuple[bytes | float, ...]
    status: int | None
    then: str = "keep"

    @property
    def raw(self) -> bytes:
        """All its bytes."""
        return b"".join(part for part in self.parts if isinstance(part, bytes))


def _corpus() -> list[Case]:
    return [
        Case(
            each["name"],
            tuple(base64.b64decode(p["b64"]) if isinstance(p, dict) else p for p in each["parts"]),
            each["status"],
            each["then"],
        )
        for each in json.loads(VECTORS.read_text())["cases"]
    ]


MORE = [
    Case("304 with a body", (b"HTTP/1.1 304 Not Modified\r\n" + END,), 304),
    Case("204, a page and a second answer", (b"HTTP/1.1 204 X\r\n\r\n<html>" + OK + b"\r\n",), 204),
    Case("two answers", ((OK + END) * 2,), 200),
    Case("three equal lengths", (OK + b"Content-Length: 2, 2\r\n" + END,), 200),
    Case("other lengths", (OK + b"Content-Length: 3\r\n" + END,), 200),
    Case("length with a sign", (OK + b"Content-Length: +2\r\n\r\nok",), 200),
    Case(
        "length beyond all bounds", (OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nok",), 200
    ),
    Case("identity", (OK + b"Transfer-Encoding: identity\r\n" + END,), 200),
    Case("identity alone", (OK + b"Transfer-Encoding: identity\r\n\r\nok",), 200, "close"),
    Case("unknown coding", (OK + b"Transfer-Encoding: cow\r\n\r\nok",), 200, "close"),
    Case("chunked, but plain", (CHUNKED + b"ok\r\n",), 200),
    Case("chunk cut", (CHUNKED + b"9\r\nok",), 200, "close"),
    Case("chunk too long", (CHUNKED + b"1\r\nok\r\n0\r\n\r\n",), 200),
    Case(
        "chunk extension",
        (CHUNKED + b"2 ;a=b\r\nok\r\n0\r\n\r\n",),
        200,
    ),
    Case("header of 60 kB", (OK + b"X: " + b"x" * 60_000 + b"\r\n" + END,), 200),
    Case("cookie of 100 kB", (OK + b"X: " + b"x" * 100_000 + b"\r\n\r\nok",), 200, "close"),
    Case("300 headers", (OK + b"X-A: b\r\n" * 300 + END,), 200),
    Case("5000 headers", (OK + b"X-A: b\r\n" * 5000 + b"\r\n",), 200),
    Case("no name", (OK + b": b\r\n" + END,), 200),
    Case("folded", (OK + b"X-A: a\r\n\tb\r\n" + END,), 200),
    Case("folded first", (OK + b"  a\r\n" + END,), 200),
    Case("line ends alone", (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",), 200),
    Case("utf-8 name", (OK + "X-É: ü\r\n".encode() + END,), 200),
    Case("tab", (b"HTTP/1.1\t200\tOK\r\n" + END,), 200),
    Case("lower case", (b"http/1.1 200 ok\r\ncontent-length: 2\r\n\r\nok",), 200),
    Case("long reason", (b"HTTP/1.1 200 " + b"x" * 9000 + b"\r\nContent-Length: 0\r\n\r\n",), 200),
    Case("many line ends first", (b"\r\n\n\r\n\r\n" + OK + END,), 200),
    Case("HTTP/1.0 kept", (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n",), 200, "close"),
    Case("many 1xx", (b"HTTP/1.1 103 Hint\r\nLink: x\r\n\r\n" * 20 + OK + b"\r\n",), 200, "close"),
    Case(
        "100 and 500", (b"HTTP/1.1 100 X\r\n\r\nHTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n",), 500
    ),
    Case("switching", (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n\x00\x01\x02",), 101),
    Case("cut in the headers", (OK + b"Content-Le",), 200, "close"),
    Case("cut before the empty line", (OK + b"Content-Length: 0\r\n",), 200, "close"),
    Case("status line alone", (OK,), 200, "close"),
    Case("reset in the headers", (OK + b"Content-Le", 0.05), 200, "reset"),
    Case("reset in the body", (OK + b"Content-Length: 9\r\n\r\nok", 0.05), 200, "reset"),
    Case("idle after the status line", (OK + b"X-A: b\r\n",), 200),
    Case("408 of a slow server", (b"HTTP/1.1 408 X\r\nConnection: close\r\n\r\n",), 408, "close"),
]
CASES = [*_corpus(), *MORE]


# -- over sockets -------------------------------------------------------------------------------


class Scripted:
    """A server on every loopback address: each address plays one case, cut where it is told.

    A request that follows, over whichever connection, gets 202.
    """

    def __init__(self) -> None:
        self.scripts: dict[str, Case] = {}
        self._conversations: set[asyncio.Task[Any]] = set()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """Serve; gives the port."""
        server = await asyncio.start_server(self._serve, "0.0.0.0", 0, backlog=512)
        async with server:
            yield server.sockets[0].getsockname()[1]
        await asyncio.gather(*self._conversations)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._conversations.add(task)
        task.add_done_callback(self._conversations.discard)
        host = writer.get_extra_info("sockname")[0]
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(2)
                case = self.scripts.pop(host, None)
                if case is None:
                    writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 4\r\n\r\nnext")
                elif not await _play(case, writer):
                    return
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


async def _play(case: Case, writer: asyncio.StreamWriter) -> bool:
    """Write a case's parts; say whether the connection goes on."""
    for part in case.parts:
        if isinstance(part, bytes):
            writer.write(part)
            await writer.drain()
        else:
            await asyncio.sleep(part)
    if case.then == "reset":
        await asyncio.sleep(0)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    return case.then == "keep"


Pair = tuple[AttemptResult, AttemptResult]


def meet(cases: list[Case], timeout: float = 3.0) -> list[Pair]:
    """Let each case answer one request, and return it with the result of the next one there."""

    async def run() -> list[Pair]:
        scripted, seats = Scripted(), asyncio.Semaphore(IN_FLIGHT)

        async def meet_one(number: int, case: Case) -> Pair:
            host = f"127.1.{number // 250}.{1 + number % 250}"
            url = f"http://{host}:{port}/"
            async with seats:
                scripted.scripts[host] = case
                first = await transport.send(url, {}, b"{}", timeout=timeout)
                return first, await transport.send(url, {}, b"{}", timeout=30)

        async with scripted.serving() as port, Transport() as transport:
            return list(await asyncio.gather(*itertools.starmap(meet_one, enumerate(cases))))

    return uvloop.run(run())


@pytest.fixture(autouse=True)
def _loopback_allowed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(wire, "BODY_SECONDS", 0.1)
    own = {"REQUIRE_HTTPS": False, "ALLOW_NETWORKS": ["127.0.0.0/8"]}
    with override_settings(WEBHOOKS=own):
        yield


def wrong(cases: list[Case], pairs: list[Pair]) -> list[Any]:
    """Return what differs from what must be recorded: name, what it should be, what it is."""
    return [
        (case.name, len(case.parts[0]), case.status, first.status, first.error, second.error_code)
        for case, (first, second) in zip(cases, pairs, strict=True)
        if (case.status is not None and first.status != case.status) or second.status != 202
    ]


def test_every_answer_gets_its_status_and_the_next_request_succeeds() -> None:
    """The corpus as it is, pauses and all: the status line decides, and nothing is mixed up."""
    assert wrong(CASES, meet(CASES)) == []


def cut(case: Case) -> Iterator[Case]:
    """Return a short case cut in two at every byte, a long one at some, and one in single bytes."""
    raw = case.raw
    step = 1 if len(raw) < 120 else len(raw) // 20
    for at in range(1, len(raw), step):
        # A whole answer that comes alone, after the next request was taken, is an answer to that.
        if raw[at:].startswith(b"HTTP/"):
            continue
        yield Case(case.name, (raw[:at], 0.004, raw[at:]), case.status, case.then)
    if len(raw) < 120:
        singly = [part for byte in raw for part in (bytes([byte]), 0.0)]
        yield Case(case.name, tuple(singly), case.status, case.then)


def test_no_answer_depends_on_how_it_was_cut() -> None:
    """Cut in two, short cases at every byte and long ones at some, the outcome over TCP is one."""
    cases = [piece for case in CASES for piece in cut(case)]
    assert len(cases) > 3_000
    assert wrong(cases, meet(cases)) == []


@pytest.mark.parametrize(
    ("start", "text"),
    [
        (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03", parser.ONLY_HTTP2),
        (b"\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00", parser.ONLY_HTTP2),
        (b"\x15\x03\x01\x00\x02\x02\x46", parser.SPEAKS_TLS),
        (b"SSH-2.0-OpenSSH_9.2\r\n", parser.NOT_HTTP),
        (b"220 mail.example.net ESMTP\r\n", parser.NOT_HTTP),
        (b"HTTP/1.1 2000 OK\r\n", parser.NOT_HTTP),
        (b"HTTP/1.1 200 " + b"x" * 70_000, parser.HEAD_TOO_LONG),
        (OK + b"X-A: b\r\n" * 80_000, parser.HEAD_TOO_LONG),
    ],
)
def test_what_is_no_answer_is_named_at_once(start: bytes, text: str) -> None:
    """The peer keeps the connection open and waits; we do not wait for the time-out."""
    ((first, second),) = meet([Case("", (start, 0.0), None)], timeout=20)
    assert (first.error_code, first.error, first.status) == ("protocol", text, None)
    assert first.duration_ms < 5_000
    assert second.status == 202


def test_odd_answer_leaves_a_note_and_its_connection_is_not_used_again() -> None:
    """A note says what was odd, and the next request goes over a new connection."""
    odd = [
        Case("stray", (b"HTTP/1.1 204 X\r\n\r\nok",), 204),
        Case("lengths", (OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",), 200),
        Case("space", (b"HTTP/1.1 500 X\r\nX-A : b\r\nContent-Length: 0\r\n\r\n",), 500),
        Case("fine", (OK + b"Content-Length: 2\r\n\r\nok",), 200),
    ]
    pairs = meet(odd)
    assert [first.error for first, _ in pairs] == [
        "note: bytes followed the end of the answer",
        "note: several Content-Lengths",
        "status 500; note: a space before the colon of a header",
        "",
    ]
    assert ["connect_ms" not in second.phases for _, second in pairs] == [False, False, False, True]
    assert not any(second.reconnected for _, second in pairs)


def test_late_second_answer_is_not_taken_for_the_next_message() -> None:
    """An unrequested answer is not used, and connections to its origin are not kept."""
    twice = Case("", (OK + END, 0.03, b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n"), 200)

    async def run() -> list[AttemptResult]:
        scripted, url = Scripted(), "http://127.2.0.1:{}/"
        async with scripted.serving() as port, Transport() as transport:
            scripted.scripts["127.2.0.1"] = twice
            results = []
            for _ in range(3):
                results.append(await transport.send(url.format(port), {}, b"{}", timeout=9))
                await asyncio.sleep(0.3)
            return results

    results = uvloop.run(run())
    assert [result.status for result in results] == [200, 202, 202]
    assert [result.reconnected for result in results] == [False, True, False]
    assert all("connect_ms" in result.phases for result in results)


# -- bytes alone --------------------------------------------------------------------------------


def read(pieces: list[bytes], then: str = "keep") -> tuple[Any, ...]:
    """Feed a parser and return all that it says."""
    answer = Answer(LIMIT)
    for piece in pieces:
        answer.feed(piece)
    answer.end(is_clean=then == "close", is_timeout=then == "keep")
    assert answer.is_ended
    assert len(answer.body) <= LIMIT
    assert sum(len(name) + len(value) for name, value in answer.headers) <= 2 * LIMIT
    return (
        *(answer.status, answer.fault, answer.headers, answer.body, answer.is_truncated),
        *(answer.notes, answer.is_reusable),
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_parser_says_the_same_at_every_boundary(case: Case) -> None:
    """What is read does not depend on segments: the corpus is cut at every byte there is."""
    raw = case.raw
    whole = read([raw], case.then)
    assert case.status in (None, whole[0])
    step = 1 if len(raw) < LONG else len(raw) // 30
    for at in range(1, len(raw), step):
        assert read([raw[:at], raw[at:]], case.then) == whole
    size = 1 if len(raw) < LONG else 7
    assert read([raw[at : at + size] for at in range(0, len(raw), size)], case.then) == whole


TOKENS = [
    *(b"HTTP/1.1 ", b"HTTP/1.0 ", b"HTTP/", b"200", b"204", b"100 X", b"408", b" OK", b"\r\n"),
    *(b"\n", b"\r", b"\r\n\r\n", b"Content-Length: ", b"Transfer-Encoding: ", b"chunked", b"2"),
    *(
        b"0",
        b"ok",
        b"Connection: close",
        b": ",
        b" ",
        b"\t",
        b"\x00",
        b"\xff",
        b";",
        b",",
        b"X" * 99,
    ),
    *(b"\x15\x03\x01", b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", b"identity", b"ffffffffffff"),
    *(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"y" * 9_000, b"X" * 99),
]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(TOKENS) | st.binary(max_size=4), max_size=30), st.data())
@example([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"] * 2, None)
def test_no_bytes_break_the_parser(tokens: list[bytes], data: Any) -> None:
    """Whatever comes, cut anywhere: no exception, bounded memory, and one reading of it."""
    raw = b"".join(tokens)
    cuts = data.draw(st.lists(st.integers(0, len(raw)), max_size=8)) if data else range(len(raw))
    marks = [0, *sorted(cuts), len(raw)]
    pieces = [raw[start:end] for start, end in itertools.pairwise(marks)]
    for then in ("keep", "close", "reset"):
        assert read(pieces, then) == read([raw], then)


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"", b"HTTP/1.1 102 Processing\r\n\r\n" * 1000),
        (b"", b"\r\n" * 30_000),
        (b"", b"HTTP/1.1 200 " + b"x" * 60_000),
        (OK, b"X-A: b\r\n" * 8_000),
        (OK, b"X-A:" + b" b" * 30_000),
        (OK + b"X-A: a\r\n", b" b\r\n" * 16_000),
        (OK + b"\r\n", b"x" * 65_536),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 10_000),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Trailer: x\r\n" * 5_000),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0" * 65_536),
    ],
)
def test_endless_answers_take_little_memory(start: bytes, piece: bytes) -> None:
    """10 MB of anything leave no more than the bounds: what is not kept is not collected."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read([start, *([piece] * (10_000_000 // len(piece)))])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 6 * 1024
