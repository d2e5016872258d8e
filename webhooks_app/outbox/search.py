"""What does a search term find in the outbox, such that an index answers?

`who.meanings` says what a term may name. Text in the middle is not matched: that would read the
whole table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any, TypeVar

from django.db.models import Model, Q, QuerySet

from webhooks_app.models import WebhookDestination, WebhookEvent, WebhookMessage
from webhooks_app.outbox import who
from webhooks_app.outbox.who import Ids, Kind, Meaning, Place

Row = TypeVar("Row", bound=Model)
# The most destinations that are searched for one host prefix or project.
MAX_DESTINATIONS = 500
# The most events that are searched for one id's beginning, request or piece of metadata: the
# newest ones, as far as their index is in that order.
MAX_EVENTS = 1_000
# The most messages of a host, or events of a type, whose attempts are searched.
NEWEST_MESSAGES = 300


@dataclass(frozen=True, slots=True)
class Found:
    """The rows that a term names: numbers as typed, ids of events and of destinations."""

    numbers: list[int]
    events: list[int]
    destinations: list[int]

    @property
    def of_messages(self) -> Q:
        """The condition on `WebhookMessage`.

        The events' messages are looked up here: to find them in the order of their ids the planner
        would read the table from its end, since it thinks that they lie everywhere.
        """
        of_events = WebhookMessage.objects.filter(event__in=self.events)
        ids = sorted({*self.numbers, *of_events.values_list("pk", flat=True)})
        named = Q(pk__in=ids, pk__range=(ids[0], ids[-1])) if ids else Q(pk__in=[])
        return named | Q(destination__in=self.destinations)


def find(read: list[Meaning]) -> Found:
    """Look up what a term's meanings name."""
    named = [events[:MAX_EVENTS] for meaning in read if (events := _events(meaning)) is not None]
    places = [
        WebhookDestination.objects.filter(condition)[:MAX_DESTINATIONS]
        for meaning in read
        if (condition := _place_condition(meaning))
    ]
    return Found(
        [meaning.value for meaning in read if meaning.kind == Kind.ROW],
        _ids(named),
        _ids(places),
    )


def _events(meaning: Meaning) -> QuerySet[WebhookEvent] | None:
    """Return the events that a word names, in the order of the index that finds them."""
    events = WebhookEvent.objects
    if meaning.kind == Kind.MESSAGE:
        return events.filter(who.event_id_condition(meaning.value, "event_id"))
    if meaning.kind == Kind.TASK:
        named = who.subject_condition(meaning.value, "subject")
        return events.filter(named).order_by("subject")
    if meaning.kind == Kind.METADATA:
        named = who.metadata_condition(WebhookEvent, "metadata", meaning.value)
        return events.filter(named).order_by("-id")
    if meaning.kind == Kind.REQUEST:
        return events.filter(request_id=meaning.value).order_by("-id")
    return None


def _place_condition(meaning: Meaning) -> Q | None:
    if isinstance(meaning.value, Place):
        return meaning.value.condition
    return Q(scope=meaning.value) if meaning.kind == Kind.PROJECT else None


def _ids(queries: Sequence[QuerySet[Any]]) -> list[int]:
    """Return the ids of all; each word has a query of its own, with an index of its own."""
    return sorted({key for rows in queries for key in rows.values_list("pk", flat=True)})


def _of_events(found: Found, column: str) -> list[int]:
    """Return what the newest messages of the found events and numbers have in a column."""
    rows = WebhookMessage.objects.filter(Q(event__in=found.events) | Q(pk__in=found.numbers))
    values = rows.order_by("-id").values_list(column, flat=True)[:NEWEST_MESSAGES]
    return [value for value in dict.fromkeys(values) if value is not None]


def search_messages(queryset: QuerySet[Row], term: str) -> QuerySet[Row]:
    """Filter messages by what the term names; these functions raise `InvalidFilter`."""
    return queryset.filter(find(who.meanings(term)).of_messages)


def search_deliveries(queryset: QuerySet[Row], term: str) -> QuerySet[Row]:
    """Filter deliveries by what the term names; of a host only those of its newest messages."""
    found = find(who.meanings(term))
    messages = WebhookMessage.objects.filter(found.of_messages).order_by("-id")
    newest = list(messages.values_list("pk", flat=True)[:NEWEST_MESSAGES])
    return queryset.filter(Q(message__in=newest) | Q(pk__in=found.numbers))


def search_destinations(queryset: QuerySet[Row], term: str) -> QuerySet[Row]:
    """Filter destinations by host or project, or by a message, task or request that went there."""
    found = find(who.meanings(term))
    return queryset.filter(pk__in=[*found.destinations, *_of_events(found, "destination")])


def search_endpoints(queryset: QuerySet[Row], term: str) -> QuerySet[Row]:
    """Filter endpoints by URL, project or id, or by what was sent to them."""
    read = who.meanings(term)
    named = [Q(pk__in=_of_events(find(read), "endpoint"))]
    for meaning in read:
        if meaning.kind == Kind.PROJECT:
            named.append(Q(scope=meaning.value))
        elif isinstance(meaning.value, Ids):
            named.append(meaning.value.within("pk"))
        elif isinstance(meaning.value, Place):
            named += [Q(url__startswith=text) for text in _urls(meaning.value)]
    return queryset.filter(reduce(or_, named))


def _urls(place: Place) -> list[str]:
    """Return how URLs of a place begin."""
    schemes = [place.scheme] if place.scheme else ["https", "http"]
    default = {"https": 443, "http": 80}
    texts = []
    for scheme in schemes:
        name = str(Place(place.host))
        texts.append(f"{scheme}://{name}" + (f":{place.port}" if place.port else ""))
        if place.port == default[scheme]:
            texts += [f"{scheme}://{name}/", f"{scheme}://{name}?"]
    return texts


def search_replays(queryset: QuerySet[Row], term: str) -> QuerySet[Row]:
    """Filter replays by id or project, or by what they made due last."""
    read = who.meanings(term)
    found = find(read)
    messages = WebhookMessage.objects.filter(found.of_messages, replay__isnull=False)
    newest = messages.order_by("-id").values_list("replay", flat=True)[:NEWEST_MESSAGES]
    named = [Q(pk__in=list(dict.fromkeys(newest)))]
    named += [m.value.within("pk") for m in read if isinstance(m.value, Ids)]
    named += [Q(scope=m.value) for m in read if m.kind == Kind.PROJECT]
    return queryset.filter(reduce(or_, named))


def deliveries_of_event(queryset: QuerySet[Row], event_type: str) -> QuerySet[Row]:
    """Filter deliveries to those of the newest events of a type."""
    events = WebhookEvent.objects.filter(event_type=event_type).order_by("-id")
    newest = list(events.values_list("pk", flat=True)[:NEWEST_MESSAGES])
    messages = WebhookMessage.objects.filter(event__in=newest).values_list("pk", flat=True)
    return queryset.filter(message__in=list(messages))
