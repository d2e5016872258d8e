"""Which URLs, and which final addresses, may this service dial?

Every URL that a client gives us (callbacks, input media) is checked twice by the same rules: as
text by ``check_url`` when it is submitted and before each attempt, and as an address by
``GuardResolver`` and ``guarded_socket`` when the connection is made. Only the second check is the
security boundary; the first gives an early error with a reason.

The address tables are explicit. ``ipaddress.is_private`` and ``is_global`` change between patch
releases of Python and miss NAT64, 6to4, multicast and some cloud metadata addresses.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from webhooks_app.conf import Network, WebhookSettings, webhook_settings
from webhooks_app.egress.grammar import (
    EgressDenied,
    Origin,
    RequestTarget,
    parse_url,
    parse_within,
)
from webhooks_app.egress.resolver import AbstractResolver, ResolveResult, ThreadResolver
from webhooks_app.log import get_logger
from webhooks_app.notation import DEFAULT_PORTS
from webhooks_app.retry import ErrorCode

logger = get_logger(__name__)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Networks = tuple[Network, ...]


class PolicyBlocked(OSError):
    """The final address of a connection is denied. An OSError, since aiohttp wraps only these."""


# -- 1. Addresses ---------------------------------------------------------------------------------

_DENIED = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",  # "this network"; Linux connects 0.0.0.0 to itself
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local, cloud metadata
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",
        "168.63.129.16/32",  # Azure's host agent, in a public range
        "2001::/23",  # Teredo, ORCHID, benchmarking
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "3fff::/20",
    )
)
# IPv6: only global unicast is allowed, which excludes mapped, compatible, NAT64, unique local,
# link-local and multicast addresses without listing them.
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# Cloud metadata services hand out the machine's credentials: an allowed network that merely
# contains one of these addresses does not allow it; only its exact address does.
_METADATA: frozenset[Address] = frozenset(
    ipaddress.ip_address(text)
    for text in (
        *("169.254.169.254", "169.254.170.2", "168.63.129.16", "100.100.100.200", "192.0.0.192"),
        *("fd00:ec2::254", "fd20:ce::254"),
    )
)


def address_allowed(ip: str | Address) -> bool:
    """Say whether a final socket address may be dialled; text that cannot be parsed may not."""
    return _judge(ip, webhook_settings.DENY_NETWORKS, webhook_settings.ALLOW_NETWORKS)


@lru_cache(maxsize=4096)  # 15 us without the cache
def _judge(ip: str | Address, denied: Networks, allowed: Networks) -> bool:
    if isinstance(ip, str):
        try:
            ip = ipaddress.ip_address(ip)
        except ValueError:
            return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.scope_id is not None:
        return False
    if _inside(ip, denied):
        return False
    is_public = not _inside(ip, _DENIED) and (ip.version == 4 or ip in _GLOBAL_V6)
    return is_public or _is_allow_listed(ip, allowed)


def operators_own(ip: str) -> bool:
    """Allow any address: of a host that the configuration names itself, such as a proxy."""
    return True


def resolved_allowed(ip: str, allowed: Callable[[str], bool]) -> bool:
    """Check an address that a resolver gave; ``allowed`` is the rule for literal addresses.

    In a network without IPv4 the resolver gives 64:ff9b::/96 addresses for receivers that have only
    IPv4 (RFC 6052): such an address is as safe as the IPv4 address inside. In a URL it is refused.
    """
    try:
        address = ipaddress.IPv6Address(ip)
    except ValueError:
        return allowed(ip)
    # `in` is also True for an address with a zone; those are never dialled.
    is_nat64 = address in _NAT64 and address.scope_id is None
    if is_nat64 and not _inside(address, webhook_settings.DENY_NETWORKS):
        return allowed(str(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)))
    return allowed(ip)


def address_rule(origin: Origin, allowed: Callable[[str], bool]) -> Callable[[str], bool]:
    """Return the check for an origin's final addresses: stricter for a literal than for a name."""
    return allowed if origin.is_address else partial(resolved_allowed, allowed=allowed)


def _is_allow_listed(ip: Address, allowed: Networks) -> bool:
    if ip in _METADATA:
        return any(net.prefixlen == net.max_prefixlen and ip in net for net in allowed)
    return _inside(ip, allowed)


def _inside(ip: Address, networks: Sequence[Network]) -> bool:
    # `in` is False across IP versions: an IPv4 network never covers an IPv4-mapped address.
    return any(ip in network for network in networks)


def warn_of_open_networks() -> None:
    """Log which non-public networks are allowed; call it when a process that dials starts."""
    if webhook_settings.ALLOW_NETWORKS:
        networks = ", ".join(str(network) for network in webhook_settings.ALLOW_NETWORKS)
        logger.warning("Webhooks may go to addresses that are not public", networks=networks)


@dataclass(frozen=True, slots=True)
class Home:
    """The one origin that an operator's own client may call, and the networks it may lie in.

    A ``Transport`` with a home dials nothing else, so a rule relaxed for a provider on a private
    network is not relaxed for any other URL. With ``networks`` the final address must lie in one
    of them, and plain http and any port are allowed; without, the origin is checked like any other.
    """

    origin: Origin
    networks: Networks = ()

    def admits(self, ip: str) -> bool:
        """Say whether the origin may be dialled at this final address."""
        if not self.networks:
            return address_allowed(ip)
        is_parsed = _judge(ip, webhook_settings.DENY_NETWORKS, self.networks)
        return is_parsed and _is_allow_listed(ipaddress.ip_address(ip), self.networks)


# -- 2. URLs --------------------------------------------------------------------------------------

_REFUSED_SUFFIXES = frozenset(
    {"localhost", "local", "internal", "intranet", "private", "corp", "home", "lan"}
    | {"localdomain", "arpa", "test", "invalid", "example", "onion", "alt"}  # arpa: home.arpa too
)
# From 1024 up: the bad ports of the Fetch standard, and the usual ports of databases, caches,
# brokers and cluster control planes.
_REFUSED_PORTS = frozenset(
    # Fetch
    {1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668}
    | {6669, 6679, 6697, 10080}
    # Data stores and brokers
    | {1433, 1521, 2181, 2375, 2376, 2377, 2379, 2380, 3306, 4369, 5432, 5433, 5671, 5672, 5984}
    | {6379, 6380, 7000, 7001, 7199, 8086, 9042, 9092, 9160, 9200, 9300, 11211, 15672, 16379}
    | {26379, 27017, 27018, 27019, 28015, 50000, 61616}
    # Kubernetes
    | {6443, 10250, 10255, 10256}
)


def check_url(url: str) -> None:
    """Check a URL against the grammar and the policy in force.

    Raises:
        EgressDenied: with ``code`` ``invalid_url`` (the text itself) or ``blocked_address``
            (scheme, port, name or literal address that the policy refuses).
    """
    target_of(url)


def target_of(url: str, home: Home | None = None) -> RequestTarget:
    """Return the checked URL in the form that the HTTP client takes; raises as ``check_url``.

    ``home``: refuse any other origin, and check this one against its own networks.
    """
    if not isinstance(url, str):
        raise EgressDenied(ErrorCode.INVALID_URL, "a URL is text")
    target = (parse_within(home.origin, url) if home is not None else None) or parse_url(url)
    refusal = ""
    if home is not None and target.origin != home.origin:
        refusal = "another origin than the configured one"
    elif home is None or not home.networks:
        refusal = _refusal(target.origin, webhook_settings.current)
    if refusal:
        raise EgressDenied(ErrorCode.BLOCKED_ADDRESS, refusal)
    return target


@lru_cache(maxsize=4096)  # called for every attempt
def _refusal(origin: Origin, settings: WebhookSettings) -> str:
    """Return why an origin may not be called under these settings, "" when it may."""
    if settings.REQUIRE_HTTPS and origin.scheme != "https":
        return "only https URLs are allowed here"
    is_listed_host = origin.host in settings.ALLOW_HOSTS
    is_low_port = origin.port < 1024 and origin.port not in DEFAULT_PORTS.values()
    if (is_low_port or origin.port in _REFUSED_PORTS) and not is_listed_host:
        return f"port {origin.port} is not allowed"
    if origin.is_address:
        is_allowed = _judge(origin.host, settings.DENY_NETWORKS, settings.ALLOW_NETWORKS)
        return "" if is_allowed else "the address is not allowed"
    last_label = origin.host.rpartition(".")[2]
    if not is_listed_host and ("." not in origin.host or last_label in _REFUSED_SUFFIXES):
        return "the host is not a public name"
    return ""


# -- 3. Connections -------------------------------------------------------------------------------


class GuardResolver(AbstractResolver):
    """Resolve names, and refuse a name if any one of its addresses is denied.

    A mixed answer must be refused here: a blocked socket only makes the client try the next
    address. Literal addresses never come here, which is why ``guarded_socket`` checks too.
    """

    def __init__(
        self,
        inner: AbstractResolver | None = None,
        allowed: Callable[[str], bool] = address_allowed,
    ) -> None:
        self._inner = inner or ThreadResolver()
        self._allowed = allowed

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of ``host``; raises OSError when none exists or one is denied."""
        answers = await self._inner.resolve(host, port, family)
        if not answers:
            raise OSError("the name has no address")
        if not all(resolved_allowed(answer["host"], self._allowed) for answer in answers):
            raise PolicyBlocked("the policy denies an address of this name")
        return answers

    async def close(self) -> None:
        """Close the wrapped resolver."""
        await self._inner.close()


def guarded_socket(
    info: tuple[Any, ...], allowed: Callable[[str], bool] = address_allowed
) -> socket.socket:
    """Make the socket for one final address (an ``AddrInfoType``); raises PolicyBlocked."""
    family, kind, proto, _, sockaddr = info
    if not allowed(sockaddr[0]):
        raise PolicyBlocked("the policy denies this address")
    return socket.socket(family, kind, proto)
