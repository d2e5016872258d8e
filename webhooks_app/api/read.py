"""How is a request read? Its body, its query string and the ids in its address.

All faults of a body or a query string are reported at once, each with its path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache, cached_property
from typing import Any, TypeVar

from django.db.models import Model, QuerySet
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request

from webhooks_app.api.fields import Refused
from webhooks_app.api.openapi import OpenApiSerializerExtension
from webhooks_app.api.problems import (
    MAX_PROBLEMS,
    Code,
    FieldProblem,
    field_problems,
    invalid,
    not_found,
)
from webhooks_app.notation import BIGGEST_ID, UUID_TEXT, did_you_mean

#: A request's object as given, and as it comes out of validation.
Given = Mapping[str, Any]
Members = dict[str, Any]
Row = TypeVar("Row", bound=Model)

_ROW_ID = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)


class StrictObject(serializers.Serializer[Any]):
    """An object without unknown names; every error of every field is reported at once.

    An instance keeps no state while it validates, so one per class serves all requests.
    """

    is_query = False
    default_error_messages = {"null": "Must be an object."}

    def run_validation(self, data: Any = serializers.empty) -> Any:
        """Validate; without DRF's read-only defaults and validators, which no request has."""
        is_settled, value = self.validate_empty_values(data)
        return value if is_settled else self.to_internal_value(data)

    @cached_property
    def _members(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        # A plain dict: DRF's own mapping takes longer to walk than most fields to validate.
        return dict(self.fields.items())

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, Mapping):
            raise Refused("bad_type", "Must be an object.")
        errors: Members = unknown_names(data, self._members)
        values: dict[str, Any] = {}
        for name, field in self._members.items():
            if name not in data and (self.partial or not field.required):
                if field.default is not serializers.empty and not self.partial:
                    values[name] = field.default() if callable(field.default) else field.default
                continue
            try:
                values[name] = field.run_validation(data.get(name, serializers.empty))
            except ValidationError as error:
                errors[name] = error.detail
        self.check(values, data, errors)
        if errors:
            raise ValidationError(errors)
        return values

    def check(self, values: Members, data: Given, errors: Members) -> None:
        """Check what concerns several fields and fill in defaults that depend on others.

        ``values`` lacks what is missing or wrong; new faults go into ``errors``.
        """


class Query(StrictObject):
    """A query string; every parameter is given at most once."""

    is_query = True


class DescribedObject(OpenApiSerializerExtension):  # type: ignore[no-untyped-call]
    """Say of every request object that it takes no other names."""

    target_class = StrictObject
    match_subclasses = True

    def map_serializer(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        """Return the serializer's own schema, closed."""
        schema = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)
        return {**schema, "additionalProperties": False}


def unknown_names(given: Iterable[str], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return an error for each name that is not known, with the nearest one that is.

    Those beyond `MAX_PROBLEMS`, which no answer lists, are only counted.
    """
    unknown = [name for name in given if name not in known]
    errors: dict[str, Any] = {}
    for name in unknown[:MAX_PROBLEMS]:
        message = f"There is no such field.{did_you_mean(str(name), list(known))}"
        errors[name] = [ErrorDetail(message, "unknown_field")]
    if rest := len(unknown) - len(errors):
        code = Code.of_many("unknown_field", rest)
        errors["non_field_errors"] = [ErrorDetail(f"{rest} more are not known.", code)]
    return errors


@cache
def _form(form: type[StrictObject], *, partial: bool = False) -> StrictObject:
    return form(partial=partial)


def read_body(request: Request, form: type[StrictObject], *, partial: bool = False) -> Any:
    """Validate a JSON body; an empty one counts as an empty object.

    Raises:
        ValidationError: answered with 422 and every fault.
    """
    return _form(form, partial=partial).run_validation(request.data)


def read_query(request: Request, form: type[Query]) -> dict[str, Any]:
    """Validate a query string.

    Raises:
        ApiProblem: 422 that names every wrong parameter.
    """
    given = request.query_params
    problems: list[FieldProblem] = [
        {"pointer": f"/{name}", "code": "bad_format", "message": "Give it once."}
        for name in given
        if len(given.getlist(name)) > 1
    ]
    values: dict[str, Any] = {}
    try:
        values = _form(form).run_validation(dict(given.items()))
    except ValidationError as error:
        problems += field_problems(error.detail)
    if problems:
        raise invalid([_as_parameter(problem) for problem in problems])
    return values


def _as_parameter(problem: FieldProblem) -> FieldProblem:
    name = problem["pointer"].removeprefix("/")[:100]
    return {**problem, "pointer": "", "parameter": name}


def found_row(rows: QuerySet[Row]) -> Row:
    """Return the first of the rows that the caller may see; 404 if there is none."""
    row = rows.first()
    if row is None:
        raise not_found()
    return row


def read_id(text: str) -> int:
    """Return a numeric id of an address.

    Raises:
        ApiProblem: 404 for what cannot be one.
    """
    if not _ROW_ID.fullmatch(text) or int(text) > BIGGEST_ID:
        raise not_found()
    return int(text)


def read_uuid(text: str) -> str:
    """Return a UUID of an address; 404 for what cannot be one."""
    if not re.fullmatch(UUID_TEXT, text):
        raise not_found()
    return text
