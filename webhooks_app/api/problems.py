"""How does a view refuse a request? With the one exception that every error answer is made of.

Its form on the wire (such as RFC 9457) is up to the project's exception handler; DRF's own handler
answers with `ApiProblem.detail`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from rest_framework.exceptions import APIException, ErrorDetail

from webhooks_app.notation import SUGGESTION


class FieldProblem(TypedDict):
    """One thing wrong with a request.

    ``pointer`` is a JSON pointer into the body; if ``parameter`` is given, the fault is in that
    query parameter or header instead.
    """

    pointer: str
    code: str
    message: str
    parameter: NotRequired[str]


class ApiProblem(APIException):
    """A request that is answered with a problem.

    Args:
        status_code: the HTTP status.
        code: a stable, documented word for programs.
        detail: one sentence for people.
        title: a short name of the kind of problem; the status's own phrase when empty.
        errors: what is wrong field by field.
        headers: headers of the answer, for example ``Retry-After``.
        extra: further members of the answer, for example the state that is in the way.
    """

    def __init__(
        self,
        status_code: int,
        code: str,
        detail: str = "",
        *,
        title: str = "",
        errors: Sequence[FieldProblem] = (),
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail or title or code, code)
        self.status_code = status_code
        self.code = code
        self.title = title
        self.text = detail
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})
        # Used by DRF's own handler.
        told: Any = {"detail": self.text or title or code, "code": code, "errors": self.errors}
        self.detail = {**told, **self.extra}
        self.auth_header = self.headers.get("WWW-Authenticate", "")

    def __str__(self) -> str:
        return self.text or self.title or self.code


#: The most problems in one answer; its detail says how many there were.
MAX_PROBLEMS = 20
MAX_SUGGESTIONS = 5
MAX_SHOWN = 100  # characters of a name from the client


class Code(str):
    """The code of one problem that stands for ``number`` of its kind, to keep answers short."""

    number = 1

    @classmethod
    def of_many(cls, code: str, number: int) -> Code:
        many = cls(code)
        many.number = number
        return many


def invalid(errors: Sequence[FieldProblem]) -> ApiProblem:
    """Return the 422 with the field errors, up to the limit of one answer."""
    count = sum(getattr(error["code"], "number", 1) for error in errors)
    listed = list(errors[:MAX_PROBLEMS])
    detail = "1 field is not valid." if count == 1 else f"{count} fields are not valid."
    if count > len(listed):
        detail += f" The first {len(listed)} are listed; there are {count - len(listed)} more."
    suggested = 0
    for place, error in enumerate(listed):
        suggested += SUGGESTION in error["message"]
        if suggested > MAX_SUGGESTIONS:
            listed[place] = {**error, "message": error["message"].partition(SUGGESTION)[0]}
    return ApiProblem(422, "invalid", detail, title="The request is not valid", errors=listed)


def not_found() -> ApiProblem:
    """Return the 404, the same for absent objects and for those of other projects."""
    return ApiProblem(404, "not_found", "There is nothing here that this key may see.")


#: Codes of those of Django REST framework's own checks that `fields` leaves in place -> ours.
_CODES = {"null": "bad_type", "min_length": "out_of_range"}


def field_problems(detail: Any, pointer: str = "") -> list[FieldProblem]:
    """Flatten the nested ``ValidationError.detail`` of a serializer into pointers and codes."""
    if isinstance(detail, Mapping):
        pairs = [(_step(pointer, key), value) for key, value in detail.items()]
    elif isinstance(detail, (list, tuple)):
        is_flat = all(isinstance(item, (str, bytes)) for item in detail)
        pairs = [
            (pointer if is_flat else f"{pointer}/{place}", item)
            for place, item in enumerate(detail)
            if item
        ]
    else:
        code = (detail.code if isinstance(detail, ErrorDetail) else None) or "invalid"
        return [{"pointer": pointer, "code": _CODES.get(code, code), "message": str(detail)}]
    return [problem for path, value in pairs for problem in field_problems(value, path)]


def _step(pointer: str, key: Any) -> str:
    if key == "non_field_errors":
        return pointer
    name = key if isinstance(key, int) or len(key) <= MAX_SHOWN else f"{key[:MAX_SHOWN]}…"
    escaped = str(name).replace("~", "~0").replace("/", "~1")  # RFC 6901
    return f"{pointer}/{escaped}"
