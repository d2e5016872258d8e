"""Which values does a field of a request take? Types as JSON has them, never "something like it".

DRF's own fields read 1 as "1" and "true" as True; a client that sends the wrong type should
hear of it. Every field says what it wants in its message and which code it fails with.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import cached_property
from typing import Any, NoReturn

from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError

from webhooks_app.api.described import Described, text_pattern
from webhooks_app.api.fields import Items, check_length, did_you_mean, unknown_names

__all__ = ["Items"]  # of the other field library, for those who take their fields from here

#: A request's object as given, and as it comes out of validation.
Given = Mapping[str, Any]
Members = dict[str, Any]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_CONTROL_BUT_LINES = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
#: So many characters at most become one by NFC.
NFC_SHRINKS = 4
#: Unicode's Stream-Safe Text Format (UAX 15, section 13) allows so many marks on one letter. NFC
#: sorts them, in a time that grows with the square of their number.
MAX_MARKS = 30


def refuse(code: str, message: str) -> NoReturn:
    """Fail with one of the documented codes."""
    raise ValidationError(ErrorDetail(message, code))


def composed(text: str) -> str:
    """Return the NFC of a text whose length was judged before."""
    if text.isascii():
        return text
    marks = 0
    for character in text:
        marks = marks + 1 if unicodedata.category(character).startswith("M") else 0
        if marks > MAX_MARKS:
            refuse("bad_format", f"At most {MAX_MARKS} combining marks may follow one another.")
    return unicodedata.normalize("NFC", text)


class Text(Described, serializers.CharField):
    """A string: trimmed, NFC, without control characters; line breaks only where ``is_long``."""

    default_error_messages = {
        "required": "This field is required.",
        "null": "Must be a string, not null.",
    }

    def __init__(
        self,
        *,
        max_length: int,
        is_long: bool = False,
        pattern: str = "",
        shape: str = "",
        **kw: Any,
    ) -> None:
        self.is_long = is_long
        self.pattern = pattern
        self.shape = shape
        self.longest = max_length  # counted after normalisation
        super().__init__(max_length=max_length, **kw)

    def schema(self) -> dict[str, Any]:
        """Return the schema of the text before it is normalised."""
        found: dict[str, Any] = {"type": "string", "maxLength": self.longest}
        free = text_pattern(may_be_blank=self.allow_blank, has_lines=self.is_long)
        found["pattern"] = f"^{self.pattern}$" if self.pattern else free
        return found

    def to_internal_value(self, data: Any) -> str:
        """Return the normalised text."""
        if not isinstance(data, str):
            refuse("bad_type", "Must be a string.")
        text = data.strip()
        code = "bad_format" if self.shape else "too_long"
        check_length(text, NFC_SHRINKS * self.longest, code, self.shape)
        text = composed(text.replace("\r\n", "\n"))
        forbidden = _CONTROL_BUT_LINES if self.is_long else _CONTROL
        if forbidden.search(text):
            refuse("bad_format", "May not contain control characters.")
        if self.pattern and not re.fullmatch(self.pattern, text):
            refuse("bad_format", self.shape)
        return text

    def run_validation(self, data: Any = serializers.empty) -> Any:
        """Validate; an empty text counts as missing unless ``allow_blank``."""
        if isinstance(data, str) and not data.strip():
            if not self.allow_blank:
                refuse("required", "May not be empty.")
            return ""
        return super().run_validation(data)


class Number(Described, serializers.Field[Any, Any, Any, Any]):
    """A number from ``least`` to ``most``; whole if ``is_whole``. Never a boolean or a string."""

    def __init__(
        self, least: float, most: float, *, unit: str = "", is_whole: bool = False, **kw: Any
    ) -> None:
        self.least, self.most, self.unit, self.is_whole = least, most, unit, is_whole
        super().__init__(**kw)

    def schema(self) -> dict[str, Any]:
        """Return the type and the bounds."""
        kind = "integer" if self.is_whole else "number"
        return {"type": kind, "minimum": self.least, "maximum": self.most}

    def to_internal_value(self, data: Any) -> float:
        """Return the number; a whole one as an int."""
        if isinstance(data, bool) or not isinstance(data, (int, float)):
            refuse("bad_type", "Must be a whole number." if self.is_whole else "Must be a number.")
        if self.is_whole and isinstance(data, float):
            if not data.is_integer():
                refuse("bad_type", "Must be a whole number.")
            data = int(data)
        if not self.least <= data <= self.most:
            unit = f" {self.unit}" if self.unit else ""
            refuse("out_of_range", f"Must be from {self.least:g} to {self.most:g}{unit}.")
        return float(data) if isinstance(data, float) else int(data)

    def to_representation(self, value: Any) -> Any:
        """Return the value as it is."""
        return value


class Whole(Number):
    """A whole number from ``least`` to ``most``."""

    def __init__(self, least: int, most: int, **kw: Any) -> None:
        super().__init__(least, most, is_whole=True, **kw)


class Flag(serializers.BooleanField):
    """``true`` or ``false``."""

    def to_internal_value(self, data: Any) -> bool:
        """Return the value."""
        if not isinstance(data, bool):
            refuse("bad_type", "Must be true or false.")
        return data

    def run_validation(self, data: Any = serializers.empty) -> Any:
        """Refuse null with our words."""
        if data is None:
            refuse("bad_type", "Must be true or false.")
        return super().run_validation(data)


class Choice(Described, serializers.ChoiceField):
    """One of a few values, told apart by type: "1" is not 1, nor is true."""

    def schema(self) -> dict[str, Any]:
        """Return the values."""
        return {"enum": list(self.choices)}

    def to_internal_value(self, data: Any) -> Any:
        """Return the value, or say which ones there are."""
        if isinstance(data, float) and data.is_integer():
            data = int(data)  # JSON does not tell 24.0 from 24
        for value in self.choices:
            if type(value) is type(data) and value == data:
                return value
        known = [str(value) for value in self.choices]
        if not isinstance(data, (str, int)) or isinstance(data, bool):
            refuse("bad_type", f"Must be one of: {', '.join(known)}.")
        hint = did_you_mean(str(data), known)
        refuse("not_allowed", f"Must be one of: {', '.join(known)}.{hint}")


class Resolution(Text):
    """``WIDTHxHEIGHT`` in pixels, both even, within the bounds of the medium."""

    def __init__(
        self, *, width: tuple[int, int], height: tuple[int, int], is_even: bool = True, **kw: Any
    ) -> None:
        self.width, self.height, self.is_even = width, height, is_even
        shape = "Use WIDTHxHEIGHT in pixels, for example 1920x1080."
        super().__init__(max_length=11, shape=shape, **kw)

    MOST_PIXELS = 8_294_400

    def schema(self) -> dict[str, Any]:
        """Return the form."""
        return {"type": "string", "pattern": "^[1-9][0-9]{2,3}x[1-9][0-9]{2,3}$"}

    def to_internal_value(self, data: Any) -> str:
        """Return the text, for example ``1920x1080``."""
        text = super().to_internal_value(data)
        match = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", text, re.ASCII)
        if match is None:
            refuse("bad_format", self.shape)
        width, height = int(match[1]), int(match[2])
        for name, size, (least, most) in (
            ("width", width, self.width),
            ("height", height, self.height),
        ):
            if not least <= size <= most:
                refuse("out_of_range", f"The {name} must be from {least} to {most} pixels.")
        if self.is_even and (width % 2 or height % 2):
            refuse("bad_format", "Width and height must be even.")
        if width * height > self.MOST_PIXELS:
            refuse("out_of_range", f"At most {self.MOST_PIXELS} pixels in all.")
        return text


class FreeObject(Described, serializers.Field[Any, Any, Any, Any]):
    """An object with any members."""

    def schema(self) -> dict[str, Any]:
        """Return the type."""
        return {"type": "object", "additionalProperties": True}

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """Return the object."""
        if not isinstance(data, dict):
            refuse("bad_type", "Must be an object.")
        return data

    def to_representation(self, value: Any) -> Any:
        """Return the value as it is."""
        return value


class StrictSerializer(serializers.Serializer[Any]):
    """An object without unknown keys; every error of every field is reported at once.

    An instance keeps no state while it validates, so one per class serves all requests.
    """

    default_error_messages = {"invalid": "Must be an object.", "null": "Must be an object."}

    def run_validation(self, data: Any = serializers.empty) -> Any:
        """Validate; without DRF's read-only defaults and validators, which no request has."""
        is_settled, value = self.validate_empty_values(data)
        return value if is_settled else self.to_internal_value(data)

    @cached_property
    def _members(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        # A plain dict: DRF's own mapping takes longer to walk than most fields to validate.
        return dict(self.fields.items())

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """Return the validated members.

        Raises:
            ValidationError: with the errors of all fields, unknown keys among them.
        """
        if not isinstance(data, Mapping):
            refuse("bad_type", "Must be an object.")
        errors: Members = unknown_names(data, self._members)
        values: dict[str, Any] = {}
        for name, field in self._members.items():
            if name not in data and not field.required:
                _leave_out(name, field, values)
                continue
            try:
                values[name] = field.run_validation(data.get(name, serializers.empty))
            except ValidationError as error:
                errors[name] = error.detail
            except serializers.SkipField:
                pass
        self.check(values, data, errors)
        if errors:
            raise ValidationError(errors)
        return values

    def check(self, values: Members, data: Given, errors: Members) -> None:
        """Check what concerns several fields and fill in defaults that depend on others.

        ``values`` lacks what is missing or wrong; new faults go into ``errors``.
        """


def _leave_out(name: str, field: Any, values: Members) -> None:
    """Do what a field does that was not sent: its default, if it has one."""
    if field.default is not serializers.empty:
        values[name] = field.default() if callable(field.default) else field.default
