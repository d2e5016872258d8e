"""Which messages does somebody mean? The one set of filters for lists and replays.

Admin, API and commands share it, so that a replay takes exactly the messages that a list shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any

from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from webhooks_app.conf import webhook_settings
from webhooks_app.models import (
    META_EVENTS,
    MessageStatus,
    WebhookDestination,
    WebhookEvent,
    WebhookMessage,
)
from webhooks_app.notation import EVENT_ID_PREFIX, PING
from webhooks_app.outbox import who
from webhooks_app.outbox.who import InvalidFilter
from webhooks_app.retry import ERROR_CODES

ANY_STATUS = "any"
STATUSES = (*MessageStatus.values, ANY_STATUS)


@dataclass(frozen=True, slots=True)
class MessageFilters:
    """Conditions that must all hold; an empty one is ignored.

    ``status`` is a message's status or "any"; empty means dead letters, or any status where
    ``ids`` or ``event_ids`` name the messages. ``task`` is the event's subject or its first digits,
    ``project`` its scope, ``projects`` several that it may be, ``host`` a host, host:port or URL,
    ``metadata`` a ``key=value``; ``since`` (inclusive) and ``until`` (exclusive) limit the time at
    which the message was written.
    """

    status: str = ""
    task: str = ""
    project: str = ""
    host: str = ""
    event: str = ""
    request_id: str = ""
    metadata: str = ""
    status_code: int | None = None
    error_code: str = ""
    since: datetime | None = None
    until: datetime | None = None
    ids: tuple[int, ...] = ()
    event_ids: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> MessageFilters:
        """Build filters from a request or a command; ``ids`` may hold ``msg_...`` as well.

        Raises:
            InvalidFilter: a value is one that no message can have.
        """
        given = _given(values)
        for name, read in _READERS.items():
            if name in given:
                read(str(given[name]), name)
        named = [str(value) for value in given.pop("ids", ())]
        events = [who.read_event_id(text, "ids") for text in named if _is_event_id(text)]
        rows = [who.read_number(text, "ids") for text in named if not _is_event_id(text)]
        projects = tuple(given.pop("projects", ()))
        return cls(**given, ids=tuple(rows), event_ids=tuple(events), projects=projects)

    @classmethod
    def stored(cls, values: Mapping[str, Any]) -> MessageFilters:
        """Build the filters of a stored replay, also those that would be refused by now."""
        given = _given(values)
        names = ("ids", "event_ids", "projects")
        ids, event_ids, projects = (tuple(given.pop(name, ())) for name in names)
        return cls(**given, ids=ids, event_ids=event_ids, projects=projects)

    def as_json(self) -> dict[str, Any]:
        """Return the filters that are set, as JSON values that ``of`` reads."""
        values = {
            name: value for name, value in asdict(self).items() if value not in (None, "", ())
        }
        for name in ("since", "until"):
            if name in values:
                values[name] = values[name].isoformat()
        return {name: [*v] if isinstance(v, tuple) else v for name, v in values.items()}

    def for_replay(self) -> MessageFilters:
        """Return the filters with an empty status replaced by what it means for a replay."""
        if self.status:
            return self
        is_named = self.ids or self.event_ids
        return replace(self, status=ANY_STATUS if is_named else str(MessageStatus.DEAD))

    def describe(self) -> str:
        """Return the filters in one line, for the operators' log."""
        values = self.as_json()
        if len(self.ids) > 5:
            values["ids"] = f"{len(self.ids)} messages"
        if len(self.projects) > 5:
            values["projects"] = f"{len(self.projects)} projects"
        return " ".join(f"{name}={value}" for name, value in values.items()) or "everything"


def event_types() -> list[str]:
    """Return the event types that messages may have; empty where the project lets any be."""
    known = webhook_settings.EVENT_TYPES
    return [*known, *META_EVENTS, PING] if known else []


def read_event_type(text: str, name: str = "event") -> str:
    """Return an event type that messages may have."""
    return who.read_known(text, name, event_types() or [text])


_READERS: dict[str, Callable[[str, str], Any]] = {
    "status": lambda text, name: who.read_known(text, name, STATUSES),
    "error_code": lambda text, name: who.read_known(text, name, list(ERROR_CODES)),
    "event": read_event_type,
    "task": who.read_subject,
    "project": who.read_project,
    "host": who.read_place,
    "request_id": who.read_request_id,
    "metadata": who.read_metadata,
}


def _is_event_id(text: str) -> bool:
    return text.startswith(EVENT_ID_PREFIX)


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the filters that are set, their times read."""
    known = {field.name for field in fields(MessageFilters)}
    given = {k: v for k, v in values.items() if k in known and v not in (None, "", [], ())}
    return {k: _time(k, v) if k in ("since", "until") else v for k, v in given.items()}


def _time(name: str, value: Any) -> datetime:
    try:
        time = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        raise InvalidFilter(name, "use RFC 3339, for example 2025-01-15T10:35:30Z") from None
    try:  # without a zone it is UTC; the first and last years overflow in some zones
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError:
        raise InvalidFilter(name, "is out of range") from None


def messages_of(filters: MessageFilters, scope: str | None = None) -> QuerySet[WebhookMessage]:
    """Return the messages that match, unordered; only of the project ``scope`` if it is given."""
    status = "" if filters.status == ANY_STATUS else filters.status
    asked: list[tuple[str, Any]] = [
        ("event__scope", scope),
        ("event__scope", filters.project),
        ("event__event_type", filters.event),
        ("event__request_id", filters.request_id),
        # An empty list matches nothing, None any host.
        ("destination__in", destination_ids(filters.host) if filters.host else None),
        # The scope is in both tables; the planner may start from the smaller one.
        ("destination__scope", scope or filters.project),
        ("destination__scope__in", filters.projects),
        ("status", status),
        ("last_status_code", filters.status_code),
        ("last_error_code", filters.error_code),
        ("created_at__gte", filters.since),
        ("created_at__lt", filters.until),
    ]
    conditions = [Q((lookup, value)) for lookup, value in asked if value not in (None, "", ())]
    if filters.task:
        subject = who.read_subject(filters.task)
        conditions.append(who.subject_condition(subject, "event__subject"))
    if filters.metadata:
        conditions.append(
            who.metadata_condition(WebhookEvent, "metadata", filters.metadata, "event")
        )
    if filters.ids or filters.event_ids:
        conditions.append(Q(id__in=filters.ids) | Q(event__in=_events(filters.event_ids)))
    return WebhookMessage.objects.filter(*conditions)


def _events(event_ids: tuple[str, ...]) -> list[int]:
    if not event_ids:
        return []
    named = reduce(or_, (who.event_id_condition(text, "event_id") for text in event_ids))
    return list(WebhookEvent.objects.filter(named).values_list("pk", flat=True))


def destination_ids(host: str) -> list[int]:
    """Return the destinations of a host, host:port or URL, in every project."""
    # A query of its own: in a join the planner cannot know how few messages a host has.
    places = WebhookDestination.objects.filter(who.read_place(host).condition)
    return list(places.values_list("pk", flat=True))


def recent_ends(event_type: str, within: timedelta) -> QuerySet[WebhookEvent]:
    """Return the recently published events of one terminal type."""
    return WebhookEvent.objects.filter(
        event_type=event_type, is_terminal=True, created_at__gt=Now() - within
    )
