"""Which endpoints want an event? By its type, then by its body.

A filter that cannot be used, which only a row changed by hand can have, lets everything through:
an event too many is seen, a missing one is not. It is never a reason to fail what happened.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from webhooks_app.log import get_logger
from webhooks_app.models import WebhookEndpoint, is_wanted
from webhooks_app.outbox import filters

logger = get_logger(__name__)

_ENDPOINTS = """
SELECT * FROM webhooks_app_webhookendpoint WHERE scope = %s AND is_enabled ORDER BY id
"""
# FOR KEY SHARE: a concurrent DELETE of the endpoint waits until this message exists, and we wait
# for a DELETE that came first; other publishers do not wait, unlike with select_for_update.
_HOLD = "FOR KEY SHARE"


def held_endpoints(scope: str) -> list[WebhookEndpoint]:
    """Return the enabled endpoints of a project, which stay until the transaction ends."""
    return list(WebhookEndpoint.objects.raw(_ENDPOINTS + _HOLD, [scope]))


def has_subscriber(scope: str, event_type: str) -> bool:
    """Say whether an endpoint of the scope may want an event of this type.

    Its filter is not asked, since there is no body yet.
    """
    endpoints = WebhookEndpoint.objects.raw(_ENDPOINTS, [scope])
    return any(is_type_wanted(endpoint, event_type) for endpoint in endpoints)


def is_type_wanted(endpoint: WebhookEndpoint, event_type: str) -> bool:
    """Say whether the endpoint's list has this type; an empty one stands for no meta event."""
    return is_wanted(endpoint.event_types, event_type)


def subscribers(
    endpoints: Sequence[WebhookEndpoint], event_type: str, body: bytes
) -> list[WebhookEndpoint]:
    """Return those of the endpoints that want this event; parses the body at most once."""
    document = cache(lambda: filters.read(body))
    return [
        endpoint
        for endpoint in endpoints
        if is_type_wanted(endpoint, event_type)
        and (
            endpoint.filter is None
            or not _is_usable(endpoint)
            or filters.matches(endpoint.filter, document())
        )
    ]


def _is_usable(endpoint: WebhookEndpoint) -> bool:
    if found := filters.faults(endpoint.filter):
        logger.error(
            "An endpoint's filter is unusable, so everything is sent",
            endpoint_id=str(endpoint.pk),
            error=f"{found[0].pointer} {found[0].message}".strip(),
        )
    return not found
