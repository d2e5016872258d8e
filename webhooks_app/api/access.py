"""What may the caller of a webhook view touch? Read from ``request.auth``, whoever sets it.

The authentication of the project gives an object with ``scope`` (the one project, None for all)
and ``allows(action)``; a ``key`` with a ``prefix`` and ``callback_hosts`` is used where present.
"""

from __future__ import annotations

from typing import Any

from rest_framework.request import Request

from webhooks_app.api.problems import FieldProblem, invalid, not_found
from webhooks_app.egress import origin_of


def scope_of(request: Request) -> str | None:
    """Return the only project that the caller may touch, None for all."""
    scope: str | None = getattr(request.auth, "scope", None)
    return scope


def project_of(request: Request, asked: str | None, *, parameter: str = "") -> str:
    """Return the one project a request is about: the key's own, else the one it asks for.

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
    """Return who is asking, for the record."""
    key: Any = getattr(request.auth, "key", None)
    return f"key {getattr(key, 'prefix', '')}".strip()


def check_host(request: Request, url: str, pointer: str) -> None:
    """Hold a URL against the only hosts that the caller's key may name, where it has such.

    Raises:
        ApiProblem: 422.
    """
    key: Any = getattr(request.auth, "key", None)
    hosts = getattr(key, "callback_hosts", None)
    if hosts and origin_of(url).host not in hosts:
        message = "This key's callbacks may not go to that host."
        raise invalid([{"pointer": pointer, "code": "blocked_address", "message": message}])
