"""Who did what to the outbox, when and why? Admin, API and commands record and read it here."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Any

from django.db import connection
from django.db.models import Q, QuerySet

from webhooks_app import outbox
from webhooks_app.conf import webhook_settings
from webhooks_app.log import get_logger
from webhooks_app.models import OperatorAction, WebhookMessage
from webhooks_app.outbox import InvalidFilter, who
from webhooks_app.outbox.who import Ids, Kind, Place

logger = get_logger(__name__)

_OF_DESTINATIONS = ("disable", "enable", "limit", "mute", "pause", "ping", "resume", "unmute")
#: What this app puts on record; the project adds its own in WEBHOOKS["OPERATOR_ACTIONS"].
ACTIONS = (
    *(f"credential.{verb}" for verb in ("change", "create", "delete", "test")),
    *(f"destination.{verb}" for verb in _OF_DESTINATIONS),
    *(f"endpoint.{verb}" for verb in ("create", "delete", "ping", "update")),
    *(
        "message.set_aside",
        "message.take_back",
        "prune",
        "replay.cancel",
        "replay.start",
        "secret.reencrypt",
        "secret.rotate",
    ),
)
#: The most messages whose actions are looked for by one word.
MOST_MESSAGES = 100
#: The most values of a column that a filter offers.
MOST_VALUES = 50
_COLUMNS = {"action": ("<", ">"), "actor": ("~<~", "~>~")}  # in the order of their indexes


def note(
    actor: str, action: str, target: str, reason: str = "", *, scope: str = ""
) -> OperatorAction:
    """Record one action, in the transaction of the action itself.

    Args:
        actor: who: a user name, ``key <prefix>`` or ``command <login>``.
        action: what, as a dotted word of `known_actions`, for example ``destination.pause``.
        target: what it was done to; it begins with what that can be found by.
        scope: the only project that it touched; empty: the installation, or several.
    """
    logger.info("Operator action", actor=actor, action=action, target=target, reason=reason)
    return OperatorAction.objects.create(
        actor=actor[:150], action=action, target=target[:300], reason=reason[:500], scope=scope
    )


def known_actions() -> list[str]:
    return sorted({*ACTIONS, *webhook_settings.OPERATOR_ACTIONS})


def read_action(text: str, name: str = "action") -> str:
    """Return an action that may be on record; raises InvalidFilter for another."""
    return who.read_known(text, name, known_actions())


def values_of(column: str) -> list[str]:
    """Return the first `MOST_VALUES` values of ``action`` or ``actor`` that are on record.

    One step in the index per value, however long the record is.
    """
    less, more = _COLUMNS[column]
    sql = (
        "WITH RECURSIVE found AS ("  # noqa: S608 - names of ours
        f" (SELECT {column} AS value FROM webhooks_app_operatoraction"
        f"   ORDER BY {column} USING {less} LIMIT 1)"
        f" UNION ALL SELECT (SELECT {column} FROM webhooks_app_operatoraction"
        f"   WHERE {column} {more} found.value ORDER BY {column} USING {less} LIMIT 1)"
        "   FROM found WHERE found.value IS NOT NULL"
        ") SELECT value FROM found WHERE value IS NOT NULL LIMIT %s"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, [MOST_VALUES])
        return [row[0] for row in cursor.fetchall()]


def search(rows: QuerySet[OperatorAction], term: str) -> QuerySet[OperatorAction]:
    """Filter the record by ``actor=``, ``action=`` or ``target=``, or by what a word names.

    A word alone is the beginning of an actor or a target, or what `about` makes of it.

    Raises:
        InvalidFilter: no such action is known.
    """
    word, equals, value = term.strip().partition("=")
    value = value.strip()
    if equals and word == "actor":
        return rows.filter(actor__startswith=value)
    if equals and word == "action":
        return rows.filter(action=read_action(value))
    if equals and word == "target":
        return rows.filter(about(value))
    return rows.filter(Q(actor__startswith=term.strip()) | about(term))


def about(term: str) -> Q:
    """Return the condition on actions whose target begins with a text, or is what it names.

    A task's or message's id finds what was done to either; a project what touched only it.
    """
    term = term.strip().replace("\x00", "")
    found = [Q(target__startswith=term)]
    try:
        read = who.meanings(term)
    except InvalidFilter:
        return found[0]
    for meaning in read:
        if meaning.kind == Kind.PROJECT:
            found.append(Q(scope=meaning.value))
        elif isinstance(meaning.value, Place):
            found += [Q(target__startswith=text) for text in _origins(meaning.value)]
        elif isinstance(meaning.value, Ids):
            beginning = meaning.value.beginning
            found += [Q(target__startswith=f"{kind}{beginning}") for kind in ("", "replay ")]
    named = [m for m in read if m.kind not in (Kind.PROJECT, Kind.HOST)]
    return reduce(or_, [*found, *_of_messages(named)])


def _origins(place: Place) -> list[str]:
    """Return how the names of destinations and endpoints at a place begin."""
    schemes = [place.scheme] if place.scheme else ["https", "http"]
    bare = Place(place.host)
    texts = [f"{scheme}://{bare}" for scheme in schemes]
    if place.port is None or (place.scheme, place.port) in (("https", 443), ("http", 80)):
        return texts
    return [f"{text}:{place.port}" for text in texts]


def _of_messages(read: list[Any]) -> list[Q]:
    """Return the conditions on what was done to the messages that the words name."""
    numbers = [meaning.value for meaning in read if meaning.kind == Kind.ROW]
    messages = WebhookMessage.objects.filter(outbox.find(read).of_messages).order_by("-id")
    ids = {*numbers, *messages.values_list("pk", flat=True)[:MOST_MESSAGES]}
    if not ids:
        return []
    exact = Q(target__in=[f"message {number}" for number in ids])
    named = reduce(or_, [exact, *(Q(target__startswith=f"message {number} ") for number in ids)])
    # Looked up by the index of targets: in the order of a list the planner would read all of it.
    return [Q(pk__in=list(OperatorAction.objects.filter(named).values_list("pk", flat=True)))]
