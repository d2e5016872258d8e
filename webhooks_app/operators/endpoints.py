"""How are subscriptions made, changed, tried, pinged and deleted?

An endpoint gets every event of its project, filtered by type, signed with a secret of its own.
`outbox.publish` reads the endpoints; this module writes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import IntegrityError, connection, transaction

from webhooks_app import news, outbox
from webhooks_app.egress import check_url
from webhooks_app.models import SigningSecret, WebhookEndpoint, WebhookEvent, WebhookMessage
from webhooks_app.operators import record
from webhooks_app.operators.credentials import check_usable
from webhooks_app.operators.ping import send_ping
from webhooks_app.outbox import filters, is_type_wanted
from webhooks_app.retry import resolve_policy
from webhooks_app.shown import safe_url
from webhooks_app.signing import store

#: A limit, since every event is written once per endpoint.
MAX_PER_SCOPE = 50
#: The most events of one subject that are judged: the newest.
MOST_EVENTS = 50
LONGEST_SHOWN = 200
_CHANGEABLE = frozenset(
    {
        *("url", "event_types", "description", "retry_policy", "callback_auth"),
        *("filter", "ordered", "is_enabled", "disabled_reason"),
    }
)


class EndpointRefused(Exception):
    """An endpoint cannot be made or changed this way. ``code`` is documented for clients."""

    code = "refused"


class EndpointExists(EndpointRefused):
    """The project has an endpoint with this URL already."""

    code = "endpoint_exists"


class TooManyEndpoints(EndpointRefused):
    """The project has reached its limit of endpoints."""

    code = "too_many_endpoints"


def create(scope: str, url: str, *, actor: str, **fields: Any) -> WebhookEndpoint:
    """Subscribe a URL to the events of a project, with a signing secret of its own.

    Args:
        fields: ``event_types`` (empty: all), ``description``, ``retry_policy``,
            ``callback_auth`` (a credential's name), ``filter`` (see `filters`), ``ordered``,
            ``is_enabled``.

    Raises:
        EgressDenied: the URL may not be called.
        EndpointExists: the project has an endpoint with this URL.
        TooManyEndpoints: the project has reached its limit.
        NotBound: the credential is unknown, or bound to other origins.
        ValueError: the retry policy or the filter is invalid.
    """
    _check(url=url, **fields)
    with transaction.atomic():
        _lock(scope)
        if WebhookEndpoint.objects.filter(scope=scope).count() >= MAX_PER_SCOPE:
            raise TooManyEndpoints(f"a project may have {MAX_PER_SCOPE} endpoints")
        _check_auth(scope, fields.get("callback_auth", ""), url)
        endpoint = _saved(WebhookEndpoint(scope=scope, url=url, **fields), is_new=True)
        store.get_or_create(scope, endpoint.pk)
        record.note(actor, "endpoint.create", _name(endpoint), scope=scope)
    return endpoint


def update(
    endpoint: WebhookEndpoint, changes: Mapping[str, Any], *, actor: str, reason: str = ""
) -> WebhookEndpoint:
    """Change an endpoint; messages that exist already keep their URL and policy.

    Raises:
        EgressDenied, EndpointExists, NotBound, ValueError: as for `create`.
        WebhookEndpoint.DoesNotExist: it was deleted meanwhile (also in the functions below).
    """
    if unknown := set(changes) - _CHANGEABLE:
        raise ValueError(f"an endpoint has no {', '.join(sorted(unknown))} to change")
    _check(**changes)
    with transaction.atomic():
        endpoint = _held(endpoint)
        was_ordered, was_enabled = endpoint.ordered, endpoint.is_enabled
        for name, value in changes.items():
            setattr(endpoint, name, value)
        if changes.keys() & {"url", "callback_auth"}:
            _check_auth(endpoint.scope, endpoint.callback_auth, endpoint.url)
        if endpoint.is_enabled:
            endpoint.disabled_reason = ""
        endpoint = _saved(endpoint, is_new=False)
        if was_ordered and not endpoint.ordered and outbox.let_go(endpoint):
            outbox.wake()
        if endpoint.is_enabled != was_enabled:
            news.tell_of_endpoint(endpoint, "asked")
        what = ", ".join(sorted(changes))
        record.note(
            actor, "endpoint.update", f"{_name(endpoint)}: {what}", reason, scope=endpoint.scope
        )
    return endpoint


def delete(endpoint: WebhookEndpoint, *, actor: str) -> None:
    """Delete a subscription and end what is pending for it; the history stays without the link.

    An attempt in flight closes its own row, and then finds its message cancelled.
    """
    with transaction.atomic():
        WebhookEndpoint.objects.select_for_update().get(pk=endpoint.pk)
        outbox.call_off(WebhookMessage.objects.filter(endpoint=endpoint))
        record.note(actor, "endpoint.delete", _name(endpoint), scope=endpoint.scope)
        endpoint.delete()


def ping(endpoint: WebhookEndpoint, *, actor: str, reason: str = "") -> WebhookMessage:
    """Send a test event to one endpoint, on the same path as every other message.

    Also to a disabled one, so that a repaired receiver can be tested before it is enabled.
    """
    target = outbox.Target(endpoint.url, endpoint.retry_policy, endpoint, endpoint.callback_auth)
    with transaction.atomic():
        _held(endpoint)
        message = send_ping(endpoint.scope, target, endpoint_id=str(endpoint.pk))
        record.note(actor, "endpoint.ping", _name(endpoint), reason, scope=endpoint.scope)
    return message


def _held(endpoint: WebhookEndpoint) -> WebhookEndpoint:
    """Return the endpoint, locked against changes and deletion in this transaction."""
    return WebhookEndpoint.objects.select_for_update(no_key=True).get(pk=endpoint.pk)


def _check(url: str | None = None, retry_policy: Any = None, **fields: Any) -> None:
    if url is not None:
        check_url(url)
    if retry_policy is not None:
        resolve_policy(retry_policy)
    if fields.get("filter") is not None:
        for fault in filters.faults(fields["filter"]):
            raise ValueError(f"the filter is not valid at {fault.pointer or '/'}: {fault.message}")


def _check_auth(scope: str, name: str, url: str) -> None:
    if name:
        check_usable(scope, name, url)


def _saved(endpoint: WebhookEndpoint, *, is_new: bool) -> WebhookEndpoint:
    try:
        with transaction.atomic():
            endpoint.save(force_insert=is_new)
    except IntegrityError:
        raise EndpointExists("this project has an endpoint with that URL already") from None
    return endpoint


def _lock(scope: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"webhook endpoints {scope}"]
        )


def _name(endpoint: WebhookEndpoint) -> str:
    return f"{safe_url(endpoint.url)} of {endpoint.scope or 'the installation'}"


# -- dry runs -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DryRun:
    """What would become of one event at an endpoint; ``reason`` is a sentence."""

    event_id: str | None
    event_type: str | None
    would_send: bool
    reason: str
    conditions: Sequence[filters.Looked] = ()


def events_of(scope: str, *, event_id: str = "", subject: str = "") -> list[WebhookEvent]:
    """Return the events of a project that an id or a subject names, oldest first."""
    named = {"event_id": event_id} if event_id else {"subject": subject}
    found = WebhookEvent.objects.filter(scope=scope, **named).order_by("-sequence")
    return list(found[:MOST_EVENTS])[::-1]


def judge(
    endpoint: WebhookEndpoint,
    given: Any,
    *,
    body: bytes,
    event_type: str | None = None,
    event_id: str | None = None,
) -> DryRun:
    """Say whether the endpoint would be sent an event, were ``given`` its filter (None: none).

    Nothing is written and nothing sent.

    Args:
        event_type: None leaves the types open.
    """

    def verdict(would_send: bool, reason: str, looked: Sequence[filters.Looked] = ()) -> DryRun:
        return DryRun(event_id, event_type, would_send, reason, looked)

    found = [] if given is None else filters.faults(given)
    looked = filters.explain(given, filters.read(body)) if given is not None and not found else []
    if not endpoint.is_enabled:
        return verdict(False, "Not sent: the endpoint is disabled.", looked)
    if event_type is not None and not is_type_wanted(endpoint, event_type):
        wanted = ", ".join(endpoint.event_types)
        return verdict(False, f"Not sent: the endpoint wants only {wanted}.", looked)
    if given is None:
        return verdict(True, "Sent: the endpoint has no filter.")
    if found:
        what = f"{found[0].pointer or '/'}: {found[0].message}"
        return verdict(True, f"Sent, since its filter cannot be used. {what}")
    is_wanted = filters.matches(given, filters.read(body))
    told = "; ".join(_told(each) for each in looked if each.decided)
    return verdict(is_wanted, f"{'Sent' if is_wanted else 'Not sent'}: {told}.", looked)


def is_known(scope: str) -> bool:
    """Tell whether a project has a secret, an endpoint or an event."""
    rows = (SigningSecret.objects, WebhookEndpoint.objects, WebhookEvent.objects)
    return any(found.filter(scope=scope).exists() for found in rows)


@transaction.atomic
def rotate_secret(
    scope: str,
    overlap_seconds: float,
    *,
    endpoint: WebhookEndpoint | None = None,
    actor: str,
    reason: str = "",
) -> str:
    """Make and return a new signing secret, of a project or of one endpoint.

    Args:
        overlap_seconds: how long the one before signs beside it; 0 ends all older ones at once.
    """
    secret = store.rotate(scope, overlap_seconds, endpoint.pk if endpoint else None)
    target = f"endpoint {endpoint.pk} of {scope}" if endpoint else scope
    record.note(actor, "secret.rotate", target, reason, scope=scope)
    return secret


def _told(looked: filters.Looked) -> str:
    """Return one condition and what it saw, such as ``/a is "x" (not eq "y")``."""
    seen = shown_value(looked.seen)
    is_missing = looked.seen is filters.MISSING
    text = "is missing" if is_missing else f"is {json.dumps(seen, ensure_ascii=False)}"
    value = json.dumps(looked.value, ensure_ascii=False)
    value = value if len(value) <= LONGEST_SHOWN else f"{value[:LONGEST_SHOWN]}…"
    asked = f"{looked.op} {value}"
    return f"{looked.path} {text} ({'' if looked.holds else 'not '}{asked})"


def shown_value(seen: Any) -> Any:
    """Return a value of a body as an answer may hold it: short, and what every reader can read."""
    if seen is filters.MISSING:
        return None
    if isinstance(seen, str):
        text = seen.encode("utf-8", "replace").decode()
        return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"
    if isinstance(seen, int) and abs(seen) > 2**53:
        return f"{seen}"[:LONGEST_SHOWN]
    return "{…}" if isinstance(seen, dict) else "[…]" if isinstance(seen, list) else seen
