"""How does a list of millions open at once? It counts little, and filters by indexed columns."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.functional import cached_property

from webhooks_app.admin.theme import ChangeList

# A page beyond this is reached by a filter or a search: OFFSET walks over every row before it.
COUNT_LIMIT = 1_000


class BoundedCount(int):
    """A count that stopped at its limit and says so when shown."""

    def __str__(self) -> str:
        return f"{int(self):,}+"


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts no further than `COUNT_LIMIT` rows, so that a list of millions opens at once."""

    # Unordered, PostgreSQL is free to count by the index of what is asked for, and does not walk
    # past all others. But rows of the last hour are the last ones it would come upon, so that a
    # count of those names the order that has them first.
    counted_by: Sequence[str] = ()

    @cached_property
    def count(self) -> int:
        """Return the number of rows, at most the limit."""
        rows: Any = self.object_list
        counted = rows.order_by(*self.counted_by)[: COUNT_LIMIT + 1].count()
        return BoundedCount(COUNT_LIMIT) if counted > COUNT_LIMIT else int(counted)


class QuietChangeList(ChangeList):  # type: ignore[misc, type-arg, unused-ignore]
    """Says how many rows there are only where a filter or a search narrowed them down."""

    def get_results(self, request: HttpRequest) -> None:
        """Fetch the page; without a narrowing the count would stand beside "show all"."""
        super().get_results(request)
        if not (self.query or self.get_filters_params()):
            self.full_result_count = self.result_count


class KnownValuesFilter(admin.SimpleListFilter):
    """A filter over an indexed column with values known without asking the table."""

    values: Sequence[tuple[str, str]] = ()
    column = ""

    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, str]]:
        """Return the choices."""
        return self.values

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Apply the choice."""
        chosen = self.value()
        if chosen is None or chosen not in {str(value) for value, _ in self.values}:
            return queryset
        return queryset.filter(**{self.column: chosen})


class SinceFilter(KnownValuesFilter):
    """By how long ago it was; days, as the theme's own filter has them, are too long at night."""

    title = "time"
    parameter_name = "since"
    values = [
        ("1", "the last hour"),
        ("6", "the last 6 hours"),
        ("24", "the last 24 hours"),
        ("168", "the last 7 days"),
    ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Apply the choice, a number of hours."""
        chosen = self.value()
        if chosen not in {value for value, _ in self.values}:
            return queryset
        return queryset.filter(
            **{f"{self.column}__gte": timezone.now() - timedelta(hours=int(chosen))}
        )


class WrittenFilter(SinceFilter):
    """By when a row was written."""

    title = "time"
    column = "created_at"


#: Statuses that do not count as delivered, as choices of a filter. The indexes hold those from 300.
FAILING_ANSWERS = [
    (str(status), str(status))
    for status in (
        *(301, 302, 307, 308, 400, 401, 403, 404, 405, 408, 410, 413, 422, 429),
        *(500, 502, 503, 504),
    )
]
