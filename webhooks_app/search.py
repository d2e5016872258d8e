"""What may be searched for in the outbox, such that an index answers?

One box takes a row's number, a task id, a ``msg_...`` id, a project or the beginning of a host
name. Nothing is matched in the middle: that would read the whole table.
"""

from __future__ import annotations

import uuid
from typing import TypeVar

from django.db.models import Model, Q, QuerySet

from webhooks_app.models import WebhookDestination

Row = TypeVar("Row", bound=Model)
MAX_BIGINT = 2**63 - 1
# So many destinations at most are looked through for one host prefix.
MAX_DESTINATIONS = 500


def _as_uuid(term: str) -> str:
    try:
        return str(uuid.UUID(term))
    except ValueError:
        return ""


def _destination_ids(term: str) -> list[int]:
    """Return the destinations whose host begins like ``term``, or that belong to that project."""
    host = term.lower().split("://")[-1].split("/")[0].split(":")[0]
    found = WebhookDestination.objects.filter(Q(host__startswith=host) | Q(scope=term))
    return list(found.values_list("pk", flat=True)[:MAX_DESTINATIONS])


def _search(queryset: QuerySet[Row], term: str, prefix: str) -> QuerySet[Row]:
    term = term.strip().replace("\x00", "")
    if not term:
        return queryset
    if term.isascii() and term.isdigit() and int(term[:20]) <= MAX_BIGINT:
        return queryset.filter(pk=int(term[:20]))
    if task_id := _as_uuid(term):
        return queryset.filter(**{f"{prefix}event__subject": task_id})
    if term.startswith("msg_"):
        return queryset.filter(**{f"{prefix}event__event_id": term})
    return queryset.filter(**{f"{prefix}destination__in": _destination_ids(term)})


def search_messages(queryset: QuerySet[Row], term: str) -> QuerySet[Row]:
    """Narrow messages down to what the term names."""
    return _search(queryset, term, "")


def search_deliveries(queryset: QuerySet[Row], term: str) -> QuerySet[Row]:
    """Narrow deliveries down to what the term names."""
    return _search(queryset, term, "message__")
