"""Which form of a schema do generators of clients understand? Every schema is brought into it.

None of it changes which values are valid: a schema says the same in other words. The reasons:

- a list of values that stands in several places, or without a name, becomes `Status2` or `Status8`;
- openapi-typescript demands what has a default, so a default is told in words;
- two objects that are alike but for their place get two classes, or one name for both;
- a number without a format is a 32-bit one in Java and Go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

Schema = dict[str, Any]
SCHEMAS = "#/components/schemas/"
FREE_OBJECT = "FreeObject"
_MOST_IN_32_BITS = 2**31 - 1
_BLANK: Schema = {"type": "string", "maxLength": 0}


class Shaper:
    """Rewrites schemas; lists of values and items of lists become components with names.

    Args:
        known: the names of those that stand in several places.
    """

    def __init__(self, known: Mapping[str, Schema]) -> None:
        self._names = {_key(schema): name for name, schema in known.items()}
        #: The components that the shaped schemas refer to.
        self.components: dict[str, Schema] = {}

    def shape(self, schema: Schema, place: str) -> Schema:
        """Return a schema in the form that generators understand.

        Args:
            place: the name for a list of values, or an item, that stands only here.
        """
        schema = _without_blank(schema)
        found: Schema = {name: value for name, value in schema.items() if name != "readOnly"}
        if "items" in found:
            found["items"] = self._item(self.shape(found["items"], place), place)
        if isinstance(found.get("additionalProperties"), dict):
            found["additionalProperties"] = self.shape(found["additionalProperties"], place)
        for kind in ("anyOf", "oneOf", "allOf"):
            if kind in found:
                found[kind] = [self.shape(part, place) for part in found[kind]]
        if "properties" in found:
            found["properties"] = {
                name: _default_in_words(self.shape(member, place + _title(name)))
                for name, member in found["properties"].items()
            }
        if "enum" in found:
            return self._values(found, place)
        if found.get("type") == "object" and "properties" not in found:
            return self._free_object(found)
        return _with_null(_with_format(found))

    def _values(self, schema: Schema, place: str) -> Schema:
        """Return a reference to a list of values; the constant where there is but one."""
        values = schema["enum"]
        texts = [value for value in values if isinstance(value, str)]
        others = [value for value in values if not isinstance(value, str)]
        rest: Schema = {name: schema[name] for name in ("description", "default") if name in schema}
        if texts and others:
            parts = [self._values({"enum": part}, place) for part in (texts, others)]
            return {"anyOf": parts, **rest}
        kind = "string" if texts else "integer"
        if len(values) == 1:
            return {"type": kind, "const": values[0], **rest}
        return {**self._named({"type": kind, "enum": values}, place), **rest}

    def _item(self, schema: Schema, place: str) -> Schema:
        """Return a reference to a list's item, if that is a plain value with bounds."""
        if schema.get("type") not in ("string", "integer", "number") or len(schema) <= 2:
            return schema
        return self._named(schema, place.removesuffix("s"))

    def _named(self, schema: Schema, place: str) -> Schema:
        name = self._names.setdefault(_key(schema), place)
        self.components[name] = schema
        return {"$ref": SCHEMAS + name}

    def _free_object(self, schema: Schema) -> Schema:
        """Return a reference to `FreeObject`, if the schema allows any members."""
        if schema.get("additionalProperties") not in (True, {}):
            return schema
        self.components[FREE_OBJECT] = {
            "type": "object",
            "description": "An object with any members.",
            "additionalProperties": True,
        }
        rest = {name: schema[name] for name in ("description",) if name in schema}
        return {"$ref": SCHEMAS + FREE_OBJECT, **rest}


def _key(schema: Schema) -> bytes:
    """Return a key that is equal for schemas of the same values."""
    values = sorted(schema["enum"], key=str) if "enum" in schema else _with_format(schema)
    return orjson.dumps(values, option=orjson.OPT_SORT_KEYS)


def _title(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in name.replace("-", "_").split("_"))


def _without_blank(schema: Schema) -> Schema:
    """Return a text's schema without drf-spectacular's second form for the empty text.

    The first form allows it too, and `oneOf` refuses what two forms allow.
    """
    forms = schema.get("oneOf", [])
    if len(forms) != 2 or forms[1] != _BLANK:
        return schema
    return {**forms[0]} | {name: value for name, value in schema.items() if name != "oneOf"}


def _default_in_words(schema: Schema) -> Schema:
    if "default" not in schema:
        return schema
    default = schema["default"]
    told = f"By default {default if isinstance(default, str) else orjson.dumps(default).decode()}."
    rest = {name: value for name, value in schema.items() if name != "default"}
    if default in ("", None) or "default" in rest.get("description", "").lower():
        return rest
    return {**rest, "description": f"{rest.get('description', '')} {told}".strip()}


def _with_format(schema: Schema) -> Schema:
    kind = schema.get("type")
    if kind == "number":
        return {**schema, "format": "double"}
    if kind == "integer" and schema.get("maximum", _MOST_IN_32_BITS + 1) > _MOST_IN_32_BITS:
        return {**schema, "format": "int64"}
    return schema


def _with_null(schema: Schema) -> Schema:
    """Return `type: [string, null]` for a plain value that may be null."""
    forms = schema.get("anyOf", [])
    if len(forms) != 2 or forms[1] != {"type": "null"} or "type" not in forms[0]:
        return schema
    return {**forms[0], "type": [forms[0]["type"], "null"]}


def references(part: Any) -> Iterator[str]:
    """Return the names of the components that a part of the document refers to."""
    if isinstance(part, dict):
        if str(part.get("$ref", "")).startswith(SCHEMAS):
            yield part["$ref"].removeprefix(SCHEMAS)
        part = list(part.values())
    if isinstance(part, list):
        for inner in part:
            yield from references(inner)


def reachable(part: Any, components: Mapping[str, Schema]) -> set[str]:
    """Return the names of the components that a part of the document needs, also indirectly."""
    found: set[str] = set()
    waiting = set(references(part))
    while waiting:
        name = waiting.pop()
        found.add(name)
        waiting |= set(references(components[name])) - found
    return found
