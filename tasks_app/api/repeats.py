"""When are two requests the same one, sent twice? Read from the ``Idempotency-Key``."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import orjson
from rest_framework.request import Request

from webhooks_app.api.problems import ApiProblem, FieldProblem

_IDEMPOTENCY_KEY = re.compile(r"[\x20-\x7e]{1,255}")


def idempotency_key(request: Request, problems: list[FieldProblem]) -> str | None:
    """Return the request's key, None without one; a fault of it goes into ``problems``."""
    key = request.META.get("HTTP_IDEMPOTENCY_KEY")
    if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
        message = "Use 1 to 255 printable ASCII characters."
        problems.append(
            {
                "pointer": "",
                "code": "bad_format",
                "message": message,
                "parameter": "Idempotency-Key",
            }
        )
        return None
    return str(key) if key is not None else None


def fingerprint(request: Request, document: Any) -> str:
    """Return what must be equal for two requests to be the same: method, path, canonical body."""
    body = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    head = f"{request.method} {request.path}\n".encode()
    return hashlib.sha256(head + body).hexdigest()


def conflict() -> ApiProblem:
    """Return the 422 for a key that stands for another request."""
    detail = "This Idempotency-Key stands for another request. Take a new key for a new one."
    return ApiProblem(422, "idempotency_conflict", detail)
