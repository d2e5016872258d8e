"""Who did what to the outbox, when, and why?"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import reduce
from operator import or_
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode

from webhooks_app.admin.base import ReadOnlyAdmin, cell, utc
from webhooks_app.admin.lists import KnownValuesFilter, QuietChangeList, SinceFilter
from webhooks_app.models import OperatorAction, ReplayJob, WebhookDestination, WebhookMessage
from webhooks_app.notation import UUID_TEXT
from webhooks_app.operators import record
from webhooks_app.outbox.who import InvalidFilter, read_place
from webhooks_app.shown import visible

#: Each finds the pages of the targets that it knows: row's id -> address, for the rows of one page
#: and with few statements. The project adds its own kinds of targets.
Finder = Callable[[Sequence[OperatorAction]], dict[int, str]]
finders: list[Finder] = []
_ORIGIN = re.compile(r"(?P<origin>https?://\S+) \((?P<scope>[^)]*)\)")


def named(
    rows: Sequence[OperatorAction], pattern: str, action: str = ""
) -> dict[int, re.Match[str]]:
    """Return the matches of targets that begin so, by the row's id; only of actions that do."""
    tried = {r.pk: re.match(pattern, r.target) for r in rows if r.action.startswith(action)}
    return {key: match for key, match in tried.items() if match}


def pages(found: dict[int, Any], page: str, present: set[Any]) -> dict[int, str]:
    """Return the pages of those keys that are still present."""
    return {
        row: reverse(f"admin:{page}_change", args=[key])
        for row, key in found.items()
        if key in present
    }


def _messages(rows: Sequence[OperatorAction]) -> dict[int, str]:
    ids = {row: int(match[1]) for row, match in named(rows, r"message ([0-9]{1,18})\b").items()}
    present = WebhookMessage.objects.filter(pk__in=ids.values()).values_list("pk", flat=True)
    return pages(ids, "webhooks_app_webhookmessage", set(present) if ids else set())


def _replays(rows: Sequence[OperatorAction]) -> dict[int, str]:
    ids = {row: match[1] for row, match in named(rows, rf"replay ({UUID_TEXT})\b").items()}
    present = ReplayJob.objects.filter(pk__in=ids.values()).values_list("pk", flat=True)
    return pages(ids, "webhooks_app_replayjob", {str(key) for key in present} if ids else set())


def _destinations(rows: Sequence[OperatorAction]) -> dict[int, str]:
    places = {}
    for row, match in named(rows, _ORIGIN.pattern, "destination.").items():
        try:
            places[row] = (read_place(match["origin"]), match["scope"])
        except InvalidFilter:
            continue
    if not places:
        return {}
    wanted = reduce(or_, (place.condition & Q(scope=scope) for place, scope in places.values()))
    known: dict[Any, int] = {
        (found.scheme, found.host, found.port, found.scope): found.pk
        for found in WebhookDestination.objects.filter(wanted)
    }
    ids = {
        row: known.get((place.scheme, place.host, place.port, scope))
        for row, (place, scope) in places.items()
    }
    return pages(ids, "webhooks_app_webhookdestination", set(known.values()))


def _endpoints(rows: Sequence[OperatorAction]) -> dict[int, str]:
    """Return the lists of the projects' endpoints: a URL on record hides its query values."""
    found = named(rows, r"\S+ of (\S+?)(?::|$)", "endpoint.")
    page = reverse("admin:webhooks_app_webhookendpoint_changelist")
    return {row: f"{page}?{urlencode({'q': f'project={m[1]}'})}" for row, m in found.items()}


finders += [_messages, _replays, _destinations, _endpoints]


class RecordList(QuietChangeList):
    """Adds to each row the page of its target."""

    result_list: Any

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        links: dict[int, str] = {}
        for find in finders:
            links |= find(self.result_list)
        for row in self.result_list:
            row.link = links.get(row.pk, "")


class DoneFilter(SinceFilter):
    title = "time"
    column = "at"


class OnRecordFilter(KnownValuesFilter):
    """By a column's values; of more than can be listed, also by one that is not."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, str]]:
        return [(value, visible(value)) for value in record.values_of(self.column)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.value()
        is_cut = len(self.lookup_choices) >= record.MOST_VALUES
        if chosen and is_cut and "\x00" not in chosen:
            found = self.chosen(queryset, chosen)
            if found.order_by().exists():
                return found
        return super().queryset(request, queryset)


class ActionFilter(OnRecordFilter):
    title = parameter_name = column = "action"


class ActorFilter(OnRecordFilter):
    title = parameter_name = column = "actor"


def _filtered(column: str) -> Callable[[OperatorAction], str]:
    """Return what shows a value as a link to all rows with it."""

    def show(row: OperatorAction) -> str:
        value = getattr(row, column)
        query = urlencode({column: value})
        return format_html('<a class="mv-quiet" href="?{}">{}</a>', query, visible(value))

    return show


def _words(text: str, link: str = "") -> str:
    if link:
        return format_html('<a class="mv-prose" href="{}">{}</a>', link, visible(text))
    return format_html('<span class="mv-prose">{}</span>', visible(text))


@admin.register(OperatorAction)
class RecordAdmin(ReadOnlyAdmin):
    """The operators' log; written by the admin, the API and commands."""

    list_display = ["at_done", "who", "what", "shown_target", "project", "why"]
    list_filter = [ActionFilter, ActorFilter, DoneFilter]
    search_fields = ["target"]
    search = staticmethod(record.search)
    search_help_text = "Actor or target, task id, msg_…, host, action=, project="
    ordering = ["-id"]
    newest_first = ["-at"]
    at_done = utc("at", "at")
    who = cell("actor", _filtered("actor"))
    what = cell("action", _filtered("action"))
    shown_target = cell("target", lambda row: _words(row.target, row.link))
    project = cell("project", lambda row: row.scope or "-")
    why = cell("reason", lambda row: _words(row.reason))
    fields = ["at_done", "actor", "action", "target", "project", "reason"]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[QuietChangeList]:
        return RecordList
