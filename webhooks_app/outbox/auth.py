"""Which credential does a message carry, and which messages wait for one that cannot be used?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import QuerySet

from webhooks_app.egress import origin_of
from webhooks_app.models import Credential, WebhookMessage
from webhooks_app.notation import LEFT_OFF, origin_text
from webhooks_app.retry import ErrorCode

#: So many credentials of the messages of a replay are looked at for its preview.
MOST_NAMES = 100

_HASTEN = """
UPDATE webhooks_app_webhookmessage SET next_attempt_at = now()
WHERE status = 'pending' AND callback_auth = %(name)s AND lease_token IS NULL
  AND last_error_code = %(code)s AND next_attempt_at > now()
  AND destination_id = ANY(ARRAY(
    SELECT id FROM webhooks_app_webhookdestination WHERE scope = %(scope)s))
"""

# Attempts in a row; a replay begins anew.
_WAITED = """
SELECT coalesce(extract(epoch FROM now() - min(started_at)), 0)::float8
FROM webhooks_app_webhookdelivery
WHERE message_id = %(message)s AND outcome = 'failed' AND error_code = %(code)s
  AND attempt_number > coalesce((
    SELECT max(attempt_number) FROM webhooks_app_webhookdelivery
    WHERE message_id = %(message)s AND outcome IN ('failed', 'succeeded')
      AND error_code <> %(code)s), 0)
  AND started_at >= coalesce((
    SELECT created_at FROM webhooks_app_replayjob WHERE id = %(replay)s), '-infinity')
"""


def nearest(scope: str, names: Sequence[str], url: str) -> str:
    """Return the first of these credentials that is bound to the URL's origin; empty: none."""
    if not any(names):
        return ""
    rows = Credential.objects.filter(
        scope=scope, name__in=list(names), origins__contains=[origin_text(*origin_of(url))]
    )
    bound = set(rows.values_list("name", flat=True))
    return next((name for name in names if name in bound), "")


#: Returns the names of default credentials, nearest first, of each subject of a project.
Defaults = Callable[[str, Sequence[str]], Mapping[str, Sequence[str]]]
_defaults: list[Defaults] = []


def register_defaults(defaults: Defaults) -> None:
    """Let a project say which credentials its messages carry that name none."""
    _defaults.append(defaults)


def take_defaults(ids: Sequence[int]) -> None:
    """Give messages without a credential the default that holds now: it may be why they failed."""
    rows = WebhookMessage.objects.filter(id__in=list(ids), callback_auth="")
    by_scope: dict[str, list[tuple[int, str, str]]] = {}
    for pk, url, scope, subject in rows.values_list(
        "id", "url", "destination__scope", "event__subject"
    ):
        by_scope.setdefault(scope, []).append((pk, url, subject))
    known = Credential.objects.filter(scope__in=list(by_scope)).values_list("scope", flat=True)
    for scope in set(known) if _defaults else ():
        meant = by_scope[scope]
        for defaults in _defaults:
            names = defaults(scope, [subject for _, _, subject in meant])
            for pk, url, subject in meant:
                if name := nearest(scope, names.get(subject, ()), url):
                    WebhookMessage.objects.filter(pk=pk).update(callback_auth=name)


def take_up(ids: Sequence[int]) -> None:
    """Give messages the credential that was left off, where it is bound to their origin by now."""
    marked = WebhookMessage.objects.filter(id__in=list(ids), callback_auth__startswith=LEFT_OFF)
    places = marked.values_list("destination__scope", "callback_auth", "url").order_by().distinct()
    for scope, kept, url in list(places):
        if name := nearest(scope, [kept.removeprefix(LEFT_OFF)], url):
            of_place = marked.filter(destination__scope=scope, callback_auth=kept, url=url)
            of_place.update(callback_auth=name)


def left_off(found: QuerySet[WebhookMessage], url: str) -> list[str]:
    """Return the names of the credentials that these messages would not take along to a URL."""
    named = (
        found.exclude(callback_auth="")
        .order_by()
        .values_list("destination__scope", "callback_auth")
    )
    pairs = {(scope, name.removeprefix(LEFT_OFF)) for scope, name in named.distinct()[:MOST_NAMES]}
    return sorted({name for scope, name in pairs if not nearest(scope, [name], url)})


def seconds_unsent(message_id: int, replay_id: UUID | None) -> float:
    """Return for how long a message has waited for its credential; 0 at its first such attempt."""
    code = ErrorCode.CREDENTIAL.value
    values: dict[str, Any] = {"message": message_id, "code": code, "replay": replay_id}
    with connection.cursor() as cursor:
        cursor.execute(_WAITED, values)
        return float(cursor.fetchone()[0])


def hasten(scope: str, name: str) -> int:
    """Make messages due at once that wait for this credential, after it was mended."""
    values = {"scope": scope, "name": name, "code": ErrorCode.CREDENTIAL.value}
    with connection.cursor() as cursor:
        cursor.execute(_HASTEN, values)
        return int(cursor.rowcount)
