"""Which events tell of receivers themselves? Meta events: one change of state each.

An endpoint gets one only if its ``event_types`` name it; an empty list stands for the events of the
project. How their own attempts end changes no state, so none leads to another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]

FAILING = "endpoint.failing"
DISABLED = "endpoint.disabled"
RECOVERED = "endpoint.recovered"
DEAD_LETTER_RATE = "webhooks.dead_letter_rate"

#: Why an origin or an endpoint is in its state.
REASONS = {
    "breaker": "Its messages fail one after the other, so only probes are sent.",
    "dead_letter": "A message ran out of retries, and none was delivered since.",
    "gone": "It answered 410 Gone.",
    "asked": "Somebody asked for it, in the admin, by the API or by a command.",
    "delivered": "A message was delivered again.",
}

_TIME: Schema = {"type": "string", "format": "date-time"}
_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_LINK: Schema = {
    "anyOf": [_TEXT, {"type": "null"}],
    "description": "The page of the admin.",
}


@dataclass(frozen=True)
class MetaEvent:
    """A kind of meta event: what its body has beside ``type``, and an example of that."""

    name: str
    summary: str
    members: dict[str, Schema]
    example: dict[str, Any]
    #: False: of the installation; only endpoints without a project get it.
    is_of_a_project: bool = True

    @property
    def schema(self) -> Schema:
        """Return the JSON Schema of the body; more members may come."""
        members = {"type": {"const": self.name}, **self.members}
        return {"type": "object", "properties": members, "required": list(members)}

    @property
    def body(self) -> dict[str, Any]:
        """Return an example of the body."""
        return {"type": self.name, **self.example}


def _of_endpoints(name: str, summary: str, reasons: Sequence[str], failing: int) -> MetaEvent:
    state = name.rpartition(".")[2]
    return MetaEvent(
        name,
        summary,
        members={
            "project_id": _TEXT,
            "origin": _TEXT | {"description": "scheme://host:port that is meant."},
            "endpoint_id": {
                "anyOf": [{"type": "string", "format": "uuid"}, {"type": "null"}],
                "description": "The subscription that is meant; null: all of the origin.",
            },
            "state": {"const": state},
            "reason": {"type": "string", "enum": list(reasons)},
            "detail": _TEXT | {"description": "The reason as a sentence."},
            "since": _TIME,
            "failing_messages": _COUNT | {"description": "Failed in a row."},
            "pending_messages": _COUNT | {"description": "Wait for it; 10,000 is the most."},
            "admin_url": _LINK,
        },
        example={
            "project_id": "test_project",
            "origin": "https://your-app.com",
            "endpoint_id": None,
            "state": state,
            "reason": reasons[0],
            "detail": REASONS[reasons[0]],
            "since": "2025-01-15T10:35:30Z",
            "failing_messages": failing,
            "pending_messages": 3 * failing,
            "admin_url": "https://movies.example.com/admin/webhooks_app/webhookdestination/7/change/",
        },
    )


META_EVENTS: dict[str, MetaEvent] = {
    event.name: event
    for event in (
        _of_endpoints(FAILING, "Messages to it fail", ["breaker", "dead_letter"], 10),
        _of_endpoints(DISABLED, "Nothing is sent to it any more", ["asked", "gone"], 0),
        _of_endpoints(RECOVERED, "Messages reach it again", ["delivered", "asked"], 0),
        MetaEvent(
            DEAD_LETTER_RATE,
            "More dead letters than the operator finds normal, or no more of them",
            members={
                "state": {"type": "string", "enum": ["above", "normal"]},
                "limit": _COUNT,
                "window_seconds": {"type": "number"},
                "dead_letters": _COUNT | {"description": "In the window; counted to the limit."},
                "since": _TIME,
                "admin_url": _LINK,
            },
            example={
                "state": "above",
                "limit": 20,
                "window_seconds": 600,
                "dead_letters": 20,
                "since": "2025-01-15T10:35:30Z",
                "admin_url": "https://movies.example.com/admin/webhooks_app/webhookmessage/",
            },
            is_of_a_project=False,
        ),
    )
}
#: What the endpoints of a project can name.
OF_PROJECTS = tuple(name for name, event in META_EVENTS.items() if event.is_of_a_project)


def is_wanted(event_types: Sequence[str], event_type: str) -> bool:
    """Say whether an endpoint with this list gets events of this type."""
    if not event_types:
        return event_type not in META_EVENTS
    return event_type in event_types
