"""How are subscriptions made, changed, pinged and deleted?

An endpoint gets every event of its project, filtered by type, signed with a secret of its own.
`outbox.publish` reads the endpoints; this module writes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError, connection, transaction

from webhooks_app import outbox
from webhooks_app.egress import check_url
from webhooks_app.models import WebhookEndpoint, WebhookMessage
from webhooks_app.operators import record
from webhooks_app.operators.credentials import check_usable
from webhooks_app.operators.ping import send_ping
from webhooks_app.retry import resolve_policy
from webhooks_app.shown import safe_url
from webhooks_app.signing import store

#: A limit, since every event is written once per endpoint.
MAX_PER_SCOPE = 50
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
        was_ordered = endpoint.ordered
        for name, value in changes.items():
            setattr(endpoint, name, value)
        if changes.keys() & {"url", "callback_auth"}:
            _check_auth(endpoint.scope, endpoint.callback_auth, endpoint.url)
        if endpoint.is_enabled:
            endpoint.disabled_reason = ""
        endpoint = _saved(endpoint, is_new=False)
        if was_ordered and not endpoint.ordered and outbox.let_go(endpoint):
            outbox.wake()
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
        for fault in outbox.filters.faults(fields["filter"]):
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
    return f"{safe_url(endpoint.url)} of {endpoint.scope}"
