"""What is the worst that a client can send? Hostile values for every field, parameter and header.

The fields come from the OpenAPI document and the admin's registry, so that a new one is tested
without being named here. Each value is sent at the largest size that the field accepts, since only
that passes the first check, and at the size of a whole body.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote

from django.contrib import admin
from django.db import connection
from django.test import Client

from moviesvc.problems import MAX_ADDRESS, MAX_HEADERS
from tasks_app.api.json_format import MAX_SIGNS
from tasks_app.api.openapi import hooks
from tasks_app.task_types import TASK_TYPES
from tests.support.factories import SEED_REQUEST

SUBMIT = "/api/v1/tasks/submit"
WHOLE_BODY = 1_040_000  # bytes, a little below the limit
#: Enough for a field to show time that grows with the square of its length.
PART_OF_BODY = WHOLE_BODY // 10
FULL = WHOLE_BODY // 3  # characters of three bytes
#: Kinds that are slow at any length; the others are at their worst where a field accepts them.
QUADRATIC = ("marks out of order", "a known name again and again", "digits", "a URL of dots")
HEAD_CHARACTERS = MAX_ADDRESS - 500
#: A longer one does not reach Django (moviesvc/rsgi.py).
CONTENT_TYPE_CHARACTERS = 1_024
HEADERS = (
    *("X-API-Key", "Idempotency-Key", "X-Request-ID", "X-Forwarded-For", "Last-Event-ID"),
    *("Accept", "Accept-Language", "Accept-Encoding", "Content-Type", "Content-Encoding"),
    *("Cookie", "Host", "Origin", "Referer", "X-CSRFToken", "Range", "If-Range"),
    *("If-None-Match", "If-Modified-Since", "Prefer", "traceparent", "Authorization"),
)


@dataclass(frozen=True)
class Attack:
    """One request, and its name in a report: route, field and kind of input."""

    name: str
    method: str
    path: str
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    is_admin: bool = False


def cpu_seconds(client: Client, attack: Attack) -> tuple[float, int]:
    """Send it; return the processor time of this thread and the database's, and the status."""
    before = time.thread_time() + _database_seconds()
    answer: Any = client.generic(
        attack.method,
        attack.path,
        attack.body,
        content_type=attack.content_type,
        headers=attack.headers,
    )
    for _ in answer:  # a stream does its work while it is read
        pass
    return time.thread_time() + _database_seconds() - before, answer.status_code


def _database_seconds() -> float:
    """Return the processor time of the server process behind our connection (Linux only)."""
    session = connection.connection
    if session is None:
        return 0.0
    nanoseconds, _, _ = (
        Path(f"/proc/{session.info.backend_pid}/schedstat").read_text().partition(" ")
    )
    return int(nanoseconds) / 1e9


def texts(size: int) -> dict[str, str]:
    """Return texts of this many characters, by what makes each hard to parse."""
    half = (size - 1) // 2
    return {
        "marks out of order": "a" + "\u0301" * half + "\u0316" * half,
        "marks that decompose": "a" + "\u0f73" * (size - 1),
        "jamo": "\u1100\u1161\u11a8" * (size // 3),
        "spaces inside": "a" + " " * (size - 2) + "a",
        "line breaks": "\r\n" * half + "a",
        "digits": "9" * size,
        "percent signs": "%" * size,
        "control characters": "\x01" * size,
        "emoji": "\U0001f600" * half,
        "a known name again and again": "task_type" * (size // 9),
        "a URL of dots": "https://" + "a." * half,
        "a URL of punycode": "https://" + f"xn--{'a' * 55}." * (size // 60) + "com/",
        "a URL of percents": "https://example.com/" + "%41" * (size // 3),
        "a URL of brackets": "https://" + "[" * half + ":" * half,
        "a URL of at signs": "https://" + "@" * size,
        "a time with a tail": "2025-01-15T10:35:30." + "0" * size + "Z",
        "dotted words": "a." * half,
        "dashes": "a-" * half,
    }


def documents(size: int, signs: int = MAX_SIGNS) -> dict[str, str]:
    """Return JSON values of at most this many bytes and signs, by what makes each hard to parse."""

    def many(text: str, between: str = ",") -> str:
        each = sum(map((text + between).count, ",[{"))
        return between.join([text] * min(size // len(text + between), signs // (each or 1)))

    names = [f'"n{number}":1' for number in range(min(size // 12, signs))]
    near = [f'"project_id{number}":1' for number in range(min(size // 20, signs))]
    return {
        "unknown names": "{" + ",".join(names) + "}",
        "names like known ones": "{" + ",".join(near) + "}",
        "one name again and again": "{" + many('"a":1') + "}",
        "long names": "{" + ",".join(f'"{"n" * 9_000}{n}":1' for n in range(size // 9_020)) + "}",
        "digits": "[" + many("1") + "]",
        "floats": "[" + many("1e308") + "]",
        "long integers": "[" + many("9" * 4_000) + "]",
        "just too long integers": "[" + many("1" * 17) + "]",
        "empty lists": "[" + many("[]") + "]",
        "empty objects": "[" + many("{}") + "]",
        "objects": "[" + many('{"a":1}') + "]",
        "empty strings": "[" + many('""') + "]",
        "pairs of brackets": "[" + many("[" * 31 + "]" * 31) + "]",
        "quotes and no commas": "[" * 33 + '""' * (size // 2),
        "escaped quotes": '"' + '\\"' * (size // 2),
        "escapes": '["' + "\\u0301\\u0316" * (size // 12) + '"]',
        "pairs of surrogates": '["' + "\\ud83d\\ude00" * (size // 12) + '"]',
        "strings with surrogates": "[" + many('"\\ud83d\\ude00"') + "]",
        "white space": " " * size,
        "nested": "[" * size,
        "null": "null",
        "a suspect and numbers": '["\\u0000",' + many("1") + "]",
    }


_cached_texts, _cached_documents = lru_cache(8)(texts), lru_cache(2)(documents)


@cache
def operations() -> dict[tuple[str, str], dict[str, Any]]:
    """Return every operation of the document by route and method."""
    document = json.loads(hooks.schema_bytes())
    return {
        (path, method): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


@cache
def _components() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(hooks.schema_bytes())["components"]["schemas"]
    return found


def leaves(schema: dict[str, Any], at: tuple[str, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of every member of a schema, at any depth, with the size that it accepts.

    The items of a list have the place ``*``, with the number of items that it accepts.
    """
    if "$ref" in schema:
        schema = _components()[schema["$ref"].rpartition("/")[2]]
    for part in (*schema.get("oneOf", ()), *schema.get("anyOf", ()), *schema.get("allOf", ())):
        yield from leaves(part, at)
    if "items" in schema:
        yield from leaves(schema["items"], (*at, f"*{schema.get('maxItems', 1)}"))
    for name, member in schema.get("properties", {}).items():
        yield from leaves(member, (*at, name))
    if at:
        yield at, schema.get("maxLength", 100)


def _variants(path: str, operation: dict[str, Any]) -> Iterator[tuple[Any, dict[Any, int]]]:
    """Yield the forms of a body: a valid one, and the places of its members."""
    content = operation["requestBody"]["content"]["application/json"]
    example = content.get("example") or next(iter(content.get("examples", {"": {}}).values()))
    schema, seen = content["schema"], set[Any]()
    if "$ref" in schema:
        schema = _components()[schema["$ref"].rpartition("/")[2]]
    for variant, task_type in zip(schema.get("oneOf", [schema]), [*TASK_TYPES, ""], strict=False):
        found = dict(leaves(variant))
        base = {**SEED_REQUEST, "task_type": task_type} if path == SUBMIT else example.get("value")
        yield base or {}, {place: size for place, size in found.items() if place not in seen}
        seen |= set(found)


def _placed(base: Any, place: tuple[str, ...], value: Any, room: int = 1_000) -> Any:
    """Return a body with a value at a place; in lists as often as they accept it."""
    if not place:
        return value
    head, *rest = place
    if head.startswith("*"):
        item = _placed({}, tuple(rest), value, room)
        return [item] * max(1, min(int(head[1:]), room))
    inner = base.get(head) if isinstance(base, dict) else None
    start = base if isinstance(base, dict) else {}
    return {**start, head: _placed(inner, tuple(rest), value, room)}


class _Json:
    """A JSON text that is written as it is where `json.dumps` would write a value."""

    MARK = "the place of a value"


def _body(base: Any, place: tuple[str, ...], value: str, *, is_json: bool = False) -> bytes:
    """Return the bytes of a body with a text, or a JSON text, at a place."""
    raw = value if is_json else json.dumps(value, ensure_ascii=False)
    room = WHOLE_BODY // len(raw.encode("utf-8", "surrogatepass"))
    body = json.dumps(_placed(base, place, _Json.MARK, room), ensure_ascii=False)
    return body.replace(json.dumps(_Json.MARK), raw).encode()


def of_bodies(ids: dict[str, str]) -> Iterator[Attack]:
    """Yield requests with each hostile value in each field of each body, and in all fields."""
    for (path, method), operation in operations().items():
        if "requestBody" not in operation or not path.startswith("/api/"):
            continue
        send = partial(_attack, method, path, ids)
        for base, found in _variants(path, operation):
            for place, size in found.items():
                where = ".".join(place)
                for length in (size, 4 * size, FULL):
                    for kind, text in _cached_texts(length).items():
                        # Many of them in a list: its items are parsed like a field of their own.
                        if kind in QUADRATIC or (length == size and "*" not in where):
                            yield send(f"{where}: {kind} x{length}", _body(base, place, text))
                for kind in ("names like known ones", "digits"):
                    value = _cached_documents(PART_OF_BODY)[kind]
                    yield send(f"{where}: {kind}", _body(base, place, value, is_json=True))
            for kind in texts(1):
                body = base
                for place, size in found.items():
                    body = _placed(body, place, texts(size)[kind], 100)
                yield send(f"all fields: {kind}", json.dumps(body, ensure_ascii=False).encode())
        for kind, value in _cached_documents(WHOLE_BODY).items():
            yield send(f"whole body: {kind}", value.encode())


def _attack(method: str, path: str, ids: dict[str, str], name: str, body: bytes = b"") -> Attack:
    target = re.sub(r"{(\w+)}", lambda match: ids[match[1]], path)
    return Attack(f"{method.upper()} {path} {name}", method.upper(), target, body)


def of_addresses(ids: dict[str, str]) -> Iterator[Attack]:
    """Yield requests with each hostile value in each query parameter and part of a path."""
    for (path, method), operation in operations().items():
        if path.startswith("/api/"):
            plain = _attack(method, path, ids, "")
            for parameter in operation.get("parameters", []):
                yield from _of_parameter(plain, path, ids, parameter)
            if method == "get":
                many = "&".join(f"unknown{number}=1" for number in range(10_000))
                yield replace(plain, name=f"{plain.name}10,000 names", path=f"{plain.path}?{many}")
                few = "&".join(f"limi{number}=1" for number in range(900))
                yield replace(plain, name=f"{plain.name}900 names", path=f"{plain.path}?{few}")
    yield from _of_admin_lists()


def _of_parameter(
    plain: Attack, path: str, ids: dict[str, str], parameter: dict[str, Any]
) -> Iterator[Attack]:
    name = parameter["name"]
    longest = parameter["schema"].get("maxLength", 100)
    for kind, size in chain(
        ((kind, longest) for kind in texts(1) if parameter["in"] == "query"),
        ((kind, HEAD_CHARACTERS) for kind in QUADRATIC),
    ):
        text = _cached_texts(size)[kind]
        called = f"{plain.name}{name}: {kind} x{size}"
        value = quote(text.encode("utf-8", "surrogatepass"), safe="")[:HEAD_CHARACTERS]
        if parameter["in"] == "query":
            yield replace(plain, name=called, path=f"{plain.path}?{name}={value}")
        elif parameter["in"] == "path":
            target = _attack(plain.method, path, {**ids, name: value}, "").path
            yield replace(plain, name=called, path=target)
    if parameter["in"] == "query":
        again = "&".join([f"{name}=1"] * 900)
        yield replace(plain, name=f"{plain.name}{name}: 900 times", path=f"{plain.path}?{again}")


def _of_admin_lists() -> Iterator[Attack]:
    """Yield requests with each hostile value in each parameter of each list of the admin."""
    for model, model_admin in admin.site._registry.items():
        opts = model._meta
        path = f"/admin/{opts.app_label}/{opts.model_name}/"
        names = ["q", "o", "p", "_popup", "e"]
        for entry in model_admin.list_filter:
            found = entry[1] if isinstance(entry, tuple) else entry
            names.append(str(getattr(found, "parameter_name", None) or entry))
        for name in names:
            for kind in QUADRATIC[:3] if name == "q" else QUADRATIC[2:3]:
                text = _cached_texts(HEAD_CHARACTERS)[kind]
                value = quote(text.encode("utf-8", "surrogatepass"), safe="")[:HEAD_CHARACTERS]
                title = f"GET {path} {name}: {kind}"
                yield Attack(title, "GET", f"{path}?{name}={value}", is_admin=True)
            title = f"GET {path} {name}: words"
            words = "+".join(["a"] * (12 if name == "q" else 500))  # as many as are taken
            yield Attack(title, "GET", f"{path}?{name}={words}", is_admin=True)


def everything(ids: dict[str, str]) -> Iterator[Attack]:
    """Yield all requests."""
    return chain(of_bodies(ids), of_addresses(ids), of_headers(ids))


def of_headers(ids: dict[str, str]) -> Iterator[Attack]:
    """Yield requests with each hostile value in each header that something here reads."""
    body, room = json.dumps(SEED_REQUEST).encode(), MAX_HEADERS - 1_000
    targets = [
        Attack("POST submit ", "POST", SUBMIT, body),
        Attack("GET media ", "GET", f"/media/{ids['task_id']}/film.mp4?signature=a"),
        Attack("POST login ", "POST", "/admin/login/", b"a=1", "application/x-www-form-urlencoded"),
    ]
    values = {
        "commas": "," * room,
        "addresses": "1.2.3.4," * (room // 8),
        "types": "a/b;q=0.1," * (room // 10),
        "parameters": "application/json" + ";a=b" * (room // 4),
        "quotes": 'application/json;a="' + '\\"' * (room // 2),
        "semicolons": ";" * room,
        "cookies": "a=1;" * (room // 4),
        "ranges": "bytes=" + "0-1," * (room // 4),
        "spaces": "bytes=" + " " * room + "x",
        "digits": "9" * room,
        "a key with a tail": "abcdefgh." + "a" * room,
        "letters": "a" * room,
        "etags": 'W/"a", ' * (room // 7),
        "dots": "a." * (room // 2),
        "colons": ":" * room,
        "brackets": "[" * room,
        "a date": "Sun, 06 Nov 1994 08:49:37 " + "G" * room,
        "latin letters": "\xe9" * room,
    }
    for target in targets:
        for header in HEADERS:
            for kind, value in values.items():
                name = f"{target.name}{header}: {kind}"
                if header == "Content-Type":
                    short = value[:CONTENT_TYPE_CHARACTERS]
                    yield replace(target, name=name, content_type=short)
                else:
                    yield replace(target, name=name, headers={header: value})
