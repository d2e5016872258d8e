"""How does the API page learn what a field of a request takes? The field says it itself.

drf-spectacular would describe the class that a field is derived from.
"""

from __future__ import annotations

from typing import Any

from webhooks_app.api.openapi import OpenApiSerializerExtension, OpenApiSerializerFieldExtension


class Described:
    """A field that knows its own JSON Schema, since its base class would tell another."""

    def schema(self) -> dict[str, Any]:
        """Return the schema."""
        raise NotImplementedError


class DescribedField(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    """Take the schema of a field from the field."""

    target_class = Described
    match_subclasses = True

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        """Return it."""
        schema: dict[str, Any] = self.target.schema()
        return schema


class StrictObject(OpenApiSerializerExtension):  # type: ignore[no-untyped-call]
    """Say of every request object that it takes no other keys."""

    target_class = "webhooks_app.api.fields.StrictSerializer"
    match_subclasses = True

    def map_serializer(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        """Return the serializer's own schema, closed."""
        schema = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)
        return {**schema, "additionalProperties": False}


def text_pattern(*, may_be_blank: bool = False, has_lines: bool = False) -> str:
    """Return the regular expression of a text without control characters.

    Args:
        has_lines: tabs and line breaks are none.
    """
    control = r"\u0000-\u0008\u000b-\u001f\u007f-\u009f"
    if not has_lines:
        control += r"\t\n"
    return f"^[^{control}]*$" if may_be_blank else rf"^[^{control}]*[^\s{control}][^{control}]*$"
