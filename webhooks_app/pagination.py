"""How is a long list read in pages that stay right while rows come and go?

A page is found by its place in the primary key, so page 10,000 costs what page 1 does and rows
that arrive meanwhile shift nothing. The cursor is opaque, holds no filter and opens nothing:
every page is narrowed to what its key may see.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, TypeVar

from django.conf import settings
from django.db.models import Model, QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from webhooks_app.problems import ApiProblem, invalid
from webhooks_app.requests import BIGGEST_ID

Row = TypeVar("Row", bound=Model)


def read_page(
    queryset: QuerySet[Row], *, limit: int, cursor: str | None, is_oldest_first: bool = False
) -> tuple[list[Row], str | None]:
    """Return one page by primary key, and the cursor of the next one, None after the last.

    Raises:
        ApiProblem: 422 for a cursor that is none.
    """
    if cursor is not None:
        place = _read_cursor(cursor)
        queryset = queryset.filter(**{"pk__gt" if is_oldest_first else "pk__lt": place})
    rows = list(queryset.order_by("pk" if is_oldest_first else "-pk")[: limit + 1])
    if len(rows) <= limit:
        return rows, None
    return rows[:limit], _cursor(rows[limit - 1].pk)


def page_response(request: Request, results: Any, cursor: str | None) -> Response:
    """Return the answer of a list: ``results``, ``next_cursor`` and the link ``next``."""
    following = None
    if cursor is not None:
        query = request.query_params.copy()
        query["cursor"] = cursor
        base = getattr(settings, "PUBLIC_URL", "")
        following = f"{base}{request.path}?{query.urlencode()}"
    return Response({"results": results, "next_cursor": cursor, "next": following})


def _cursor(place: int) -> str:
    return base64.urlsafe_b64encode(f"i{place}".encode()).decode().rstrip("=")


def _read_cursor(text: str) -> int:
    try:
        raw = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
        digits = raw.removeprefix(b"i")
        if raw[:1] == b"i" and digits.isdigit() and len(digits) < 20:
            return min(int(digits), BIGGEST_ID)
    except (ValueError, binascii.Error):
        pass
    raise _bad_cursor()


def _bad_cursor() -> ApiProblem:
    message = "Take the cursor from next_cursor of the page before."
    return invalid(
        [{"pointer": "", "code": "bad_format", "message": message, "parameter": "cursor"}]
    )
