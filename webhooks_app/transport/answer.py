"""What does a receiver's answer say, however it is cut into pieces and however malformed it is?

Pure: no I/O. Once a status line has come, it decides the outcome. The rest is read as far as
possible; each deviation from the standard is listed in `Answer.notes`, and the connection is then
not reused. The result depends on the bytes alone, not on how TCP split them: the head is parsed as
a whole, by `_read_head`, once its last byte has come.

The parser accepts more than RFC 9112 allows, since many receivers are not full HTTP servers:
tests/vectors/http_answers.json lists what they send and what other clients make of it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from webhooks_app.shown import printable

#: Longer ones are protocol errors.
MAX_STATUS_LINE_BYTES = 65_536
MAX_HEAD_BYTES = 524_288
MAX_CHUNK_LINE_BYTES = 8_190
#: Of a longer head, only this much is parsed and kept.
KEPT_HEAD_BYTES = 65_536
KEPT_HEADERS = 256
#: Beyond these an answer gets a note; servers and proxies commonly have these limits.
LONG_HEADER_BYTES = 8_190
MANY_HEADERS = 128
#: After this many bytes of 1xx answers reading stops, and the request runs into its time-out.
MAX_INTERIM_BYTES = 65_536
SWITCHING_PROTOCOLS = 101
_WITHOUT_BODY = frozenset({SWITCHING_PROTOCOLS, 204, 304})

NOT_HTTP = "the answer is not valid HTTP"
HEAD_TOO_LONG = "the head of the answer is too long"
ONLY_HTTP2 = "the receiver speaks only HTTP/2 on this port; webhooks need HTTP/1.1"
SPEAKS_TLS = "the receiver speaks TLS on this port; use https in the URL"

_STATUS_LINE = re.compile(rb"HTTP/(\d+(?:\.\d+)?)[ \t]+([1-9]\d\d)(?!\d)", re.IGNORECASE)
_HEAD_END = re.compile(rb"\n\r?\n")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_CHUNK_SIZE = re.compile(rb"[ \t]*0*([0-9a-fA-F]{1,12})[ \t]*(?:;.*)?")
# Values of `Head.length` where the body's length is not given: how its end is found.
_CHUNKED, _UNTIL_CLOSE = -1, -2
_FRAMING = (b"content-length", b"transfer-encoding", b"connection")

Headers = tuple[tuple[str, str], ...]


class Head(NamedTuple):
    """Status line and headers. ``status`` is 0 where the first line is no status line.

    ``length`` is the body's length in bytes, or one of the negative constants above.
    ``is_kept_alive``: the receiver accepts another request on this connection.
    """

    status: int
    headers: Headers = ()
    length: int = 0
    is_kept_alive: bool = False
    notes: tuple[str, ...] = ()


class Answer:
    """One answer, parsed as it arrives. Call `feed` for each piece, and `end` when no more comes.

    ``status`` is None until the final status line has come; ``fault`` says why none will come.
    ``is_headed``: the headers are complete. ``is_ended``: the answer needs no more bytes. ``body``
    is the beginning of the body; ``is_truncated``: part of the body is missing. ``is_followed``:
    a second answer followed directly.

    Args:
        limit: bytes of the body to keep; a longer body is not read to its end.
    """

    def __init__(self, limit: int) -> None:
        self.status: int | None = None
        self.headers: Headers = ()
        self.notes: tuple[str, ...] = ()
        self.fault = ""
        self.body = b""
        self.is_headed = self.is_ended = self.is_truncated = self.is_followed = False
        self._limit = limit
        self._buffer = bytearray()
        self._interim_bytes = self._length = self._left = 0
        self._stage = "size"  # of a chunked body: which line comes next
        self._is_kept_alive = False

    @property
    def is_reusable(self) -> bool:
        """Whether the answer ended cleanly, so that its connection may serve another request."""
        return self.is_ended and self._is_kept_alive and not self.notes

    @property
    def is_flood(self) -> bool:
        """Whether the limit for 1xx answers is passed, so that reading may stop."""
        return self._interim_bytes > MAX_INTERIM_BYTES

    def header(self, name: str) -> str | None:
        """Return the first header of that name (lower case), None when there is none."""
        return next((value for key, value in self.headers if key.lower() == name), None)

    def feed(self, data: bytes) -> None:
        """Parse the next bytes."""
        if self.is_headed:
            self._take_body(data)
        elif not self.is_ended and not self.is_flood:
            self._take_head(data)

    def end(self, *, is_timeout: bool = False, is_clean: bool = False) -> None:
        """End the answer: the connection closed (``is_clean``: without an error), or time is up."""
        if self.is_ended:
            return
        if not self.is_headed:
            self._end_within_head()
            if self.is_headed:
                self._note(f"the headers {'did not end in time' if is_timeout else 'were cut off'}")
        elif not (is_clean and self._length == _UNTIL_CLOSE):
            self._note(f"the body {'did not end in time' if is_timeout else 'was cut off'}")
            self.is_truncated = True
        self._is_kept_alive = False
        self.is_ended = True

    # -- head -------------------------------------------------------------------------------------

    def _take_head(self, data: bytes) -> None:
        buffer = self._buffer
        searched = max(0, len(buffer) - 2)
        buffer += data
        while not self.is_flood:
            if buffer[:5] != b"HTTP/" and self._is_no_http():
                return
            found = _HEAD_END.search(buffer, searched)
            size = found.start() if found else max(0, len(buffer) - 2)  # it may begin there
            if self._is_faulty(size) or found is None:
                return
            self._begin((_remembered if size < 2048 else _read_head)(bytes(buffer[:size])))
            del buffer[: found.end()]
            if self.is_headed:
                rest = bytes(buffer)
                buffer.clear()
                self._take_body(rest)
                return
            self._interim_bytes += found.end()
            searched = 0

    def _is_no_http(self) -> bool:
        """Check a beginning other than ``HTTP/``; the answer ends with a fault if it is not HTTP.

        Decides on the first bytes, so that a peer of another protocol that waits for us to speak
        is recognised at once instead of at the time-out.
        """
        buffer = self._buffer
        if buffer and buffer[0] in b"\r\n":  # some send line ends before their status line
            size = len(buffer)
            buffer[:] = buffer.lstrip(b"\r\n")
            self._interim_bytes += size - len(buffer)
        start = bytes(buffer[:9])
        if b"HTTP/".startswith(start[:5].upper()):
            return False
        if (start[0] == 0x15 and len(start) < 2) or (start[0] == 0 and len(start) < 9):
            return False
        is_alert = start[:2] == b"\x15\x03"
        # The frame SETTINGS or GOAWAY of stream 0.
        is_http2 = start[0] == 0 and start[3] in (4, 7) and start[5:] == b"\0\0\0\0"
        self._fail(SPEAKS_TLS if is_alert else ONLY_HTTP2 if is_http2 else NOT_HTTP)
        return True

    def _is_faulty(self, size: int) -> bool:
        """Check the head as far as it has come; ``size`` is the least length it will have."""
        line_end = self._buffer.find(b"\n", 0, MAX_STATUS_LINE_BYTES)
        if line_end < 0:
            if size >= MAX_STATUS_LINE_BYTES:
                self._fail(HEAD_TOO_LONG)
        elif not _STATUS_LINE.match(self._buffer):
            self._fail(NOT_HTTP)
        elif size > MAX_HEAD_BYTES:
            self._fail(HEAD_TOO_LONG)
        return self.is_ended

    def _end_within_head(self) -> None:
        buffer = self._buffer
        if b"HTTP/".startswith(buffer[:5].upper()) and not _STATUS_LINE.match(buffer):
            return  # not even a status line
        # A header that was cut off is left out.
        kept = buffer.rfind(b"\n") + 1 or len(buffer)
        self._begin(_read_head(bytes(buffer[:kept])))

    def _begin(self, head: Head) -> None:
        """Use a parsed head; a 1xx answer is skipped, since another answer follows it."""
        if not head.status:
            self._fail(NOT_HTTP)
            return
        if head.status < 200 and head.status != SWITCHING_PROTOCOLS:
            return
        self.status, self.headers, self.notes = head.status, head.headers, head.notes
        self._is_kept_alive = head.is_kept_alive
        self._length, self._left = head.length, max(0, head.length)
        self.is_headed = True
        self.is_ended = not head.length

    def _fail(self, fault: str) -> None:
        self.fault, self.is_ended = fault, True

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes += (text,)

    # -- body -------------------------------------------------------------------------------------

    def _take_body(self, data: bytes) -> None:
        if not data:
            return
        if self.is_ended:
            if not self.is_truncated and self.status != SWITCHING_PROTOCOLS:
                self._note("bytes followed the end of the answer")
                self.is_followed = self.is_followed or data.startswith(b"HTTP/")
        elif self._length == _CHUNKED:
            self._take_chunks(data)
        elif self._length == _UNTIL_CLOSE:
            self._keep(data)
        else:
            piece = data[: self._left]
            self._left -= len(piece)
            self._keep(piece)
            self.is_ended = self.is_ended or not self._left
            self._take_body(data[len(piece) :])

    def _keep(self, piece: bytes) -> None:
        room = self._limit - len(self.body)
        self.body += piece[:room]
        if len(piece) > room:
            self.is_truncated = self.is_ended = True
            self._is_kept_alive = False

    def _take_chunks(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        while buffer and not self.is_ended:
            if self._left:
                piece = bytes(buffer[: self._left])
                del buffer[: len(piece)]
                self._left -= len(piece)
                self._keep(piece)
                continue
            end = buffer.find(b"\n", 0, MAX_CHUNK_LINE_BYTES)
            if end < 0 and len(buffer) < MAX_CHUNK_LINE_BYTES:
                return
            line = bytes(buffer[: end if end >= 0 else 0])
            del buffer[: end + 1]
            if end < 0 or not self._take_chunk_line(line.removesuffix(b"\r")):
                self._note("the chunked body is malformed")
                self.is_ended = self.is_truncated = True
        if self.is_ended and not self.is_truncated:
            self._take_body(bytes(buffer))

    def _take_chunk_line(self, line: bytes) -> bool:
        """Parse a line between chunks; return False where it is malformed."""
        if self._stage == "size":
            size = _CHUNK_SIZE.fullmatch(line)
            if size is None:
                return False
            self._left = int(size[1], 16)
            self._stage = "chunk end" if self._left else "trailer"
        elif self._stage == "chunk end":
            self._stage = "size"
            return not line
        elif not line:
            self.is_ended = True
        return True


def _read_head(head: bytes) -> Head:
    """Parse a head: the status line and all headers, without the empty line after them."""
    first, _, rest = head.partition(b"\n")
    line = _STATUS_LINE.match(first)
    if line is None:
        return Head(0)
    version, status = line[1], int(line[2])
    notes: dict[str, None] = {}  # a set that keeps its order
    if version not in (b"1.1", b"1.0"):
        notes["an unknown version of HTTP"] = None
    if len(head) > KEPT_HEAD_BYTES:
        notes[f"more than {KEPT_HEAD_BYTES} bytes of headers"] = None
    pairs = _read_lines(rest[:KEPT_HEAD_BYTES].split(b"\n"), notes)
    if len(pairs) > MANY_HEADERS:
        notes[f"more than {MANY_HEADERS} headers"] = None
    framing: dict[bytes, list[bytes]] = {name: [] for name in _FRAMING}
    for name, value in pairs:
        if (tokens := framing.get(name.lower())) is not None:
            tokens += [token.strip() for token in value.lower().split(b",")]
    lengths, codings, connection = framing.values()
    length = 0 if status in _WITHOUT_BODY else _body_length(lengths, codings, notes)
    is_kept = b"close" not in connection and (version == b"1.1" or b"keep-alive" in connection)
    return Head(
        status,
        tuple([(_shown(name), _shown(value)) for name, value in pairs[:KEPT_HEADERS]]),
        length,
        is_kept and status != SWITCHING_PROTOCOLS and length != _UNTIL_CLOSE,
        tuple(notes),
    )


#: A receiver gives many equal answers; parsing a short head again takes ten times as long.
_remembered = lru_cache(maxsize=1024)(_read_head)


def _shown(text: bytes) -> str:
    # latin-1 maps every byte, and never to a surrogate, which PostgreSQL would refuse.
    shown = text.decode("latin-1")
    return shown if shown.isprintable() else printable(shown, LONG_HEADER_BYTES)


def _read_lines(lines: list[bytes], notes: dict[str, None]) -> list[tuple[bytes, bytes]]:
    pairs: list[tuple[bytes, bytes]] = []
    for line in lines:
        line = line.removesuffix(b"\r")
        if len(line) > LONG_HEADER_BYTES:
            notes[f"a header of more than {LONG_HEADER_BYTES} bytes"] = None
        if _CONTROL.search(line):
            notes["a control character in a header"] = None
        line = line[:LONG_HEADER_BYTES]
        if line[:1] in (b" ", b"\t") and pairs:
            notes["a header over several lines"] = None
            name, value = pairs[-1]
            pairs[-1] = name, (value + b" " + line.strip(b" \t"))[:LONG_HEADER_BYTES]
            continue
        name, colon, value = line.partition(b":")
        if not line:
            continue
        if not colon or not name.strip():
            notes["a header without a name"] = None
            continue
        if name.strip() != name:
            notes["a space before the colon of a header"] = None
        pairs.append((name.strip(), value.strip(b" \t")))
    return pairs


def _body_length(lengths: list[bytes], codings: list[bytes], notes: dict[str, None]) -> int:
    if codings and lengths:
        notes["Transfer-Encoding beside Content-Length"] = None
    if b"identity" in codings:
        notes["Transfer-Encoding: identity"] = None
        codings = [coding for coding in codings if coding != b"identity"]
    if codings:
        return _CHUNKED if codings[-1] == b"chunked" else _UNTIL_CLOSE
    if len(lengths) > 1:
        notes["several Content-Lengths"] = None
    if not all(length.isdigit() and len(length) < 19 for length in lengths):
        notes["a Content-Length that is no number"] = None
        return _UNTIL_CLOSE
    values = {int(length) for length in lengths}
    return values.pop() if len(values) == 1 else _UNTIL_CLOSE
