"""What may be searched for in the outbox, such that an index answers?

One search box takes a row's number, a task id, a ``msg_...`` id, a project or the beginning of a
host name. Text in the middle is not matched: that would read the whole table.
"""

from __future__ import annotations

import uuid
from typing import TypeVar

from django.db.models import Model, Q, QuerySet

from webhooks_app.models import WebhookDestination, WebhookEvent, WebhookMessage
from webhooks_app.notation import BIGGEST_ID, EVENT_ID_PREFIX

Row = TypeVar("Row", bound=Model)
# The most destinations that are searched for one host prefix.
MAX_DESTINATIONS = 500
# The most messages of a host, or events of a type, whose attempts are searched.
NEWEST_MESSAGES = 300


def _destination_ids(term: str) -> list[int]:
    """Return destinations of the project ``term`` or whose host begins with ``term``."""
    host = term.lower().split("://")[-1].split("/")[0].split(":")[0]
    found = WebhookDestination.objects.filter(Q(host__startswith=host) | Q(scope=term))
    return list(found.values_list("pk", flat=True)[:MAX_DESTINATIONS])


def _search(queryset: QuerySet[Row], term: str, prefix: str) -> QuerySet[Row] | None:
    """Filter by a number or an id; None for a term that is neither."""
    if term.isascii() and term.isdigit() and int(term[:20]) <= BIGGEST_ID:
        return queryset.filter(pk=int(term[:20]))
    if term.startswith(EVENT_ID_PREFIX):
        return queryset.filter(**{f"{prefix}event__event_id": term})
    try:
        return queryset.filter(**{f"{prefix}event__subject": str(uuid.UUID(term))})
    except ValueError:
        return None


def _cleaned(term: str) -> str:
    return term.strip().replace("\x00", "")


def search_messages(queryset: QuerySet[Row], term: str) -> QuerySet[Row]:
    """Filter messages by what the term names."""
    if not (term := _cleaned(term)):
        return queryset
    found = _search(queryset, term, "")
    return queryset.filter(destination__in=_destination_ids(term)) if found is None else found


def search_deliveries(queryset: QuerySet[Row], term: str) -> QuerySet[Row]:
    """Filter deliveries by what the term names; of a host only those of its newest messages."""
    if not (term := _cleaned(term)):
        return queryset
    found = _search(queryset, term, "message__")
    if found is not None:
        return found
    messages = WebhookMessage.objects.filter(destination__in=_destination_ids(term))
    newest = messages.order_by("-id").values_list("pk", flat=True)[:NEWEST_MESSAGES]
    return queryset.filter(message__in=list(newest))


def deliveries_of_event(queryset: QuerySet[Row], event_type: str) -> QuerySet[Row]:
    """Filter deliveries to those of the newest events of a type."""
    events = WebhookEvent.objects.filter(event_type=event_type).order_by("-id")
    newest = list(events.values_list("pk", flat=True)[:NEWEST_MESSAGES])
    messages = WebhookMessage.objects.filter(event__in=newest).values_list("pk", flat=True)
    return queryset.filter(message__in=list(messages))
