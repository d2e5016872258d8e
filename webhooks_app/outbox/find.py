"""Which messages does somebody mean? The one set of filters for lists and replays.

Admin, API and commands share it, so that a replay takes exactly the messages that a list shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from webhooks_app.models import MessageStatus, WebhookDestination, WebhookEvent, WebhookMessage

ANY_STATUS = "any"


class InvalidFilter(ValueError):
    """A filter has a value that no message can have. ``name`` is the filter's."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name
        self.message = message


@dataclass(frozen=True, slots=True)
class MessageFilters:
    """Conditions that must all hold; an empty one is ignored.

    ``status`` is a message's status or "any"; empty means dead letters, or any status where
    ``ids`` name the messages. ``task`` is the event's subject, ``project`` its scope; ``since``
    (inclusive) and ``until`` (exclusive) limit the time at which the message was written.
    """

    status: str = ""
    task: str = ""
    project: str = ""
    host: str = ""
    event: str = ""
    status_code: int | None = None
    error_code: str = ""
    since: datetime | None = None
    until: datetime | None = None
    ids: tuple[int, ...] = ()

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> MessageFilters:
        """Build filters from a request, a command or a stored replay; raises InvalidFilter."""
        given = {name: value for name, value in values.items() if value not in (None, "", [])}
        status = given.get("status", "")
        if status not in ("", ANY_STATUS, *MessageStatus.values):
            known = ", ".join([*MessageStatus.values, ANY_STATUS])
            raise InvalidFilter("status", f"must be one of: {known}")
        for name in ("since", "until"):
            if name in given:
                given[name] = _time(name, given[name])
        if "ids" in given:
            given["ids"] = tuple(int(value) for value in given["ids"])
        return cls(**given)

    def as_json(self) -> dict[str, Any]:
        """Return the filters that are set, as JSON values that ``of`` reads."""
        values = {
            name: value for name, value in asdict(self).items() if value not in (None, "", ())
        }
        for name in ("since", "until"):
            if name in values:
                values[name] = values[name].isoformat()
        if "ids" in values:
            values["ids"] = list(values["ids"])
        return values

    def for_replay(self) -> MessageFilters:
        """Return the filters with an empty status replaced by what it means for a replay."""
        if self.status:
            return self
        return replace(self, status=ANY_STATUS if self.ids else str(MessageStatus.DEAD))

    def describe(self) -> str:
        """Return the filters in one line, for the operators' log."""
        values = self.as_json()
        if len(self.ids) > 5:
            values["ids"] = f"{len(self.ids)} messages"
        return " ".join(f"{name}={value}" for name, value in values.items()) or "everything"


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
    # A query of its own: in a join the planner cannot know how few messages a host has.
    places = WebhookDestination.objects.filter(host=filters.host.lower().strip("[]"))
    status = "" if filters.status == ANY_STATUS else filters.status
    asked: list[tuple[str, Any]] = [
        ("event__scope", scope),
        ("event__scope", filters.project),
        ("event__subject", filters.task),
        ("event__event_type", filters.event),
        # An empty list matches nothing, None any host.
        ("destination__in", [*places.values_list("pk", flat=True)] if filters.host else None),
        # The scope is in both tables; the planner may start from the smaller one.
        ("destination__scope", scope or filters.project),
        ("status", status),
        ("last_status_code", filters.status_code),
        ("last_error_code", filters.error_code),
        ("created_at__gte", filters.since),
        ("created_at__lt", filters.until),
        ("id__in", filters.ids),
    ]
    conditions = [Q((lookup, value)) for lookup, value in asked if value not in (None, "", ())]
    return WebhookMessage.objects.filter(*conditions)


def recent_ends(event_type: str, within: timedelta) -> QuerySet[WebhookEvent]:
    """Return the recently published events of one terminal type."""
    return WebhookEvent.objects.filter(
        event_type=event_type, is_terminal=True, created_at__gt=Now() - within
    )
