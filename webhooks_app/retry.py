"""What does one answer mean, and when is the next attempt?

Pure: no clock, no database, no network. ``now`` and ``rng`` are arguments, so that a schedule can
be computed, printed and tested without waiting. Times are in seconds (points in time: Unix time).
The rules are those of the section "The webhook" in the receiver's guide.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple, Self

from webhooks_app.conf import webhook_settings

MAX_WAITS = 20
MAX_WAIT_SECONDS = 86_400.0
# This many interrupted attempts in a row use up one retry: a message that crashes its engine must
# not be tried for ever, but a message that met two deployments must not lose a retry.
INTERRUPTIONS_PER_FAILURE = 5

REDIRECTS = frozenset({301, 302, 303, 307, 308})
GONE = 410
_ASKS_FOR_PATIENCE = frozenset({429, 503})
#: A destination is held this long after a fault of the forward proxy, doubled by each further one.
PROXY_WAIT_SECONDS, PROXY_WAIT_MAX_SECONDS = 1.0, 60.0


class ErrorCode(StrEnum):
    """Why a message was not delivered; the empty code is success. Stored on attempts and messages.

    ``meaning``: the end of a sentence. ``is_retried``: False where another attempt is of no use.
    ``is_sent``: False where the message was given up without an attempt. ``is_charged``: False
    where it is no failure of the receiver, so that it uses up no retry.
    """

    meaning: str
    is_retried: bool
    is_sent: bool
    is_charged: bool

    def __new__(
        cls,
        code: str,
        meaning: str = "",
        is_retried: bool = True,
        is_sent: bool = True,
        is_charged: bool = True,
    ) -> Self:
        """Make a member that compares and is stored as its code."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.meaning, member.is_retried = meaning, is_retried
        member.is_sent, member.is_charged = is_sent, is_charged
        return member

    NONE = ""
    DNS = "dns", "the host name could not be resolved"
    CONNECT = "connect", "no connection could be made"
    TLS = "tls", "the TLS handshake or the certificate failed"
    TIMEOUT = "timeout", "no answer came within the time-out"
    RESET = "reset", "the connection was cut"
    PROTOCOL = "protocol", "the answer was not valid HTTP"
    HTTP_STATUS = "http_status", "the receiver's answer does not count as delivered"
    REDIRECT_REFUSED = (
        "redirect_refused",
        "the receiver answered with a redirect, which is never followed",
    )
    BLOCKED_ADDRESS = (
        "blocked_address",
        "the egress policy does not let this address be dialled",
        False,
    )
    PROXY = (
        "proxy",
        "the forward proxy made no connection, which is not the receiver's fault",
        True,
        True,
        False,
    )
    INVALID_URL = "invalid_url", "the URL is not one the egress policy accepts", False
    CREDENTIAL = (
        "credential",
        "its stored credential could not be used, so nothing was sent",
        True,
        True,
        False,
    )
    DESTINATION_DISABLED = (
        "destination_disabled",
        "an operator disabled the destination",
        False,
        False,
    )
    EXPIRED = (
        "expired",
        "it waited behind a pause, an open breaker or a failing proxy for longer than is allowed",
        False,
        False,
    )


#: All that is known of the codes: API, admin, metrics and explanations read it.
ERROR_CODES: dict[str, ErrorCode] = {code.value: code for code in ErrorCode if code}
_FINAL_CODES = frozenset(code for code in ErrorCode if not code.is_retried)
_NO_PHASES: Mapping[str, float] = {}


class AttemptResult(NamedTuple):
    """The outcome of one request to a receiver. A failed request is a value, not an exception.

    ``error_code`` is empty exactly when the status counts as delivered. ``error`` is one line of
    our own, never bytes of the receiver. ``retry_after`` is parsed, in seconds from the answer.
    ``phases`` holds ``dns_ms``, ``connect_ms`` (with TLS) and ``first_byte_ms``, as far as the
    attempt got; a reused connection has neither of the first two.
    """

    status: int | None = None
    error_code: str = ErrorCode.NONE
    error: str = ""
    response_headers: tuple[tuple[str, str], ...] = ()
    response_body: bytes = b""
    truncated: bool = False
    remote_address: str = ""
    duration_ms: float = 0.0
    phases: Mapping[str, float] = _NO_PHASES
    reconnected: bool = False
    retry_after: float | None = None


class Verdict(StrEnum):
    """What an attempt means for its message, before the retry policy is applied."""

    DELIVERED = "delivered"
    RETRY = "retry"
    FINAL = "final"


def status_error_code(status: int, success_statuses: Iterable[int]) -> ErrorCode:
    """Return the error code of an HTTP status, empty when it counts as delivered."""
    if status in success_statuses:
        return ErrorCode.NONE
    return ErrorCode.REDIRECT_REFUSED if status in REDIRECTS else ErrorCode.HTTP_STATUS


def classify(result: AttemptResult) -> Verdict:
    """Say whether the message is delivered, may be retried, or is dead at once."""
    if not result.error_code:
        return Verdict.DELIVERED
    if result.error_code in _FINAL_CODES or result.status == GONE:
        return Verdict.FINAL
    return Verdict.RETRY


@dataclass(frozen=True, slots=True)
class Policy:
    """The waits between attempts, in seconds; ``jitter`` (0..1) is the random spread of each."""

    waits: tuple[float, ...]
    jitter: float = 0.0

    def __post_init__(self) -> None:
        if len(self.waits) > MAX_WAITS:
            raise ValueError(f"a retry policy has at most {MAX_WAITS} waits")
        for wait in self.waits:
            if isinstance(wait, bool) or not isinstance(wait, int | float):
                raise ValueError(f"a wait is a number of seconds, not {wait!r:.40}")
            if not 0 <= wait <= MAX_WAIT_SECONDS:  # also refuses NaN
                raise ValueError(f"a wait is 0 to {MAX_WAIT_SECONDS:.0f} seconds, not {wait!r}")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter is 0 to 1, not {self.jitter!r}")

    def wait(self, step: int, rng: random.Random) -> float | None:
        """Return the seconds before retry number ``step + 1``, None when there is none left."""
        if step >= len(self.waits):
            return None
        wait = self.waits[step]
        return wait * rng.uniform(1 - self.jitter, 1 + self.jitter) if self.jitter else wait


@lru_cache(maxsize=1024)
def policy_of(waits: tuple[float, ...], jitter: float) -> Policy:
    """Return a message's policy; cached, since nearly all messages share a few."""
    return Policy(waits, jitter)


def resolve_policy(value: str | Sequence[float] | None) -> Policy:
    """Turn a policy's name, or a list of waits, into a policy; None and "" mean the default.

    Raises:
        ValueError: unknown name, or waits out of range; the text may be shown to a client.
    """
    if value is None or value == "":
        value = webhook_settings.RETRY_POLICY
    if not isinstance(value, str):
        return Policy(tuple(value))
    table = webhook_settings.POLICIES
    if value not in table:
        raise ValueError(f"unknown retry policy {value!r}; known: {', '.join(sorted(table))}")
    spec = table[value]
    if isinstance(spec, Mapping):
        return Policy(tuple(spec["waits"]), float(spec.get("jitter", 0.0)))
    return Policy(tuple(spec))


@dataclass(frozen=True, slots=True)
class Delivered:
    """The receiver accepted the message."""


@dataclass(frozen=True, slots=True)
class RetryAt:
    """Try again at ``at`` (``now`` + ``delay``); ``step`` is the message's new retry step.

    ``hold_seconds``: hold the whole destination for this long (Retry-After, capped).
    ``is_held_back``: the message was not sent and waits behind that hold; it stays due since when
    it was, which ends its waiting after `MESSAGE_MAX_WAIT` as behind a pause.
    """

    at: float
    delay: float
    step: int
    hold_seconds: float | None = None
    is_held_back: bool = False


@dataclass(frozen=True, slots=True)
class Dead:
    """The message is a dead letter. ``reason``: retries_exhausted, gone, or an error code."""

    reason: str
    is_endpoint_gone: bool = False
    hold_seconds: float | None = None


Decision = Delivered | RetryAt | Dead


def decide(
    result: AttemptResult,
    *,
    policy: Policy,
    step: int,
    now: float,
    rng: random.Random,
    proxy_faults: int = 1,
) -> Decision:
    """Decide what happens after an attempt: ``step`` retries came before it, ``now`` is its end.

    ``proxy_faults``: where the forward proxy failed, how often it did so in a row, with this one.
    """
    if result.error_code == ErrorCode.PROXY:
        doubled = PROXY_WAIT_SECONDS * 2 ** min(proxy_faults - 1, 10)
        wait = min(doubled, PROXY_WAIT_MAX_SECONDS)
        return RetryAt(now + wait, wait, step, hold_seconds=wait, is_held_back=True)
    verdict = classify(result)
    if verdict is Verdict.DELIVERED:
        return Delivered()
    if verdict is Verdict.FINAL:
        is_gone = result.status == GONE
        return Dead("gone" if is_gone else result.error_code, is_endpoint_gone=is_gone)
    asked = result.retry_after if result.status in _ASKS_FOR_PATIENCE else None
    hold = None if asked is None else min(asked, webhook_settings.HOLD_MAX_SECONDS)
    wait = policy.wait(step, rng)
    if wait is None:
        return Dead("retries_exhausted", hold_seconds=hold)
    # The policy's own wait is the floor: "Retry-After: 0" must not undercut it.
    delay = wait if asked is None else max(wait, min(asked, webhook_settings.RETRY_AFTER_MAX))
    return RetryAt(at=now + delay, delay=delay, step=step + 1, hold_seconds=hold)


def decide_interrupted(
    in_a_row: int, *, policy: Policy, step: int, now: float, rng: random.Random
) -> RetryAt | Dead:
    """Decide what happens after the ``in_a_row``-th attempt whose process died since one ended."""
    if in_a_row % INTERRUPTIONS_PER_FAILURE:
        return RetryAt(at=now, delay=0.0, step=step)
    wait = policy.wait(step, rng)
    if wait is None:
        return Dead("retries_exhausted")
    return RetryAt(at=now + wait, delay=wait, step=step + 1)


#: The waits of a message that could not be sent for a reason of ours: as long as it has waited
#: already, so each twice the one before, within these bounds in seconds.
UNSENT_WAITS = (5.0, 900.0)


def decide_unsent(code: str, waited: float, *, step: int, now: float) -> RetryAt | Dead:
    """Decide what happens after an attempt that could not be sent, and so uses up no retry.

    ``waited``: seconds since the first such attempt in a row. It ends with the longest wait of
    messages behind a hold.
    """
    if waited >= webhook_settings.MESSAGE_MAX_WAIT:
        return Dead(code)
    least, most = UNSENT_WAITS
    wait = min(max(least, waited), most)
    return RetryAt(at=now + wait, delay=wait, step=step)


_TWO_DIGIT_YEAR = re.compile(r"(?<=\d-[A-Za-z]{3}-)\d\d(?= )")  # RFC 850
_ASCTIME = re.compile(r"[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}")


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Return the seconds that a Retry-After header asks for, None if it cannot be used.

    RFC 9110, 10.2.3: delay-seconds (digits only) or an HTTP date in one of the three forms of
    5.6.7. A date in the past is 0.
    """
    if value is None or len(value) > 64:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    # RFC 9110: a two-digit year more than 50 years ahead belongs to the last century.
    this_year = datetime.fromtimestamp(now, UTC).year
    text = _TWO_DIGIT_YEAR.sub(lambda year: str(_full_year(int(year[0]), this_year)), text)
    try:
        date = parsedate_to_datetime(text)
        if _ASCTIME.fullmatch(text):  # this form has no zone and means UTC
            date = date.replace(tzinfo=UTC)
        seconds = date.timestamp() - now
    except (ValueError, TypeError, OverflowError, OSError):
        return None
    # Any other date without a zone would be read in this machine's zone.
    if date.tzinfo is None or not math.isfinite(seconds):
        return None
    return max(0.0, seconds)


def _full_year(two_digits: int, this_year: int) -> int:
    year = this_year - this_year % 100 + two_digits
    return year - 100 if year > this_year + 50 else year


@dataclass(frozen=True, slots=True)
class SimulatedAttempt:
    """One line of a simulated schedule."""

    attempt_number: int
    at: float
    result: AttemptResult
    decision: Decision


def simulate(
    policy: Policy, answers: Sequence[AttemptResult], start: float, rng: random.Random
) -> list[SimulatedAttempt]:
    """Return the attempts that a message would get; the last answer repeats until it ends.

    Each answer's ``duration_ms`` passes before the next wait begins.
    """
    attempts: list[SimulatedAttempt] = []
    at, step = start, 0
    while answers:
        result = answers[min(len(attempts), len(answers) - 1)]
        ended = at + result.duration_ms / 1000
        decision = decide(result, policy=policy, step=step, now=ended, rng=rng)
        attempts.append(SimulatedAttempt(len(attempts) + 1, at, result, decision))
        if not isinstance(decision, RetryAt):
            break
        at, step = decision.at, decision.step
    return attempts
