"""What may the caller of a webhook view do? Read from ``request.auth``.

The project's authentication class sets it to an `Access`. A request without one is refused,
whatever the project's own permissions are, since these views give out signing secrets.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from django.db.models import Model, QuerySet
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from webhooks_app.api.problems import ApiProblem, FieldProblem, invalid, not_found
from webhooks_app.egress import origin_of

if TYPE_CHECKING:
    # DRF's views import this module while they load.
    from rest_framework.views import APIView

Row = TypeVar("Row", bound=Model)


class Access(Protocol):
    """What an authentication class returns as ``auth``.

    A ``key`` with a ``prefix`` (for the operators' log) and ``callback_hosts`` (the only hosts
    that its URLs may name) is used if there is one.
    """

    #: The only project that the caller may use; None for all.
    scope: str | None

    def allows(self, action: str) -> bool:
        """Say whether the caller may ``read``, ``submit`` (acknowledge events) or ``admin``."""


class HasAccess(BasePermission):
    """Check ``request.auth`` for the scope that the view needs: ``view.actions[method]``.

    Without that attribute reading methods need ``read``, and writing ones ``submit``.
    """

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Allow the request, or raise.

        Raises:
            ApiProblem: 401 without an `Access`, 403 with one that does not allow the action.
        """
        access: Any = request.auth
        if not _is_access(access):
            raise _unauthorized(request)
        is_reading = request.method in SAFE_METHODS
        actions: dict[str, str] = getattr(view, "actions", None) or {}
        action = actions.get(request.method or "", "read" if is_reading else "submit")
        if not access.allows(action):
            raise missing_scope(action)
        return True


def _is_access(auth: Any) -> bool:
    """Say whether ``request.auth`` is an `Access`; other authentication may put a token there."""
    return hasattr(auth, "scope") and callable(getattr(auth, "allows", None))


def _unauthorized(request: Request) -> ApiProblem:
    """Return the 401, with the text and the challenge of the view's authentication."""
    authenticators: Any = request.authenticators
    hints = (getattr(each, "hint", "") for each in authenticators)
    challenges = (each.authenticate_header(request) for each in authenticators)
    headers = {"WWW-Authenticate": next(filter(None, challenges), 'Bearer realm="webhooks"')}
    hint = next(filter(None, hints), "Nothing sent with this request gives access to webhooks.")
    return ApiProblem(401, "unauthorized", hint, headers=headers)


def missing_scope(action: str) -> ApiProblem:
    return ApiProblem(
        403, "missing_scope", f"This key lacks the scope {action!r}.", extra={"scope": action}
    )


def scope_of(request: Request) -> str | None:
    """Return the only project that the caller may use, None for all."""
    access: Any = request.auth
    scope: str | None = access.scope
    return scope


def within(request: Request, rows: QuerySet[Row], column: str = "scope") -> QuerySet[Row]:
    """Return the rows of the only project that the caller may use; all if it is bound to none."""
    scope = scope_of(request)
    return rows if scope is None else rows.filter(**{column: scope})


def project_of(request: Request, asked: str | None, *, parameter: str = "") -> str:
    """Return the project a request is about: the key's own, else the one that it names.

    Args:
        parameter: the name of the query parameter to blame; empty for the body's project_id.

    Raises:
        ApiProblem: 404 for another project's, 422 where none is named.
    """
    scope = scope_of(request)
    if scope is not None:
        if asked not in (None, "", scope):
            raise not_found()
        return scope
    if not asked:
        message = "This key is bound to no project: name one."
        problem: FieldProblem = {"pointer": "", "code": "required", "message": message}
        if parameter:
            problem["parameter"] = parameter
        else:
            problem["pointer"] = "/project_id"
        raise invalid([problem])
    return asked


def actor_of(request: Request) -> str:
    """Return the caller's name for the operators' log."""
    key: Any = getattr(request.auth, "key", None)
    return f"key {getattr(key, 'prefix', '')}".strip()


def check_host(request: Request, url: str, pointer: str) -> None:
    """Check a URL against the only hosts that the caller's key may name, if it has such a list.

    Raises:
        ApiProblem: 422.
    """
    key: Any = getattr(request.auth, "key", None)
    if problems := host_problems(getattr(key, "callback_hosts", None), url, pointer):
        raise invalid(problems)


def host_problems(hosts: Collection[str] | None, url: str, pointer: str) -> list[FieldProblem]:
    """Return what is wrong with a URL for a key that may name only these hosts; none: any."""
    if not hosts or origin_of(url).host in hosts:
        return []
    message = "This key's callbacks may not go to that host."
    return [{"pointer": pointer, "code": "blocked_address", "message": message}]
