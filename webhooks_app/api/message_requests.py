"""Which messages, attempts and replays can a client ask for? Their query strings and bodies."""

from __future__ import annotations

from typing import Any

from webhooks_app.api.fields import (
    BIGGEST_NUMBER,
    CallbackUrl,
    Choice,
    Flag,
    Items,
    Moment,
    Number,
    PageQuery,
    ProjectId,
    StrictSerializer,
    Text,
    Whole,
)
from webhooks_app.models import DeliveryOutcome, MessageStatus
from webhooks_app.operators import replay
from webhooks_app.outbox import ANY_STATUS, MessageFilters
from webhooks_app.retry import ERROR_CODES

STATUSES = [*MessageStatus.values, ANY_STATUS]


class _Conditions(StrictSerializer):
    """Parameters that lists and replays share."""

    task_id = Text(required=False, max_length=64)
    project_id = ProjectId(required=False)
    host = Text(required=False, max_length=253, help_text="The receiver's host name.")
    event_type = Text(required=False, max_length=60)
    status_code = Whole(required=False, min_value=100, max_value=999)
    error_code = Choice(list(ERROR_CODES), required=False)
    since = Moment(required=False, help_text="Written at or after this time.")
    until = Moment(required=False, help_text="Written before this time.")


class MessageQuery(PageQuery, _Conditions):
    """The query string of the list of messages."""

    status = Choice(STATUSES, required=False)


class DeliveryQuery(PageQuery, _Conditions):
    """The query string of the list of attempts; the times are when they started."""

    outcome = Choice(DeliveryOutcome.choices, required=False)
    message_id = Whole(required=False, min_value=1, max_value=BIGGEST_NUMBER)


class ReplayFilter(_Conditions):
    """The filter of a bulk replay; all conditions must hold."""

    status = Choice(
        STATUSES,
        required=False,
        help_text="`dead` unless given; with `ids`, any.",
    )
    ids = Items(child=Whole(min_value=1, max_value=BIGGEST_NUMBER), required=False, most=1_000)


class ReplayOneRequest(StrictSerializer):
    """The body of a replay of one message."""

    callback_url = CallbackUrl(required=False, help_text="Send the event there instead.")
    reason = Text(required=False, allow_blank=True, max_length=500)


class BulkReplayRequest(ReplayOneRequest):
    """The body of a bulk replay."""

    filter = ReplayFilter(required=False)
    rate = Number(
        required=False,
        min_value=0.01,
        max_value=replay.MAX_RATE,
        help_text="Messages a second, at most.",
    )
    dry_run = Flag(required=False, default=False, help_text="Only count, and show the oldest.")


def filters_of(values: dict[str, Any]) -> MessageFilters:
    """Turn the API's parameters into the filters of lists and replays."""
    names = {"task_id": "task", "project_id": "project", "event_type": "event"}
    known = ("status", "host", "status_code", "error_code", "since", "until", "ids", *names)
    return MessageFilters.of(
        {names.get(name, name): values[name] for name in known if name in values}
    )
