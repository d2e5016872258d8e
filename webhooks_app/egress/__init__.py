"""May this address be dialled?"""

from webhooks_app.egress.grammar import (
    MAX_URL_LENGTH,
    EgressDenied,
    Origin,
    RequestTarget,
    origin_of,
)
from webhooks_app.egress.policy import (
    GuardResolver,
    Home,
    PolicyBlocked,
    address_allowed,
    address_rule,
    check_url,
    guarded_socket,
    operators_own,
    target_of,
    warn_of_open_networks,
)
from webhooks_app.egress.proxy import Proxy, read_proxy, webhook_proxy

__all__ = [
    "MAX_URL_LENGTH",
    "EgressDenied",
    "GuardResolver",
    "Home",
    "Origin",
    "PolicyBlocked",
    "Proxy",
    "RequestTarget",
    "address_allowed",
    "address_rule",
    "check_url",
    "guarded_socket",
    "operators_own",
    "origin_of",
    "read_proxy",
    "target_of",
    "warn_of_open_networks",
    "webhook_proxy",
]
