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
    target_of,
    warn_of_open_networks,
)

__all__ = [
    "MAX_URL_LENGTH",
    "EgressDenied",
    "GuardResolver",
    "Home",
    "Origin",
    "PolicyBlocked",
    "RequestTarget",
    "address_allowed",
    "address_rule",
    "check_url",
    "guarded_socket",
    "origin_of",
    "target_of",
    "warn_of_open_networks",
]
