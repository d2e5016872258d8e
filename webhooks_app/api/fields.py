"""Which values does a field of a request take? Values of one JSON type, never converted.

DRF's own fields read 1 as "1" and "true" as True; these refuse a wrong type, and null is one
unless the field allows it. A field's message says what it takes, and `Field.schema` says the same
to the OpenAPI document.
"""

from __future__ import annotations

import re
import unicodedata
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError

from webhooks_app.api.openapi import OpenApiSerializerFieldExtension
from webhooks_app.conf import webhook_settings
from webhooks_app.egress import MAX_URL_LENGTH, EgressDenied, check_url
from webhooks_app.notation import (
    EVENT_ID,
    PROJECT_ID,
    PROJECT_ID_SHAPE,
    did_you_mean,
    sentence,
)
from webhooks_app.outbox import InvalidFilter
from webhooks_app.retry import MAX_WAIT_SECONDS, MAX_WAITS, resolve_policy

BIGGEST_NUMBER = 2**53  # what a JSON number says without loss
_DIGITS = re.compile(r"-?[0-9]{1,19}", re.ASCII)
# As regular expressions write them; line breaks are \n and the tab.
_CONTROL_BUT_LINES = r"\u0000-\u0008\u000b-\u001f\u007f-\u009f"
_CONTROL = _CONTROL_BUT_LINES + r"\t\n"
#: So many characters at most become one by NFC.
NFC_SHRINKS = 4
#: Unicode's Stream-Safe Text Format (UAX 15, section 13) allows so many marks on one letter. NFC
#: sorts them, in a time that grows with the square of their number.
MAX_MARKS = 30


class Refused(ValidationError):
    """A value that a field does not take; ``code`` is one of those documented for clients."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(ErrorDetail(message, code))


class Field(serializers.Field[Any, Any, Any, Any]):
    """A field of a request, with a JSON Schema of its own."""

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of what a client may send."""
        raise NotImplementedError

    def validate_empty_values(self, data: Any) -> tuple[bool, Any]:
        """Leave null to the field, which refuses it as it does every wrong type."""
        if data is None and not self.allow_null:
            return False, data
        return super().validate_empty_values(data)

    def to_representation(self, value: Any) -> Any:
        return value  # DRF asks for it: some fields are also shown in answers


class DescribedField(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    """Let drf-spectacular ask the field; it would describe the class that this is derived from."""

    target_class = Field
    match_subclasses = True

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        schema: dict[str, Any] = self.target.schema()
        return schema


class Text(Field, serializers.CharField):
    """A string: trimmed, NFC, without control characters; line breaks only where ``is_long``.

    Args:
        max_length: in characters, after normalisation.
        pattern: what the whole text must match.
        shape: what to say of every text that has not the form of this field.
    """

    def __init__(
        self,
        *,
        max_length: int,
        is_long: bool = False,
        pattern: str = "",
        shape: str = "",
        **kw: Any,
    ) -> None:
        self.pattern, self.shape, self.longest = pattern, shape, max_length
        self.control = _CONTROL_BUT_LINES if is_long else _CONTROL
        super().__init__(max_length=max_length, **kw)

    def schema(self) -> dict[str, Any]:
        # Of the text before it is trimmed and normalised.
        pattern, control = self.pattern, self.control
        if not pattern:
            pattern = f"[^{control}]*"
            if not self.allow_blank:
                pattern += rf"[^\s{control}][^{control}]*"
        return {"type": "string", "maxLength": self.longest, "pattern": f"^{pattern}$"}

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            raise Refused("bad_type", "Must be a string.")
        text = data.strip()
        # First of all: to normalise or search a text may take the square of its length.
        self._check_length(text, NFC_SHRINKS * self.longest)
        text = _composed(text.replace("\r\n", "\n"))
        self._check_length(text, self.longest)
        if re.search(f"[{self.control}]", text):
            raise Refused("bad_format", "May not contain control characters.")
        if self.pattern and not re.fullmatch(self.pattern, text):
            raise Refused("bad_format", self.shape)
        return text

    def _check_length(self, text: str, longest: int) -> None:
        if len(text) > longest:
            if self.shape:
                raise Refused("bad_format", self.shape)
            raise Refused("too_long", f"At most {self.longest} characters.")

    def run_validation(self, data: Any = serializers.empty) -> Any:
        """Validate; an empty text counts as missing unless ``allow_blank``."""
        if isinstance(data, str) and not data.strip():
            if not self.allow_blank:
                raise Refused("required", "May not be empty.")
            return ""
        is_settled, value = self.validate_empty_values(data)
        return value if is_settled else self.to_internal_value(value)


def _composed(text: str) -> str:
    """Normalise a text to NFC; its length must be limited already."""
    if text.isascii():
        return text
    marks = 0
    for character in text:
        marks = marks + 1 if unicodedata.category(character).startswith("M") else 0
        if marks > MAX_MARKS:
            message = f"At most {MAX_MARKS} combining marks may follow one another."
            raise Refused("bad_format", message)
    return unicodedata.normalize("NFC", text)


class ProjectId(Text):
    """The id of a project."""

    def __init__(self, **kw: Any) -> None:
        super().__init__(max_length=100, pattern=PROJECT_ID, shape=PROJECT_ID_SHAPE, **kw)


class Named(Text):
    """A word that names what is looked for, in one of the forms of `outbox.who`.

    Args:
        read: reads the word, or raises InvalidFilter. The word itself is the value.
        known: returns the only words that there are; none if there may be any.
    """

    def __init__(
        self,
        read: Callable[[str, str], Any],
        *,
        known: Callable[[], Sequence[str]] = tuple,
        **kw: Any,
    ) -> None:
        self.read, self.known = read, known
        super().__init__(**kw)

    def schema(self) -> dict[str, Any]:
        known = list(self.known())
        return {"type": "string", "enum": known} if known else super().schema()

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        try:
            self.read(text, "")
        except InvalidFilter as refused:
            raise Refused("bad_format", sentence(refused.message)) from None
        return text


class MessageId(Field):
    """A message: its number, or its ``webhook-id`` (``msg_...``) or the beginning of that."""

    def schema(self) -> dict[str, Any]:
        number = {"type": "integer", "minimum": 1, "maximum": BIGGEST_NUMBER}
        return {"anyOf": [number, {"type": "string", "pattern": f"^{EVENT_ID}$"}]}

    def to_internal_value(self, data: Any) -> int | str:
        if getattr(self.root, "is_query", False) and re.fullmatch("[0-9]{1,16}", str(data)):
            data = int(data)
        if isinstance(data, int) and not isinstance(data, bool) and 1 <= data <= BIGGEST_NUMBER:
            return data
        if isinstance(data, str) and re.fullmatch(EVENT_ID, data):
            return data
        shape = "a message's number, or its webhook-id such as msg_2f1c0d3b4a59."
        if isinstance(data, int | str) and not isinstance(data, bool):
            raise Refused("bad_format", f"Use {shape}")
        raise Refused("bad_type", f"Must be {shape}")


class CallbackUrl(Field):
    """A URL that the egress policy lets us call; taken exactly as sent, never trimmed."""

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "uri", "maxLength": MAX_URL_LENGTH}

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            raise Refused("bad_type", "Must be a string.")
        return checked_url(data)


def checked_url(url: str) -> str:
    """Return a URL that we may call; refuse it in the words of the egress policy."""
    try:
        check_url(url)
    except EgressDenied as denied:
        raise Refused(str(denied.code), denied.message) from None
    return url


class Number(Field):
    """A number from ``least`` to ``most``, never a string or a boolean."""

    kind = "number"

    def __init__(self, least: float, most: float, *, unit: str = "", **kw: Any) -> None:
        self.least, self.most, self.unit = least, most, unit
        super().__init__(**kw)

    def schema(self) -> dict[str, Any]:
        return {"type": self.kind, "minimum": self.least, "maximum": self.most}

    def to_internal_value(self, data: Any) -> float:
        if isinstance(data, bool) or not isinstance(data, int | float):
            raise Refused("bad_type", "Must be a number.")
        if not self.least <= data <= self.most:
            unit = f" {self.unit}" if self.unit else ""
            # 16 digits: all of every number that a bound can be.
            message = f"Must be from {self.least:.16g} to {self.most:.16g}{unit}."
            raise Refused("out_of_range", message)
        return data


class Whole(Number):
    """A whole number; in a query string its digits."""

    kind = "integer"

    def to_internal_value(self, data: Any) -> int:
        is_query = getattr(self.root, "is_query", False)
        if is_query and isinstance(data, str) and _DIGITS.fullmatch(data):
            data = int(data)
        is_whole = isinstance(data, int) or (isinstance(data, float) and data.is_integer())
        if isinstance(data, bool) or not is_whole:  # JSON does not tell 24.0 from 24
            raise Refused("bad_type", "Must be a whole number.")
        return int(super().to_internal_value(int(data)))


class Flag(Field):
    """``true`` or ``false``."""

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            raise Refused("bad_type", "Must be true or false.")
        return data


class Choice(Field, serializers.ChoiceField):
    """One of a few values, told apart by type: "1" is not 1, nor is true."""

    def schema(self) -> dict[str, Any]:
        values = list(self.choices)
        of_texts = {"type": "string"} if all(isinstance(value, str) for value in values) else {}
        return {**of_texts, "enum": values}

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, float) and data.is_integer():
            data = int(data)  # JSON does not tell 24.0 from 24
        for value in self.choices:
            if type(value) is type(data) and value == data:
                return value
        known = [str(value) for value in self.choices]
        message = f"Must be one of: {', '.join(known)}."
        if not isinstance(data, (str, int)) or isinstance(data, bool):
            raise Refused("bad_type", message)
        raise Refused("not_allowed", message + did_you_mean(str(data), known))


class Moment(Field, serializers.DateTimeField):
    """A time as RFC 3339; UTC where it names no zone."""

    LONGEST = 64

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "date-time"}

    def to_internal_value(self, value: Any) -> Any:
        if not isinstance(value, str):
            raise Refused("bad_type", "Must be a string.")
        try:
            if len(value) <= self.LONGEST:
                return super().to_internal_value(value)
        except (ValidationError, ValueError, OverflowError):
            pass
        raise Refused("bad_format", "Use RFC 3339, for example 2025-01-15T10:35:30Z.")


class Uuid(Field):
    """A UUID in any of the forms that Python reads."""

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "uuid"}

    def to_internal_value(self, data: Any) -> uuid.UUID:
        if not isinstance(data, str):
            raise Refused("bad_type", "Must be a string.")
        try:
            return uuid.UUID(data)
        except ValueError:
            raise Refused("bad_format", "Must be a UUID.") from None


class Items(serializers.ListField):
    """A list with at most ``most`` items, counted before anything in it is looked at."""

    default_error_messages = {"null": "Must be a list."}

    def __init__(self, *, most: int, **kwargs: Any) -> None:
        self.most = most
        # For the schema; the validator that DRF adds comes after the items.
        super().__init__(max_length=most, **kwargs)

    def to_internal_value(self, data: Any) -> list[Any]:
        if not isinstance(data, list):
            raise Refused("bad_type", "Must be a list.")
        if len(data) > self.most:
            raise Refused("too_long", f"At most {self.most} items.")
        return list(super().to_internal_value(data))


class FreeObject(Field):
    """An object with any members."""

    def schema(self) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": True}

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            raise Refused("bad_type", "Must be an object.")
        return data


class RetryPolicy(Field):
    """The name of a policy, or the waits themselves in seconds."""

    def schema(self) -> dict[str, Any]:
        wait = {"type": "number", "minimum": 0, "maximum": MAX_WAIT_SECONDS}
        waits = {"type": "array", "items": wait, "maxItems": MAX_WAITS}
        return {"anyOf": [{"enum": sorted(webhook_settings.POLICIES)}, waits]}

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, str):
            if data not in webhook_settings.POLICIES:
                known = ", ".join(sorted(webhook_settings.POLICIES))
                raise Refused("not_allowed", f"Known policies: {known}.")
            return data
        if not isinstance(data, list):
            message = "Must be the name of a policy or a list of waits in seconds."
            raise Refused("bad_type", message)
        try:
            resolve_policy(data)
        except ValueError as error:
            raise Refused("out_of_range", str(error)) from None
        return data
