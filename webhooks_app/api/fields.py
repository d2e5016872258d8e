"""Which requests do the webhook views understand? Bodies and query strings, read strictly.

Values have the types that JSON gives them, unknown names are errors with a suggestion, and all
faults of a request are reported at once.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request

from webhooks_app.api.described import Described, text_pattern
from webhooks_app.api.pages import BY_TIME, NEWEST_FIRST, Order
from webhooks_app.api.problems import (
    MAX_PROBLEMS,
    SUGGESTION,
    Code,
    FieldProblem,
    field_problems,
    invalid,
    not_found,
)
from webhooks_app.conf import webhook_settings
from webhooks_app.egress import EgressDenied, check_url
from webhooks_app.retry import MAX_WAIT_SECONDS, MAX_WAITS, resolve_policy

PROJECT_ID = r"[A-Za-z0-9_-]{1,100}"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
BIGGEST_ID = 2**63 - 1
BIGGEST_NUMBER = 2**53  # what a JSON number says without loss
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_INTEGER = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)
Parsed = TypeVar("Parsed", bound=serializers.Serializer[Any])


def refuse(code: str, message: str) -> ValidationError:
    """Return the error of one field, with a documented code."""
    return ValidationError(ErrorDetail(message, code))


def check_length(text: str, longest: int, code: str = "too_long", message: str = "") -> None:
    """Refuse a text that is too long to be looked at.

    The first thing that is done with every text of a client: to normalise, search, compare or
    parse one may take a time that grows with the square of its length.
    """
    if len(text) > longest:
        raise refuse(code, message or f"At most {longest} characters.")


class Text(Described, serializers.CharField):
    """A string, not something like one; one line without control characters."""

    shape = ""  # what to say of every text that has not the form of this field

    def __init__(self, *, max_length: int, **kwargs: Any) -> None:
        self.longest = max_length
        super().__init__(max_length=max_length, **kwargs)

    def schema(self) -> dict[str, Any]:
        """Return the schema of the text before it is trimmed."""
        found: dict[str, Any] = {
            "type": "string",
            "pattern": text_pattern(may_be_blank=self.allow_blank),
        }
        found["maxLength"] = self.longest
        return found

    def to_internal_value(self, data: Any) -> str:
        """Return the text, trimmed."""
        if not isinstance(data, str):
            raise refuse("bad_type", "Must be a string.")
        code = "bad_format" if self.shape else "too_long"
        check_length(data.strip(), self.longest, code, self.shape)
        text = str(super().to_internal_value(data))
        if _CONTROL.search(text):
            raise refuse("bad_format", "May not contain control characters.")
        return text


class ProjectId(Text):
    """The id of a project."""

    shape = "Use 1 to 100 letters, digits, '_' or '-'."

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=100, **kwargs)

    def schema(self) -> dict[str, Any]:
        """Return the form."""
        return {"type": "string", "pattern": f"^{PROJECT_ID}$"}

    def to_internal_value(self, data: Any) -> str:
        """Return the id."""
        text = super().to_internal_value(data)
        if not re.fullmatch(PROJECT_ID, text):
            raise refuse("bad_format", self.shape)
        return text


class CallbackUrl(Described, serializers.CharField):
    """A URL that the egress policy lets us call; taken exactly as sent, never trimmed."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trim_whitespace=False, max_length=2048, **kwargs)

    def schema(self) -> dict[str, Any]:
        """Return the format."""
        return {"type": "string", "format": "uri", "maxLength": 2048}

    def to_internal_value(self, data: Any) -> str:
        """Return the URL."""
        if not isinstance(data, str):
            raise refuse("bad_type", "Must be a string.")
        try:
            check_url(data)
        except EgressDenied as denied:
            raise refuse(str(denied.code), denied.message) from None
        return data


class Whole(serializers.IntegerField):
    """A whole number; in a query string its digits."""

    def to_internal_value(self, data: Any) -> int:
        """Return the number."""
        is_digits = isinstance(data, str) and re.fullmatch(r"-?[0-9]{1,19}", data, re.ASCII)
        from_query = bool(is_digits) and getattr(self.root, "is_query", False)
        is_whole = isinstance(data, int | float) and data == data // 1  # JSON: 257.0 is 257
        if not from_query and (isinstance(data, bool) or not is_whole):
            raise refuse("bad_type", "Must be a whole number.")
        return int(data)


class Number(serializers.FloatField):
    """A number, never a string or a boolean."""

    def to_internal_value(self, data: Any) -> float:
        """Return the number."""
        if isinstance(data, bool) or not isinstance(data, int | float):
            raise refuse("bad_type", "Must be a number.")
        return float(data)


class Flag(serializers.BooleanField):
    """``true`` or ``false``."""

    def to_internal_value(self, data: Any) -> bool:
        """Return the value."""
        if not isinstance(data, bool):
            raise refuse("bad_type", "Must be true or false.")
        return data


class Moment(serializers.DateTimeField):
    """A time as RFC 3339; UTC where it names no zone."""

    LONGEST = 64

    def to_internal_value(self, value: Any) -> Any:
        """Return the time."""
        if not isinstance(value, str):
            raise refuse("bad_type", "Must be a string.")
        message = "Use RFC 3339, for example 2025-01-15T10:35:30Z."
        check_length(value, self.LONGEST, "bad_format", message)
        try:
            return super().to_internal_value(value)
        except (ValidationError, ValueError, OverflowError):
            raise refuse("bad_format", message) from None


class Choice(serializers.ChoiceField):
    """One of a few words. DRF's own would repeat in its message whatever was sent."""

    def to_internal_value(self, data: Any) -> str:
        """Return the word, or say which ones there are."""
        if isinstance(data, str) and data in self.choices:
            return data
        raise refuse("not_allowed", f"Must be one of: {', '.join(map(str, self.choices))}.")


class Uuid(serializers.UUIDField):
    """A UUID. DRF's own would repeat in its message whatever was sent."""

    def to_internal_value(self, data: Any) -> Any:
        """Return the UUID."""
        if not isinstance(data, str):
            raise refuse("bad_type", "Must be a string.")
        check_length(data, 45, "bad_format", "Must be a UUID.")  # as a URN
        return super().to_internal_value(data)


class Items(serializers.ListField):
    """A list with at most ``most`` items, counted before anything in it is looked at."""

    def __init__(self, *, most: int, **kwargs: Any) -> None:
        self.most = most
        # For the schema; the validator that DRF adds comes after the items.
        super().__init__(max_length=most, **kwargs)

    def to_internal_value(self, data: Any) -> list[Any]:
        """Return the validated items."""
        if not isinstance(data, list):
            raise refuse("bad_type", "Must be a list.")
        if len(data) > self.most:
            raise refuse("too_long", f"At most {self.most} items.")
        return list(super().to_internal_value(data))


class RetryPolicy(Described, serializers.Field[Any, Any, Any, Any]):
    """The name of a policy, or the waits themselves in seconds."""

    def schema(self) -> dict[str, Any]:
        """Return both forms."""
        wait = {"type": "number", "minimum": 0, "maximum": MAX_WAIT_SECONDS}
        waits = {"type": "array", "items": wait, "maxItems": MAX_WAITS}
        return {"anyOf": [{"enum": sorted(webhook_settings.POLICIES)}, waits]}

    def to_internal_value(self, data: Any) -> Any:
        """Return the policy as it was given."""
        if isinstance(data, str):
            if data not in webhook_settings.POLICIES:
                known = ", ".join(sorted(webhook_settings.POLICIES))
                raise refuse("not_allowed", f"Known policies: {known}.")
            return data
        if not isinstance(data, list):
            message = "Must be the name of a policy or a list of waits in seconds."
            raise refuse("bad_type", message)
        try:
            resolve_policy(data)
        except ValueError as error:
            raise refuse("out_of_range", str(error)) from None
        return data

    def to_representation(self, value: Any) -> Any:
        """Return the value as it is."""
        return value


class StrictSerializer(serializers.Serializer[Any]):
    """An object without unknown names."""

    is_query = False
    default_error_messages = {"invalid": "Must be an object."}

    def to_internal_value(self, data: Any) -> Any:
        """Return the validated members.

        Raises:
            ValidationError: with the errors of all fields, unknown names among them.
        """
        errors: dict[str, Any] = unknown_names(data, dict(self.fields)) if _is_object(data) else {}
        try:
            values = super().to_internal_value(data)
        except ValidationError as error:
            if not _is_object(data):
                raise
            raise ValidationError({**errors, **error.detail}) from None  # type: ignore[dict-item]
        if errors:
            raise ValidationError(errors)
        return values


class QuerySerializer(StrictSerializer):
    """A query string; every parameter is given at most once."""

    is_query = True


class Cursor(Text):
    """The place where a page begins, in a list sorted by id."""

    order: Order = NEWEST_FIRST

    def __init__(self) -> None:
        text = "`next_cursor` of the page before."
        super().__init__(max_length=64, required=False, help_text=text)

    def schema(self) -> dict[str, Any]:
        """Return the form: every text of it is a place."""
        return {"type": "string", "pattern": f"^{self.order.pattern}$"}

    def to_internal_value(self, data: Any) -> str:
        """Return the cursor."""
        if not isinstance(data, str) or not re.fullmatch(self.order.pattern, data, re.ASCII):
            raise refuse("bad_format", "Take the cursor from next_cursor of the page before.")
        return data


class TimeCursor(Cursor):
    """The place where a page begins, in a list sorted by time."""

    order = BY_TIME


class PageQuery(QuerySerializer):
    """What every list understands."""

    cursor = Cursor()
    limit = Whole(
        required=False, default=25, min_value=1, max_value=100, help_text="Results in one page."
    )


def _is_object(data: Any) -> bool:
    return isinstance(data, Mapping)


#: Longer words are no slips of the pen; the longest that is known has 25 characters.
MAX_WORD = 40


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return `` Did you mean "x"?``, or nothing when no known word is near."""
    if len(word) > MAX_WORD:
        return ""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f'{SUGGESTION}"{near[0]}"?' if near else ""


def unknown_names(given: Iterable[str], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return an error for each name that is not known, with the nearest one that is.

    Those beyond `MAX_PROBLEMS`, which no answer lists, are only counted.
    """
    names = list(known)
    unknown = [name for name in given if name not in known]
    errors: dict[str, Any] = {}
    for name in unknown[:MAX_PROBLEMS]:
        message = f"There is no such field.{did_you_mean(str(name), names)}"
        errors[name] = [ErrorDetail(message, "unknown_field")]
    if rest := len(unknown) - len(errors):
        code = Code.of_many("unknown_field", rest)
        errors["non_field_errors"] = [ErrorDetail(f"{rest} more are not known.", code)]
    return errors


def read_body(request: Request, form: type[Parsed], *, partial: bool = False) -> dict[str, Any]:
    """Validate a JSON body; an empty one counts as an empty object.

    Raises:
        ValidationError: answered with 422 and every fault.
    """
    serializer = form(data=request.data, partial=partial)
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)


def read_query(request: Request, form: type[Parsed]) -> dict[str, Any]:
    """Validate a query string.

    Raises:
        ApiProblem: 422 that names every wrong parameter.
    """
    given = request.query_params
    serializer = form(data=dict(given.items()))
    problems: list[FieldProblem] = []
    for name in given:
        if len(given.getlist(name)) > 1:
            problems.append(
                {"pointer": f"/{name}", "code": "bad_format", "message": "Give it once."}
            )
    if not serializer.is_valid():
        problems += field_problems(serializer.errors)
    if problems:
        raise invalid([_as_parameter(problem) for problem in problems])
    return dict(serializer.validated_data)


def _as_parameter(problem: FieldProblem) -> FieldProblem:
    name = problem["pointer"].removeprefix("/")[:100]
    return {**problem, "pointer": "", "parameter": name}


def read_id(text: str) -> int:
    """Return a numeric id of an address.

    Raises:
        ApiProblem: 404 for what cannot be one.
    """
    if not _INTEGER.fullmatch(text) or int(text) > BIGGEST_ID:
        raise not_found()
    return int(text)


def read_uuid(text: str) -> str:
    """Return a UUID of an address; 404 for what cannot be one."""
    if not _UUID.fullmatch(text):
        raise not_found()
    return text
