"""Who do you mean? How a host, an id, a project or a piece of metadata is written, at every door.

Searches, filters, commands and the API, also those of tasks, read these words here. Every form has
an index behind it. A text that nothing can match raises `InvalidFilter`, whose sentence says what
would: an empty list means that there is nothing, never that the question was wrong.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import takewhile
from typing import Any

from django.db import connection
from django.db.models import Model, Q

from webhooks_app.conf import webhook_settings
from webhooks_app.egress import EgressDenied, origin_of
from webhooks_app.notation import (
    BIGGEST_ID,
    EVENT_ID,
    EVENT_ID_PREFIX,
    PROJECT_ID,
    PROJECT_ID_SHAPE,
    did_you_mean,
)

#: A task's id is found by so many of its first digits.
LEAST_HEX = 4
#: From so many digits on a number may also be the beginning of a task's id.
LEAST_DIGITS = 8
#: Longer keys and values of metadata are not kept for searches.
LONGEST_METADATA = 200
#: So many rows with one piece of metadata are named one by one; more are common enough to be met
#: soon, newest first.
FEW = 1_000
SHAPES = (
    "Search for a number, a task id or its first 4 digits, msg_…, a request id, a project, a host "
    "(hooks.example.org, hooks.example.org:8443, or a URL), or metadata as key=value."
)
_EVENT_ID_LENGTH = len(EVENT_ID_PREFIX) + 32
_REQUEST_ID = re.compile("[A-Za-z0-9._-]{1,64}")
_SUBJECT = re.compile(r"[\x21-\x7e]{1,64}")
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*).*", re.DOTALL)
_HOST_BEGINNING = re.compile(
    r"[a-z0-9_](?:[a-z0-9_-]|[.](?![.-])){0,252}|[0-9a-f]{0,4}:[0-9a-f:.]{0,37}"
)


class InvalidFilter(ValueError):
    """A filter has a value that nothing can match. ``name`` is the filter's."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name
        self.message = message


@dataclass(frozen=True, slots=True)
class Place:
    """Receivers' hosts: one, or with ``is_beginning`` all whose names begin so.

    An empty ``scheme`` and no ``port`` mean any.
    """

    host: str
    scheme: str = ""
    port: int | None = None
    is_beginning: bool = False

    @property
    def condition(self) -> Q:
        """What holds of such a `WebhookDestination`."""
        found = Q(host__startswith=self.host) if self.is_beginning else Q(host=self.host)
        if self.scheme:
            found &= Q(scheme=self.scheme)
        return found & Q(port=self.port) if self.port else found

    def __str__(self) -> str:
        name = f"[{self.host}]" if ":" in self.host else self.host
        text = f"{self.scheme}://{name}" if self.scheme else name
        return f"{text}:{self.port}" if self.port else text


@dataclass(frozen=True, slots=True)
class Ids:
    """All UUIDs from ``low`` to ``high``: one, or those with the same first digits."""

    low: uuid.UUID
    high: uuid.UUID

    def within(self, column: str) -> Q:
        """Return the condition on a column of UUIDs."""
        return self._within(column, self.low, self.high)

    def within_text(self, column: str) -> Q:
        """Return the condition on a text column; all of its ids have one length."""
        return self._within(column, str(self.low), str(self.high))

    @property
    def beginning(self) -> str:
        """What the ids have in common, as text."""
        low, high = str(self.low), str(self.high)
        same = takewhile(lambda pair: pair[0] == pair[1], zip(low, high, strict=True))
        return "".join(pair[0] for pair in same)

    def _within(self, column: str, low: Any, high: Any) -> Q:
        if low == high:
            return Q((column, low))
        return Q((f"{column}__gte", low), (f"{column}__lte", high))


class Kind(StrEnum):
    """What a word of a search names."""

    ROW = "number"
    MESSAGE = "message"
    TASK = "task"
    REQUEST = "request"
    PROJECT = "project"
    HOST = "host"
    METADATA = "metadata"


@dataclass(frozen=True, slots=True)
class Meaning:
    """One thing that a word may name.

    ``value`` by kind: int (number), `Ids` or text (task), `Place` (host), a pair of texts
    (metadata); else text.
    """

    kind: Kind
    value: Any


def meanings(term: str) -> list[Meaning]:
    """Return what a search term may name: several things where its form allows several.

    ``host=``, ``task=``, ``message=``, ``request=``, ``project=`` and ``metadata=key=value`` say
    which; any other ``key=value`` is metadata.

    Raises:
        InvalidFilter: it has the form of nothing that can be searched for.
    """
    term = term.strip()
    word, equals, value = term.partition("=")
    if equals and not _URL.fullmatch(term):
        if word in _READERS:
            return [_READERS[word](value.strip())]
        return [Meaning(Kind.METADATA, read_metadata(term))]
    if _URL.fullmatch(term):
        return [Meaning(Kind.HOST, read_place(term))]
    if term.startswith(EVENT_ID_PREFIX):
        return [Meaning(Kind.MESSAGE, read_event_id(term))]
    if term.isascii() and term.removeprefix("#").isdigit() and len(term) < LEAST_DIGITS:
        return [Meaning(Kind.ROW, read_number(term))]
    found = [meaning for read in _BARE for meaning in _tried(read, term)]
    if not found:
        raise InvalidFilter("search", f"{term[:100]!r} names nothing. {SHAPES}")
    return found


def _tried(read: Any, term: str) -> list[Meaning]:
    try:
        return [read(term)]
    except InvalidFilter:
        return []


def read_number(text: str, name: str = "number") -> int:
    """Return the number of a row."""
    digits = text.removeprefix("#")
    if digits.isascii() and digits.isdigit() and len(digits) < 20 and int(digits) <= BIGGEST_ID:
        return int(digits)
    raise InvalidFilter(name, "is a number such as 4711")


def read_place(text: str, name: str = "host", *, is_beginning: bool = False) -> Place:
    """Return the receiver that a host, host:port, origin or URL names.

    Args:
        is_beginning: a host without a port stands for all names that begin with it.
    """
    text = text.strip()
    url = _URL.fullmatch(text)
    scheme = url["scheme"].lower() if url else ""
    authority = (url["authority"] if url else text.split("/")[0]).rpartition("@")[2].lower()
    if authority.count(":") > 1 and not authority.startswith("["):
        authority = f"[{authority}]"  # an IPv6 address as logs write it
    host, port = _ascii(authority.removesuffix(".")), re.search(r":([0-9]{1,5})$", authority)
    try:
        origin = origin_of(f"{scheme or 'http'}://{host}/")
    except EgressDenied as denied:
        beginning = host.strip("[]")
        if is_beginning and not scheme and _HOST_BEGINNING.fullmatch(beginning):
            return Place(beginning, is_beginning=True)
        raise InvalidFilter(
            name, f"use a host, host:port or URL such as hooks.example.org:8443; {denied}"
        ) from None
    if scheme or port:
        return Place(origin.host, scheme, origin.port)
    return Place(origin.host, is_beginning=is_beginning and not origin.is_address)


def _ascii(authority: str) -> str:
    """Return an international name as it is stored, in its xn-- form."""
    if authority.isascii():
        return authority
    try:
        return authority.encode("idna").decode()
    except UnicodeError:
        return authority  # the grammar says what is wrong


def read_ids(text: str, name: str = "task") -> Ids:
    """Return the UUIDs that begin with a text, at least `LEAST_HEX` hexadecimal digits."""
    text = text.strip().lower().removeprefix("urn:uuid:").strip("{}")
    digits = text.replace("-", "")
    if re.fullmatch(f"[0-9a-f]{{{LEAST_HEX},32}}", digits):
        low, high = (uuid.UUID(digits.ljust(32, filler)) for filler in "0f")
        if text == digits or str(low).startswith(text):
            return Ids(low, high)
    raise InvalidFilter(
        name,
        f"is an id such as 7d9f1b0e-6a3c-4a5e-9b70-0f3f6f2f7c11, or at least its first {LEAST_HEX}"
        " digits",
    )


def read_subject(text: str, name: str = "task") -> Ids | str:
    """Return what an event is about: a task's id or its beginning, else exactly this text.

    Raises:
        InvalidFilter: also for text that is no id, where ``SUBJECT_IS_UUID`` is set.
    """
    text = text.strip()
    try:
        return read_ids(text, name)
    except InvalidFilter:
        is_ours = text.startswith("ping-") or not webhook_settings.SUBJECT_IS_UUID
        if is_ours and _SUBJECT.fullmatch(text):
            return text
        raise


def subject_condition(subject: Ids | str, column: str) -> Q:
    """Return the condition on a column of subjects."""
    return Q((column, subject)) if isinstance(subject, str) else subject.within_text(column)


def read_event_id(text: str, name: str = "message") -> str:
    """Return a ``webhook-id`` or its beginning."""
    text = text.strip()
    if re.fullmatch(EVENT_ID, text):
        return text
    raise InvalidFilter(name, "is a webhook-id such as msg_2f1c0d3b4a59687786a5b4c3d2e1f001")


def event_id_condition(text: str, column: str) -> Q:
    """Return the condition on a column of event ids."""
    whole = len(text) >= _EVENT_ID_LENGTH
    return Q((column if whole else f"{column}__startswith", text))


def read_project(text: str, name: str = "project") -> str:
    text = text.strip()
    if re.fullmatch(PROJECT_ID, text, re.ASCII):
        return text
    raise InvalidFilter(name, PROJECT_ID_SHAPE)


def read_request_id(text: str, name: str = "request_id") -> str:
    text = text.strip()
    if _REQUEST_ID.fullmatch(text):
        return text
    raise InvalidFilter(name, "is the X-Request-ID of an answer: 1 to 64 letters, digits, . _ or -")


def read_metadata(text: str, name: str = "metadata") -> tuple[str, str]:
    """Return the key and the value of ``key=value``."""
    key, equals, value = text.strip().partition("=")
    key, value = key.strip(), value.strip()
    is_short = max(len(key), len(value)) <= LONGEST_METADATA
    if not equals or not key or not value or not is_short or "\x00" in text:
        shape = f"of at most {LONGEST_METADATA} characters each, such as userId=42"
        raise InvalidFilter(name, f"is one key and its value, {shape}")
    return key, value


def metadata_condition(
    model: type[Model], column: str, asked: str | tuple[str, str], relation: str = ""
) -> Q:
    """Return the condition on rows whose ``column``, a jsonb of texts, has one key and value.

    Args:
        asked: ``key=value``, or the two.
        relation: from the rows that are filtered to those of ``model``; empty: they are the same.
    """
    key, value = read_metadata(asked) if isinstance(asked, str) else asked
    few = _few(model, column, {key: value})
    if few is not None:
        return Q((f"{relation or 'pk'}__in", few))
    path = f"{relation}__{column}" if relation else column
    return Q((f"{path}__contains", {key: value}))


def _few(model: type[Model], column: str, wanted: dict[str, str]) -> list[Any] | None:
    """Return the ids of the rows, None if there are more than `FEW`.

    The planner knows little of what is in a jsonb. With a limit it might read the newest rows
    first, which for a rare value means all of them; so the rows are found without one, and only
    fetched up to it (a materialized query is read as far as somebody asks).
    """
    table, key = model._meta.db_table, model._meta.pk.column
    sql = (
        f'WITH found AS MATERIALIZED (SELECT "{key}" FROM "{table}" WHERE "{column}" @> %s::jsonb)'  # noqa: S608 - names of ours
        f' SELECT "{key}" FROM found LIMIT %s'
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, [json.dumps(wanted), FEW + 1])
        rows = [row[0] for row in cursor.fetchall()]
    return rows if len(rows) <= FEW else None


def read_known(text: str, name: str, known: Sequence[str]) -> str:
    """Return a word that is one of those known."""
    if text in known:
        return text
    raise InvalidFilter(name, f"must be one of: {', '.join(known)}.{did_you_mean(text, known)}")


_READERS = {
    "host": lambda value: Meaning(Kind.HOST, read_place(value, is_beginning=True)),
    "task": lambda value: Meaning(Kind.TASK, read_subject(value)),
    "message": lambda value: _message(value),
    "request": lambda value: Meaning(Kind.REQUEST, read_request_id(value, "request")),
    "request_id": lambda value: Meaning(Kind.REQUEST, read_request_id(value)),
    "project": lambda value: Meaning(Kind.PROJECT, read_project(value)),
    "metadata": lambda value: Meaning(Kind.METADATA, read_metadata(value)),
}
_BARE = [
    lambda term: Meaning(Kind.ROW, read_number(term)),
    *(_READERS[word] for word in ("task", "project", "host", "request")),
]


def _message(value: str) -> Meaning:
    if value.startswith(EVENT_ID_PREFIX):
        return Meaning(Kind.MESSAGE, read_event_id(value))
    return Meaning(Kind.ROW, read_number(value, "message"))
