"""Which settings does the webhook app have, and what do they mean?

A project sets one dict, ``WEBHOOKS``, in its Django settings. Every key, its unit and its default
are defined here and nowhere else. An unknown key is refused at the first read: a misspelt key that
is silently ignored shows up as a lost webhook months later.

``webhook_settings.TIMEOUT_SECONDS`` (upper case, as in the dict) is always the current value:
``override_settings(WEBHOOKS={...})`` takes effect at once. Of the modules without I/O this is the
only one that reads Django's settings.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, cast

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

DAY = 86_400.0

STANDARD_POLICIES: Mapping[str, Any] = {
    # Three retries, exactly 1, 2 and 4 s after the end of the attempt before.
    "standard": [1, 2, 4],
    # About two days and four hours; the jitter spreads messages that failed at the same time.
    "durable": {
        "waits": [5, 30, 120, 600, 3_600, 10_800, 28_800, 57_600, 86_400],
        "jitter": 0.2,
    },
}


class Rate(NamedTuple):
    """So many in so many seconds."""

    limit: int
    seconds: float


STANDARD_ALERT = Rate(20, 600.0)


@dataclass(frozen=True, eq=False)  # compared and hashed by identity, so usable as a cache key
class WebhookSettings:
    """The values of ``settings.WEBHOOKS``, checked and with defaults filled in."""

    # Where the delivery engine runs: "worker" (in every Dramatiq worker process) or "dedicated"
    # (only in `manage.py deliver_webhooks`).
    ENGINE: str = "worker"
    # Time-out of one request in seconds: DNS, connect, TLS and headers together.
    TIMEOUT_SECONDS: float = 30.0
    # A connection older than this, in seconds, carries no further request, so that changes of DNS
    # and of the egress policy take effect. 0 opens a new connection for every request.
    CONNECTION_MAX_AGE_SECONDS: float = 60.0
    # The answers that count as delivered. Everything else is a failed attempt.
    SUCCESS_STATUSES: frozenset[int] = frozenset({200, 201, 202, 204})
    # The policy of a message that names none: a key of POLICIES, or a list of waits in seconds.
    RETRY_POLICY: str | tuple[float, ...] = "standard"
    # name -> list of waits in seconds, or {"waits": [...], "jitter": 0..1}. What a project gives
    # is added to the two built-in policies; the same name replaces one.
    POLICIES: Mapping[str, Any] = field(default_factory=lambda: dict(STANDARD_POLICIES))
    # Requests in flight in one engine, over all destinations; one project gets at most three
    # quarters of them.
    MAX_IN_FLIGHT: int = 512
    # Requests in flight to one destination: at first, and at most once it has proved fast.
    DESTINATION_START_WINDOW: int = 4
    DESTINATION_MAX_WINDOW: int = 20
    # Distinct messages that must fail in a row before the destination's breaker opens.
    BREAKER_THRESHOLD: int = 10
    # How long an open breaker lets nothing through, in seconds; each failed probe doubles it, up
    # to the second value.
    BREAKER_COOLDOWN_SECONDS: float = 30.0
    BREAKER_COOLDOWN_MAX_SECONDS: float = 300.0
    # True refuses http:// URLs.
    REQUIRE_HTTPS: bool = True
    # Networks (CIDR) that may be dialled although the built-in table denies them. Checked against
    # the final address. Metadata addresses are allowed only by a /32 or /128 of their own.
    ALLOW_NETWORKS: tuple[Network, ...] = ()
    # Networks that may never be dialled (own public addresses, peers). Overrides ALLOW_NETWORKS.
    DENY_NETWORKS: tuple[Network, ...] = ()
    # Host names or IP literals, as written in URLs, exempt from the port, single-label and suffix
    # rules. The address behind a name is still checked.
    ALLOW_HOSTS: frozenset[str] = frozenset()
    # The forward proxy of all webhooks: http://[user:password@]host:port or socks5://...; empty:
    # none. Its own address is not judged. The environment's HTTP_PROXY means nothing here.
    PROXY: str = field(default="", repr=False)
    # True: the proxy gets host names and judges the addresses behind them. False: names are
    # resolved and judged here, and the proxy gets the judged address.
    PROXY_GUARDS: bool = False
    # Days that finished messages and their deliveries are kept.
    RETENTION_DAYS: int = 30
    # Dotted names of DRF authentication classes of the webhook API, which set ``request.auth`` to
    # an `api.access.Access`; empty: the project's DEFAULT_AUTHENTICATION_CLASSES.
    AUTHENTICATION_CLASSES: tuple[str, ...] = ()
    # The base of absolute links in answers; empty: as the request came in.
    BASE_URL: str = ""
    # The name of the admin page of an event's subject, for links from a message; empty: no links.
    SUBJECT_ADMIN: str = ""
    # True if every subject is a UUID: filters and searches then refuse other texts.
    SUBJECT_IS_UUID: bool = False
    USER_AGENT: str = "Django-Webhooks"
    # Bytes of a response body that are read and kept.
    RESPONSE_BODY_LIMIT: int = 65_536
    # The event types an endpoint may subscribe to; empty: any dotted name.
    EVENT_TYPES: tuple[str, ...] = ()
    # Actions that the project itself puts on the operators' record, as dotted words.
    OPERATOR_ACTIONS: tuple[str, ...] = ()
    # Added to TIMEOUT_SECONDS for the lease of a message, in seconds. Must be more than the 2 that
    # have to be left when a request starts, or no request would ever start.
    LEASE_MARGIN_SECONDS: float = 15.0
    # Fernet keys that encrypt signing secrets at rest, newest first.
    SECRET_KEYS: tuple[str, ...] = ()
    # The longest wait for its message that a receiver can ask for by Retry-After, in seconds.
    RETRY_AFTER_MAX: float = DAY
    # The longest time that one Retry-After holds the whole destination, in seconds.
    HOLD_MAX_SECONDS: float = 60.0
    # The longest a message waits behind an open breaker or a pause, in seconds; then it is dead.
    MESSAGE_MAX_WAIT: float = DAY
    # So many dead letters in so long (20/10m; s, m, h) and who subscribed to
    # webhooks.dead_letter_rate is told; None: never.
    DEAD_LETTER_ALERT: Rate | None = STANDARD_ALERT
    # "whsk_..."; when set, every request also carries a v1a (Ed25519) signature.
    ED25519_PRIVATE_KEY: str = ""
    # "whpk_...": more public keys to publish: the next and the previous one of a rotation.
    ED25519_PUBLIC_KEYS: tuple[str, ...] = ()

    @property
    def current(self) -> WebhookSettings:
        """These values as one object; replaced by a new one when they change."""
        return self

    @property
    def lease_seconds(self) -> float:
        """The lease of a claimed message, in seconds."""
        return self.TIMEOUT_SECONDS + self.LEASE_MARGIN_SECONDS


_TYPES = {spec.name: str(spec.type) for spec in fields(WebhookSettings)}


def _items(value: Any) -> Sequence[Any]:
    if isinstance(value, str):
        return value.replace(",", " ").split()
    if isinstance(value, Sequence | set | frozenset):
        return list(value)
    raise ValueError(f"must be a list, not {type(value).__name__}")


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(str(item) for item in _items(value))


def _networks(value: Any) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text.strip()) for text in _texts(value))


def _allowed_networks(value: Any) -> tuple[Network, ...]:
    networks = _networks(value)
    for network in networks:
        if network.prefixlen == 0 and not settings.DEBUG:
            raise ValueError(
                f"{network} would switch the egress policy off; "
                "list the networks that receivers live in"
            )
    return networks


def _one_of(*choices: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}, not {value!r}")
        return str(value)

    return check


def _number(least: float, kind: Any = int | float) -> Callable[[Any], float]:
    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, kind) or value < least:
            name = "a whole number" if kind is int else "a number"
            raise ValueError(f"must be {name} of at least {least:g}, not {value!r}")
        return cast(float, value)

    return check


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"must be True or False, not {value!r}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError("must be one line of text")
    return value


def read_policy(value: Any) -> str | tuple[float, ...]:
    """Return a policy's name, or its waits, which may be text such as ``1,2,4`` or ``[]``.

    Raises:
        ValueError: it is neither. An unknown name is refused later, by `retry.resolve_policy`.
    """
    if isinstance(value, str):
        if not value.startswith(tuple("[0123456789")):
            return _text(value)
        value = value.strip("[]").replace(",", " ").split()
    try:
        return tuple(float(wait) for wait in value)
    except (TypeError, ValueError):
        raise ValueError(f"a policy is a name or waits such as 1,2,4, not {value!r}") from None


_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def _rate(value: Any) -> Rate | None:
    if value in (None, "", "off"):
        return None
    match = re.fullmatch(r"([1-9]\d{0,5})/([1-9]\d{0,5})([smh])", str(value))
    if match is None:
        raise ValueError(f"is a count and a time such as 20/10m, or off, not {value!r}")
    return Rate(int(match[1]), int(match[2]) * _UNITS[match[3]])


def _policies(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError("must be a dict")
    return {**STANDARD_POLICIES, **value}


#: How a value is checked: by its key, else by the type of its field.
_CHECKS: Mapping[str, Callable[[Any], Any]] = {
    "ENGINE": _one_of("worker", "dedicated"),
    "TIMEOUT_SECONDS": _number(0.01),
    "SUCCESS_STATUSES": lambda value: frozenset(int(item) for item in _items(value)),
    "RETRY_POLICY": read_policy,
    "POLICIES": _policies,
    "ALLOW_NETWORKS": _allowed_networks,
    "DENY_NETWORKS": _networks,
    "ALLOW_HOSTS": lambda value: frozenset(text.lower() for text in _texts(value)),
    "RESPONSE_BODY_LIMIT": _number(0, int),
    "LEASE_MARGIN_SECONDS": _number(2.5),
    "DEAD_LETTER_ALERT": _rate,
    "bool": _flag,
    "float": _number(0),
    "int": _number(1, int),
    "str": _text,
    "tuple[str, ...]": _texts,
}


def load(given: Mapping[str, Any]) -> WebhookSettings:
    """Check a ``WEBHOOKS`` dict and fill in the defaults.

    Raises:
        ImproperlyConfigured: for an unknown key (with the nearest known one) or a bad value.
    """
    checked = {}
    for name, value in given.items():
        if name not in _TYPES:
            near = difflib.get_close_matches(str(name).upper(), _TYPES, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ImproperlyConfigured(f"WEBHOOKS has no key {name!r}{hint}")
        try:
            checked[name] = (_CHECKS.get(name) or _CHECKS[_TYPES[name]])(value)
        except (TypeError, ValueError) as error:
            raise ImproperlyConfigured(f"WEBHOOKS['{name}']: {error}") from error
    loaded = WebhookSettings(**checked)
    if isinstance(loaded.RETRY_POLICY, str) and loaded.RETRY_POLICY not in loaded.POLICIES:
        raise ImproperlyConfigured(
            f"WEBHOOKS['RETRY_POLICY'] names {loaded.RETRY_POLICY!r}, which POLICIES lacks"
        )
    return loaded


class _Current:
    """Proxy for the current ``WebhookSettings``; reads Django's settings on first use."""

    def __getattr__(self, name: str) -> Any:
        # Called only for what is not in __dict__ yet: values are copied there on first use, since
        # the engine reads several of them for every request.
        loaded = self.__dict__.get("current")
        if loaded is None:
            loaded = load(getattr(settings, "WEBHOOKS", {}))
            self.__dict__.update({key: getattr(loaded, key) for key in _TYPES}, current=loaded)
        return getattr(loaded, name)

    def _forget(self, *, setting: str, **kwargs: Any) -> None:
        if setting in ("WEBHOOKS", "DEBUG"):
            self.__dict__.clear()


_current = _Current()
setting_changed.connect(_current._forget)
# The cast gives callers the types; the object itself follows override_settings.
webhook_settings = cast(WebhookSettings, _current)
