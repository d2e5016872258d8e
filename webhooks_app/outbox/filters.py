"""Which events does an endpoint want? A small filter in JSON over an event's body. Pure.

A filter is a condition, or a group of them: ``{"all": [...]}``, ``{"any": [...]}`` or
``{"not": ...}``. A condition is ``{"path": "/metadata/userId", "op": "eq", "value": "user-1"}``,
its path a JSON pointer (RFC 6901) into the body.

Values are compared as JSON knows them and never converted: "1" is not 1, true is not 1, 1 is 1.0,
and null is a value, while a path that leads nowhere has none: there only ``exists`` with false
holds. Texts are compared character by character.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

#: All in one filter.
MAX_CONDITIONS = 20
#: Groups within one another.
MAX_DEPTH = 4
#: Values of one ``in``.
MAX_VALUES = 50
#: Characters of a filter as JSON: it is read with every event.
MAX_LENGTH = 8_192
GROUPS = ("all", "any", "not")
OPS = ("eq", "in", "prefix", "exists")
_MEMBERS = ("path", "op", "value")
_POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)+")
_INDEX = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)
_MAX_DIGITS = 4_000  # Python refuses to read integers of more than 4,300
_KINDS = {bool: "boolean", int: "number", float: "number", str: "string", dict: "object"}


class _Missing:
    """What a path that leads nowhere leads to."""


MISSING: Final = _Missing()


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a filter: where (a JSON pointer into it), a code, and a sentence."""

    pointer: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Looked:
    """What one condition saw; ``pointer`` says where it stands in the filter.

    ``seen`` is `MISSING` where the path leads nowhere. ``decided``: whether the filter's result
    rests on it; the others could have come out either way.
    """

    pointer: str
    path: str
    op: str
    value: Any
    seen: Any
    holds: bool
    decided: bool


# -- what a filter may be -------------------------------------------------------------------------


def faults(given: Any) -> list[Fault]:
    """Return what is wrong with a filter; nothing if it can be used."""
    checked = _Check()
    found = [*checked.node(given, "", 1)]
    if checked.conditions > MAX_CONDITIONS:
        return [Fault("", "too_long", f"At most {MAX_CONDITIONS} conditions in all.")]
    if not found and len(json.dumps(given, ensure_ascii=False)) > MAX_LENGTH:
        return [Fault("", "too_long", f"At most {MAX_LENGTH:,} characters as JSON.")]
    return found


class _Check:
    """A walk through a filter that nobody has checked; stops after too many conditions."""

    def __init__(self) -> None:
        self.conditions = 0

    def node(self, given: Any, at: str, depth: int) -> Iterator[Fault]:
        if not isinstance(given, dict):
            self.conditions += 1
            yield Fault(at, "bad_type", "Must be an object: a condition, or all, any or not.")
            return
        group = next((name for name in GROUPS if name in given), None)
        if group is None:
            self.conditions += 1
            yield from _condition_faults(given, at)
            return
        for name in given:
            if name != group:
                yield Fault(_step(at, name), "not_allowed", f'May not stand beside "{group}".')
        if depth > MAX_DEPTH:
            self.conditions += 1
            yield Fault(at, "too_long", f"At most {MAX_DEPTH} groups within one another.")
            return
        yield from self._group(given[group], f"{at}/{group}", group, depth)

    def _group(self, inside: Any, at: str, group: str, depth: int) -> Iterator[Fault]:
        if group == "not":
            yield from self.node(inside, at, depth + 1)
            return
        if not isinstance(inside, list) or not inside:
            self.conditions += 1
            code = "required" if inside == [] else "bad_type"
            yield Fault(at, code, "Must be a list of at least one condition.")
            return
        for place, item in enumerate(inside):
            if self.conditions > MAX_CONDITIONS:
                return
            yield from self.node(item, f"{at}/{place}", depth + 1)


def _condition_faults(given: dict[Any, Any], at: str) -> Iterator[Fault]:
    if not given:
        yield Fault(at, "required", "Give all, any, not, or a condition: path, op and value.")
        return
    for name in given:
        if name not in _MEMBERS:
            message = "There is no such member: a condition has path, op and value."
            yield Fault(_step(at, name), "unknown_field", message)
    yield from _path_faults(given, f"{at}/path")
    op = given.get("op")
    if op not in OPS:
        code = "required" if "op" not in given else "not_allowed"
        code = code if isinstance(op, str) or op is None else "bad_type"
        yield Fault(f"{at}/op", code, f"Must be one of: {', '.join(OPS)}.")
    elif "value" in given:
        yield from _value_faults(op, given["value"], f"{at}/value")
    elif op != "exists":
        yield Fault(f"{at}/value", "required", "May not be missing.")


def _path_faults(given: dict[Any, Any], at: str) -> Iterator[Fault]:
    path = given.get("path")
    shape = "Use a JSON pointer into the event's body, for example /metadata/userId"
    if "path" not in given:
        yield Fault(at, "required", f"{shape}.")
    elif not isinstance(path, str):
        yield Fault(at, "bad_type", "Must be a string.")
    elif not _is_storable(path) or not _POINTER.fullmatch(path):
        yield Fault(at, "bad_format", f"{shape}; ~ is written ~0 in it, and / within a name ~1.")


def _value_faults(op: str, value: Any, at: str) -> Iterator[Fault]:
    if op == "exists":
        if not isinstance(value, bool):
            yield Fault(at, "bad_type", "Must be true or false.")
    elif op == "prefix":
        if not isinstance(value, str):
            yield Fault(at, "bad_type", "Must be a string.")
        elif not value:
            yield Fault(at, "required", "May not be empty: every text begins with nothing.")
        else:
            yield from _scalar_faults(value, at)
    elif op == "eq":
        yield from _scalar_faults(value, at)
    elif not isinstance(value, list):
        yield Fault(at, "bad_type", "Must be a list of values.")
    elif not value:
        yield Fault(at, "required", "May not be empty: no value is in an empty list.")
    elif len(value) > MAX_VALUES:
        yield Fault(at, "too_long", f"At most {MAX_VALUES} items.")
    else:
        for place, item in enumerate(value):
            yield from _scalar_faults(item, f"{at}/{place}")


def _scalar_faults(value: Any, at: str) -> Iterator[Fault]:
    if isinstance(value, str):
        if not _is_storable(value):
            yield Fault(at, "bad_format", "May not hold NUL or half of a surrogate pair.")
    elif isinstance(value, float) and not math.isfinite(value):
        yield Fault(at, "out_of_range", "Must be a finite number.")
    elif not (value is None or isinstance(value, (bool, int, float))):
        yield Fault(at, "bad_type", "Must be a string, a number, true, false or null.")


def _is_storable(text: str) -> bool:
    """Say whether PostgreSQL keeps the text in a jsonb."""
    return "\0" not in text and text.encode("utf-8", "replace").decode() == text


def _step(at: str, name: Any) -> str:
    return f"{at}/{str(name)[:100].replace('~', '~0').replace('/', '~1')}"


# -- what it says of an event ---------------------------------------------------------------------


def read(body: bytes) -> Any:
    """Return what a body says; `MISSING` if it is not JSON, so that no path leads anywhere."""
    try:
        return json.loads(body, parse_int=_integer)
    except (ValueError, RecursionError):
        return MISSING


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) < _MAX_DIGITS else float(digits)


def matches(given: Any, document: Any) -> bool:
    """Say whether a filter without `faults` wants the event that `read` returned."""
    for group in GROUPS:
        if group in given:
            inside = given[group]
            if group == "not":
                return not matches(inside, document)
            return (all if group == "all" else any)(matches(item, document) for item in inside)
    return _holds(given, _at(document, given["path"]))


def explain(given: Any, document: Any) -> list[Looked]:
    """Return what every condition of a filter without `faults` saw, in the filter's order.

    Of a group that holds because of one of its members, or fails because of one, the first such
    member decided; else all did.
    """
    return [*_explain(given, document, "", decided=True)]


def _explain(given: Any, document: Any, at: str, *, decided: bool) -> Iterator[Looked]:
    group = next((name for name in GROUPS if name in given), None)
    if group == "not":
        yield from _explain(given["not"], document, f"{at}/not", decided=decided)
    elif group is not None:
        items = given[group]
        results = [matches(item, document) for item in items]
        enough = group == "any"  # one such member is enough
        first = results.index(enough) if enough in results else None
        for place, item in enumerate(items):
            own = decided and first in (None, place)
            yield from _explain(item, document, f"{at}/{group}/{place}", decided=own)
    else:
        seen = _at(document, given["path"])
        value = given.get("value", True)
        yield Looked(at, given["path"], given["op"], value, seen, _holds(given, seen), decided)


def _at(document: Any, path: str) -> Any:
    """Return what a JSON pointer leads to, or `MISSING`."""
    for token in path[1:].split("/"):
        name = token.replace("~1", "/").replace("~0", "~")
        if isinstance(document, dict) and name in document:
            document = document[name]
        elif isinstance(document, list) and _INDEX.fullmatch(name) and int(name) < len(document):
            document = document[int(name)]
        else:
            return MISSING
    return document


def _holds(condition: Any, seen: Any) -> bool:
    op, value = condition["op"], condition.get("value", True)
    if op == "exists":
        return (seen is not MISSING) is value
    if op == "prefix":
        return isinstance(seen, str) and seen.startswith(value)
    return any(_is_same(seen, each) for each in (value if op == "in" else [value]))


def _is_same(seen: Any, value: Any) -> bool:
    # Python takes True for 1, which JSON does not; it compares int and float exactly.
    if isinstance(seen, bool) or isinstance(value, bool):
        return seen is value
    if isinstance(seen, (int, float)) and isinstance(value, (int, float)):
        return seen == value
    return type(seen) is type(value) and bool(seen == value)


def kind_of(seen: Any) -> str:
    """Return the JSON type of a value, or "missing"."""
    if seen is MISSING:
        return "missing"
    return "null" if seen is None else _KINDS.get(type(seen), "array")
