"""Which bytes are a JSON document for us, and how do we write one?

Stricter than the standard library on purpose: a document that two parsers could read in two
ways, or that the database cannot store, is refused as a whole with 400. Faults that belong to a
field are not found here.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Mapping
from json import decoder
from typing import IO, Any

import orjson
from django.conf import settings
from rest_framework.exceptions import ParseError, UnsupportedMediaType
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer

from webhooks_app.api.problems import ApiProblem
from webhooks_app.notation import Payload

MAX_DEPTH = 32
MAX_INTEGER = 2**53  # beyond, a reader that keeps numbers as doubles sees another number
#: Parsing costs up to a microsecond per sign. The largest valid request, with a comma for every
#: character of its texts, has 45,000.
MAX_SIGNS = 50_000
#: Objects with more top-level members are parsed without keeping each one's text.
MAX_MEMBERS = 100
# The standard library's own pieces, which its stubs do not know.
_WHITESPACE: Any = vars(decoder)["WHITESPACE"]
_scan_string: Any = vars(decoder)["scanstring"]
_SPACES = frozenset(" \t\n\r")
_UTF8 = frozenset({"", "utf-8", "utf8"})
_NOT_UTF8 = "The body is not UTF-8. Send JSON as UTF-8, with or without a byte order mark."
# Strings, closed or not, and everything except brackets; possessive, so that the regular
# expression reads hostile input only once.
_NO_BRACKETS = re.compile(r'(?:[^"\[\]{}]++|"[^"\\]*+(?:\\.[^"\\]*+)*+"?)++', re.DOTALL)
_OPENINGS = re.compile(r"[\[{]+")
# NUL and halves of surrogate pairs can get into a decoded string only through these escapes.
_SUSPECT = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")


class TooLong(ValueError):
    """The document contains more values than a request can use."""


class JsonObject(dict[str, Any]):
    """A top-level object that keeps the exact text of each of its values."""

    raw: dict[str, str]


def parse(text: str) -> Any:
    """Parse one document.

    Raises:
        TooLong: before any value is read. ValueError: with a sentence that says why it is none.
    """
    _check_size(text)
    start = _skip(text, 0)
    value = _parse_members(text, start) if text[start : start + 1] == "{" else _DECODER.decode(text)
    if _SUSPECT.search(text):
        _check_strings(value)
    return value


def _check_size(text: str) -> None:
    """Check depth and number of values by the signs alone, before the document is parsed."""
    openings = text.count("[") + text.count("{")
    brackets = _NO_BRACKETS.sub("", text) if openings > MAX_DEPTH else ""
    too_deep = f"The document is nested deeper than {MAX_DEPTH} levels, or a bracket is not closed."
    if brackets and _OPENINGS.fullmatch(brackets[: MAX_DEPTH + 1]):
        raise ValueError(too_deep)
    if openings + text.count(",") > MAX_SIGNS:
        raise TooLong(f"A request body may hold at most {MAX_SIGNS} values.")
    for _ in range(MAX_DEPTH):  # each round removes the innermost level
        brackets = brackets.replace("[]", "").replace("{}", "")
        if not brackets:
            return
    raise ValueError(too_deep)


def _parse_members(text: str, at: int) -> Any:
    """Parse the top-level object member by member, to keep each value's own text."""
    pairs: list[tuple[str, Any]] = []
    raw: dict[str, str] = {}
    at = _skip(text, at + 1)
    while text[at : at + 1] != "}":
        if len(pairs) == MAX_MEMBERS:
            return _DECODER.decode(text)
        if pairs:
            at = _expect(text, at, ",")
        if text[at : at + 1] != '"':
            raise json.JSONDecodeError("Expecting property name enclosed in quotes", text, at)
        name, at = _scan_string(text, at + 1, True)
        start = _expect(text, _skip(text, at), ":")
        value, at = _DECODER.raw_decode(text, start)
        pairs.append((name, value))
        raw[name] = text[start:at]
        at = _skip(text, at)
    if _skip(text, at + 1) != len(text):
        raise json.JSONDecodeError("Extra data", text, at + 1)
    document = JsonObject(_unique(pairs))
    document.raw = raw
    return document


def _skip(text: str, at: int) -> int:
    if text[at : at + 1] not in _SPACES:  # the usual case
        return at
    return int(_WHITESPACE.match(text, at).end())


def _expect(text: str, at: int, sign: str) -> int:
    if text[at : at + 1] != sign:
        raise json.JSONDecodeError(f"Expecting {sign!r}", text, at)
    return _skip(text, at + 1)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("A key stands twice in one object.")
    return members


def _integer(digits: str) -> int:
    number = int(digits) if len(digits) <= 17 else MAX_INTEGER + 1
    if -MAX_INTEGER <= number <= MAX_INTEGER:
        return number
    raise ValueError("An integer is beyond 2^53.")


def _float(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError("A number is too large.")
    return number


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON.")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_integer, parse_float=_float, parse_constant=_constant
)


def _check_strings(value: Any) -> None:
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError("A string holds a NUL character.")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("A string holds half of a surrogate pair.") from None
    elif isinstance(value, Mapping):
        for name, member in value.items():
            _check_strings(name)
            _check_strings(member)
    elif isinstance(value, list):
        for item in value:
            _check_strings(item)


class StrictJSONParser(BaseParser):
    """Parses a request body with `parse`; refuses other media types, charsets and encodings."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the document.

        Raises:
            ParseError: 400. UnsupportedMediaType: 415. ApiProblem: 413.
        """
        _check_content_type(media_type or "", parser_context or {})
        body = _read(stream, parser_context or {}).removeprefix(codecs.BOM_UTF8)
        if b"\0" in body[:4]:  # UTF-16 or UTF-32: a JSON document begins with an ASCII character
            raise ParseError(_NOT_UTF8)
        try:
            return parse(body.decode("utf-8"))
        except RecursionError:
            raise ParseError("The document is nested too deeply.") from None
        except UnicodeDecodeError:
            raise ParseError(_NOT_UTF8) from None
        except TooLong as error:
            raise ApiProblem(413, "too_large", str(error)) from None
        except ValueError as error:
            raise ParseError(f"Not a JSON document: {error}") from None


def _check_content_type(media_type: str, context: Mapping[str, Any]) -> None:
    for parameter in media_type.split(";")[1:]:
        name, _, value = parameter.partition("=")
        charset = value.strip().strip('"').lower()
        if name.strip().lower() == "charset" and charset not in _UTF8:
            raise UnsupportedMediaType(media_type, "Send the body as UTF-8.")
    encoding = context["request"].META.get("HTTP_CONTENT_ENCODING", "") if context else ""
    if encoding.lower() not in ("", "identity"):
        raise UnsupportedMediaType(media_type, "Send the body without Content-Encoding.")


def _read(stream: IO[bytes], context: Mapping[str, Any]) -> bytes:
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    declared = context["request"].META.get("CONTENT_LENGTH") if context else None
    body = b""
    if not (declared and int(declared) > limit):
        body = stream.read(limit + 1)
        if len(body) <= limit:
            return body
    raise too_large()


def too_large() -> ApiProblem:
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    return ApiProblem(413, "too_large", f"A request body may have at most {limit} bytes.")


def _plain(value: Any) -> Any:
    """Convert a value that orjson does not support."""
    if isinstance(value, Payload):
        return orjson.Fragment(value.body)  # inserted byte for byte
    if isinstance(value, (bytes, memoryview)):
        return bytes(value).decode("utf-8", "replace")
    if isinstance(value, Mapping):
        return dict(value)
    return str.__str__(value) if isinstance(value, str) else str(value)  # SafeString


_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z | orjson.OPT_NAIVE_UTC


def dumps(data: Any) -> bytes:
    """Serialize an answer; members that are an `orjson.Fragment` are inserted unchanged."""
    return orjson.dumps(data, default=_plain, option=_OPTIONS)


class Negotiation(DefaultContentNegotiation):
    """Chooses an answer's format; a client that accepts any gets the first one."""

    def select_renderer(self, request: Any, renderers: Any, format_suffix: Any = None) -> Any:
        """Return the renderer and its media type.

        Raises:
            NotAcceptable: the client takes nothing that there is.
        """
        if format_suffix is None and request.META.get("HTTP_ACCEPT", "*/*") == "*/*":
            return renderers[0], renderers[0].media_type
        return super().select_renderer(request, renderers, format_suffix)


class JSONRenderer(BaseRenderer):
    """Writes an answer with `dumps`."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        return b"" if data is None else dumps(data)
