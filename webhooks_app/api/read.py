"""How is a request read? Its body, its query string and the ids in its address, all at once."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from webhooks_app.api.fields import Query, StrictObject
from webhooks_app.api.problems import FieldProblem, field_problems, invalid, not_found
from webhooks_app.notation import BIGGEST_ID, UUID_TEXT

_ROW_ID = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)


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
