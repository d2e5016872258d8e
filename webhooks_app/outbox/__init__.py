"""What is owed, to whom, and where does it stand? The only writer of messages and attempts."""

from webhooks_app.outbox import filters, who
from webhooks_app.outbox.auth import (
    hasten,
    left_off,
    nearest,
    register_defaults,
    seconds_unsent,
)
from webhooks_app.outbox.claim import (
    Claimed,
    Connection,
    claim,
    observe,
    operator_settings,
    seconds_to_next,
)
from webhooks_app.outbox.find import (
    ANY_STATUS,
    STATUSES,
    MessageFilters,
    destination_ids,
    event_types,
    messages_of,
    read_event_type,
    recent_ends,
)
from webhooks_app.outbox.order import let_go, orphans, release
from webhooks_app.outbox.prune import count_prunable, prune
from webhooks_app.outbox.publish import (
    CHANNEL,
    Target,
    destination_of,
    publish,
    wake,
)
from webhooks_app.outbox.record import (
    Outcome,
    bare_outcome,
    interrupted_outcome,
    outcome_of,
    record,
    supersede_late,
    supersede_older,
)
from webhooks_app.outbox.recover import (
    close_ended,
    dead_letters,
    expire_held,
    expired_leases,
    recover,
)
from webhooks_app.outbox.replay import replay_messages, replay_messages_to
from webhooks_app.outbox.search import (
    deliveries_of_event,
    find,
    search_deliveries,
    search_destinations,
    search_endpoints,
    search_messages,
    search_replays,
)
from webhooks_app.outbox.stop import acknowledge, bury_disabled, call_off, set_aside
from webhooks_app.outbox.subscribers import has_subscriber, is_type_wanted
from webhooks_app.outbox.who import InvalidFilter

__all__ = [
    "ANY_STATUS",
    "CHANNEL",
    "STATUSES",
    "Claimed",
    "Connection",
    "InvalidFilter",
    "MessageFilters",
    "Outcome",
    "Target",
    "acknowledge",
    "bare_outcome",
    "bury_disabled",
    "call_off",
    "claim",
    "close_ended",
    "count_prunable",
    "dead_letters",
    "deliveries_of_event",
    "destination_ids",
    "destination_of",
    "event_types",
    "expire_held",
    "expired_leases",
    "filters",
    "find",
    "has_subscriber",
    "hasten",
    "interrupted_outcome",
    "is_type_wanted",
    "left_off",
    "let_go",
    "messages_of",
    "nearest",
    "observe",
    "operator_settings",
    "orphans",
    "outcome_of",
    "prune",
    "publish",
    "read_event_type",
    "recent_ends",
    "record",
    "recover",
    "register_defaults",
    "release",
    "replay_messages",
    "replay_messages_to",
    "search_deliveries",
    "search_destinations",
    "search_endpoints",
    "search_messages",
    "search_replays",
    "seconds_to_next",
    "seconds_unsent",
    "set_aside",
    "supersede_late",
    "supersede_older",
    "wake",
    "who",
]
