"""What would a replay send, of whom, from where and to where? Shown before anything is sent."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import QuerySet

from webhooks_app.models import WebhookEvent, WebhookMessage
from webhooks_app.notation import counted, origin_text
from webhooks_app.outbox import MessageFilters, left_off, messages_of
from webhooks_app.shown import safe_url

#: Counting stops here, so that a preview never reads the whole history.
COUNT_LIMIT = 10_000
SAMPLE = 10
#: So many projects, errors and receivers are named to people, the most frequent first.
SHOWN_NAMES = 10

_GROUPS = """
WITH meant AS MATERIALIZED ({meant})
SELECT destination.scope, destination.scheme, destination.host, destination.port,
  meant.last_error_code, count(*), min(meant.created_at), max(meant.created_at)
FROM meant JOIN webhooks_app_webhookdestination destination
  ON destination.id = meant.destination_id
GROUP BY 1, 2, 3, 4, 5
"""


@dataclass(frozen=True, slots=True)
class Preview:
    """What a replay means: its messages by project, by error and by where they were owed.

    All is exact up to ``COUNT_LIMIT`` messages; of more, ``projects``, ``error_codes`` and
    ``origins`` are those of so many. The dicts have a count for each name, the most first.
    """

    count: int = 0
    is_exact: bool = True
    sample: list[WebhookMessage] = field(default_factory=list)
    projects: dict[str, int] = field(default_factory=dict)
    #: Of the last attempt of each; messages without an error are in none.
    error_codes: dict[str, int] = field(default_factory=dict)
    #: ``scheme://host:port`` of the receivers that the messages are owed to now.
    origins: dict[str, int] = field(default_factory=dict)
    oldest_at: datetime | None = None
    newest_at: datetime | None = None
    #: Names of credentials that do not go along, since they are bound to other origins.
    credentials_left_off: list[str] = field(default_factory=list)
    #: Where all of it would go; empty: each message to its own receiver again.
    to_url: str = ""
    #: Events that would go to ``to_url``, each once, however many messages it is owed by.
    events: int = 0

    @property
    def mixes_projects(self) -> bool:
        """Tell whether one URL would receive the events of several projects."""
        return bool(self.to_url) and len(self.projects) > 1

    @property
    def meant(self) -> str:
        """What a replay takes, as words: ``5 messages``; elsewhere ``3 events of 5 messages``."""
        if not self.is_exact:
            return f"{self.count:,} or more messages"
        messages = counted(self.count, "message")
        is_fewer = self.to_url and self.events < self.count
        return f"{counted(self.events, 'event')} of {messages}" if is_fewer else messages

    def lines(self, *, where_to: bool = True) -> list[tuple[str, str]]:
        """Return all of it but the sample for people: the name of each line, and its text.

        Args:
            where_to: False where nothing is sent.
        """
        times = [f"{at:%Y-%m-%d %H:%M:%S}" for at in (self.oldest_at, self.newest_at) if at]
        to = [safe_url(self.to_url) if self.to_url else "each to its own receiver again"]
        if self.to_url and self.is_exact and self.events < self.count:
            to = [f"{to[0]} ({counted(self.events, 'event')}, once each)"]
        return [
            ("projects", _listed(self.projects)),
            ("written", " to ".join(dict.fromkeys(times)) + " UTC"),
            ("errors", _listed(self.error_codes) or "none"),
            ("from", _listed({safe_url(name): count for name, count in self.origins.items()})),
            *[("to", text) for text in to if where_to],
            *[("without", _without(self.credentials_left_off))] * bool(self.credentials_left_off),
        ]


def _events(found: QuerySet[WebhookMessage]) -> int:
    """Return how many events the counted messages are about."""
    ids = found.order_by().values_list("event_id", flat=True)[:COUNT_LIMIT]
    return WebhookEvent.objects.filter(pk__in=ids).count()


def _without(names: list[str]) -> str:
    what = "the credential" if len(names) == 1 else "the credentials"
    return f"{what} {', '.join(names)}: bound to other origins"


def _listed(counts: dict[str, int]) -> str:
    """Return the counts as text, those of the rest as one."""
    named = list(counts.items())[:SHOWN_NAMES]
    left = len(counts) - len(named)
    rest = [f"{left} more ({sum(counts.values()) - sum(n for _, n in named):,})"] if left else []
    return ", ".join([*(f"{name} ({count:,})" for name, count in named), *rest])


def preview(filters: MessageFilters, scope: str | None = None, *, to_url: str = "") -> Preview:
    """Return what a replay with these filters would send, and the oldest few messages.

    Args:
        scope: the only project whose messages may be touched; None for all.
        to_url: another URL to send the events to.
    """
    found = messages_of(filters.for_replay(), scope)
    columns = found.values("destination_id", "last_error_code", "created_at")
    try:
        meant, parameters = columns[: COUNT_LIMIT + 1].query.sql_with_params()
    except EmptyResultSet:  # a host that nobody has
        return Preview(to_url=to_url)
    with connection.cursor() as cursor:
        cursor.execute(_GROUPS.format(meant=meant), parameters)
        groups = cursor.fetchall()
    sample = list(found.select_related("event", "destination").order_by("id")[:SAMPLE])
    projects, codes, origins = Counter[str](), Counter[str](), Counter[str]()
    for scope_of_it, scheme, host, port, code, count, *_ in sorted(groups):  # ties by name
        projects[scope_of_it] += count
        origins[origin_text(scheme, host, port)] += count
        if code:
            codes[code] += count
    count = projects.total()
    is_exact = count <= COUNT_LIMIT
    oldest = min((group[6] for group in groups), default=None)
    newest = max((group[7] for group in groups), default=None)
    if not is_exact:  # the counted ones are any
        oldest = sample[0].created_at if sample else oldest
        newest = found.order_by("-id").values_list("created_at", flat=True).first()
    return Preview(
        count=min(count, COUNT_LIMIT),
        is_exact=is_exact,
        sample=sample,
        projects=dict(projects.most_common()),
        error_codes=dict(codes.most_common()),
        origins=dict(origins.most_common()),
        oldest_at=oldest,
        newest_at=newest,
        credentials_left_off=left_off(found, to_url) if to_url else [],
        to_url=to_url,
        events=_events(found) if to_url else 0,
    )
