"""How does a list of millions open quickly? With limited counts, and filters on indexed columns."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.contrib import admin, messages
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.functional import cached_property

from webhooks_app.admin.theme import ChangeList
from webhooks_app.notation import did_you_mean, sentence

# Later pages are reached by a filter or a search: OFFSET reads every row before it.
COUNT_LIMIT = 1_000
#: What `outbox.who` reads, for the line below a search box.
SEARCHED_BY = "Task id, msg_…, host, project, request id, number, key=value"


class BoundedCount(int):
    """A count that may have stopped at its limit, which its text then says."""

    def __str__(self) -> str:
        return f"{int(self):,}+"


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts at most `COUNT_LIMIT` rows, so that a list of millions opens quickly."""

    # Without an order PostgreSQL may count by the index that fits the filter. But it would find the
    # rows of the last hour last, so for a filter by time the order puts the newest first.
    counted_by: Sequence[str] = ()

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        counted = rows.order_by(*self.counted_by)[: COUNT_LIMIT + 1].count()
        return BoundedCount(COUNT_LIMIT) if counted > COUNT_LIMIT else int(counted)


class QuietChangeList(ChangeList):  # type: ignore[misc, type-arg, unused-ignore]
    """Shows the number of rows only if a filter or a search limits them."""

    def get_results(self, request: HttpRequest) -> None:
        """Fetch the page; without a filter the count would be shown beside "show all"."""
        super().get_results(request)
        if not (self.query or self.get_filters_params()):
            self.full_result_count = self.result_count


class KnownValuesFilter(admin.SimpleListFilter):
    """A filter on an indexed column, with known values, so that the table is not read for them."""

    values: Sequence[tuple[str, str]] = ()
    column = ""

    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, str]]:
        return self.values

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the rows with the chosen value; refuse one that is not offered."""
        chosen = self.value()
        if chosen is None:
            return queryset
        known = [str(value) for value, _ in self.lookup_choices]
        if chosen not in known:
            hint = did_you_mean(chosen, known)
            words = f"{self.title}: {chosen[:100]!r} is none of: {', '.join(known)}.{hint}"
            return refuse(request, queryset, sentence(words))
        return self.chosen(queryset, chosen)

    def chosen(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        """Return the rows with one of the values offered."""
        return queryset.filter(**{self.column: value})


def refuse(request: HttpRequest, queryset: QuerySet[Any], words: str) -> QuerySet[Any]:
    """Say that a filter or a search means nothing; an empty list alone would be an answer."""
    messages.error(request, words)
    return queryset.none()


def known_values(
    title: str, column: str, values: Sequence[tuple[Any, Any]], *, parameter: str = ""
) -> type[KnownValuesFilter]:
    """Return the filter of one column; ``parameter``: its name in the address, if another."""
    names = {"parameter_name": parameter or column, "column": column, "values": values}
    return type("ColumnFilter", (KnownValuesFilter,), {"title": title, **names})


class SinceFilter(KnownValuesFilter):
    """By age in hours; the theme's own filter offers days, which is too coarse in an incident."""

    title = "time"
    parameter_name = "since"
    values = [
        ("1", "the last hour"),
        ("6", "the last 6 hours"),
        ("24", "the last 24 hours"),
        ("168", "the last 7 days"),
    ]

    def chosen(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        since = timezone.now() - timedelta(hours=int(value))
        return queryset.filter(**{f"{self.column}__gte": since})


class WrittenFilter(SinceFilter):
    title = "time"
    column = "created_at"


#: Statuses that are not delivered, as choices of a filter. The indexes contain those from 300 up.
FAILING_ANSWERS = [
    (str(status), str(status))
    for status in (
        *(301, 302, 307, 308, 400, 401, 403, 404, 405, 408, 410, 413, 422, 429),
        *(500, 502, 503, 504),
    )
]
