"""How is a long list read in pages that stay right while rows are added and deleted?

A page is found by its position in an index, so page 10,000 costs as much as page 1, and new rows
shift nothing. The cursor contains no filter and gives no rights: every page is limited to what its
key may see.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar

from django.db.models import Model, QuerySet
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from webhooks_app.api.fields import Field, Refused, Whole
from webhooks_app.api.openapi import inline_serializer
from webhooks_app.api.read import Query
from webhooks_app.conf import webhook_settings

Row = TypeVar("Row", bound=Model)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Order(Protocol):
    """The order of a list. Every text that ``pattern`` matches is a valid cursor."""

    pattern: str

    def cursor(self, row: Any) -> str:
        """Return the cursor that points just after a row."""

    def columns(self) -> tuple[str, ...]:
        """Return the columns to sort by."""

    def after(self, queryset: QuerySet[Row], cursor: str) -> QuerySet[Row]:
        """Return the rows after a cursor."""


@dataclass(frozen=True)
class ById:
    """By ascending primary key: the order in which the rows were written."""

    is_oldest_first: bool = False
    pattern = "[0-9]{1,18}"

    def cursor(self, row: Any) -> str:
        return str(row.pk)

    def columns(self) -> tuple[str, ...]:
        return ("pk" if self.is_oldest_first else "-pk",)

    def after(self, queryset: QuerySet[Row], cursor: str) -> QuerySet[Row]:
        """Return the rows after the id; its own row need not exist any more."""
        return queryset.filter(**{"pk__gt" if self.is_oldest_first else "pk__lt": int(cursor)})


@dataclass(frozen=True)
class ByTime:
    """By ``created_at``, newest first; among rows of the same time by a UUID."""

    pattern = "[0-9]{1,16}-[0-9a-f]{32}"

    def cursor(self, row: Any) -> str:
        """Return the row's time in microseconds, and its id."""
        return f"{_microseconds(row.created_at)}-{row.pk.hex}"

    def columns(self) -> tuple[str, ...]:
        return ("-created_at", "-id")

    def after(self, queryset: QuerySet[Row], cursor: str) -> QuerySet[Row]:
        microseconds, _, row_id = cursor.partition("-")
        created_at = _EPOCH + timedelta(microseconds=int(microseconds))
        # Not (created_at, id) < (...): this form lets the index begin at the cursor.
        return queryset.filter(created_at__lte=created_at).exclude(
            created_at=created_at, id__gte=self._id(row_id)
        )

    def _id(self, text: str) -> Any:
        return uuid.UUID(text)


@dataclass(frozen=True)
class ByTimeAndText(ByTime):
    """By ``created_at``, newest first; among rows of the same time by an id that is text."""

    pattern = r"[0-9]{1,16}-[\x21-\x7e]{1,32}"

    def cursor(self, row: Any) -> str:
        """Return the row's time in microseconds, and its id."""
        return f"{_microseconds(row.created_at)}-{row.pk}"

    def _id(self, text: str) -> Any:
        return text


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


NEWEST_FIRST = ById()
OLDEST_FIRST = ById(is_oldest_first=True)
BY_TIME = ByTime()
BY_TIME_AND_TEXT = ByTimeAndText()


class Cursor(Field):
    """The place where a page begins, in a list sorted by id."""

    order: Order = NEWEST_FIRST

    def __init__(self) -> None:
        super().__init__(required=False, help_text="`next_cursor` of the page before.")

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^{self.order.pattern}$"}

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str) or not re.fullmatch(self.order.pattern, data, re.ASCII):
            raise Refused("bad_format", "Take the cursor from next_cursor of the page before.")
        return data


class TimeCursor(Cursor):
    """The place where a page begins, in a list sorted by time."""

    order = BY_TIME


class PageQuery(Query):
    """What every list understands."""

    cursor = Cursor()
    limit = Whole(1, 100, required=False, default=25, help_text="Results in one page.")


def page_query(
    queryset: QuerySet[Row], *, order: Order = NEWEST_FIRST, cursor: str | None = None
) -> QuerySet[Row]:
    """Return the rows from a cursor on, sorted."""
    if cursor is not None:
        queryset = order.after(queryset, cursor)
    return queryset.order_by(*order.columns())


def page_response(
    request: Request,
    queryset: QuerySet[Row],
    asked: Mapping[str, Any],
    show: type[serializers.Serializer[Any]] | Callable[[list[Row]], Any],
    *,
    order: Order = NEWEST_FIRST,
) -> Response:
    """Return one page of a list: ``results``, ``next_cursor`` and the link ``next``.

    Args:
        asked: what `read_query` read: ``limit``, and a ``cursor`` that ``order.pattern`` matches.
        show: the serializer of a row, or a function that makes the results of all.
    """
    limit, cursor, following = asked["limit"], None, None
    rows = list(page_query(queryset, order=order, cursor=asked.get("cursor"))[: limit + 1])
    if len(rows) > limit:
        rows.pop()
        cursor = order.cursor(rows[-1])
        query = request.query_params.copy()
        query["cursor"] = cursor
        base = webhook_settings.BASE_URL or request.build_absolute_uri("/").rstrip("/")
        following = f"{base}{request.path}?{query.urlencode()}"
    results = show(rows, many=True).data if isinstance(show, type) else show(rows)
    return Response({"results": results, "next_cursor": cursor, "next": following})


def page_of(name: str, row: type[serializers.BaseSerializer[Any]]) -> Any:
    return inline_serializer(
        name,
        {
            "results": row(many=True),
            "next_cursor": serializers.CharField(allow_null=True),
            "next": serializers.CharField(allow_null=True),
        },
    )
