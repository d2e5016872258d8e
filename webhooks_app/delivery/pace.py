"""How much may be sent to one destination right now?

One ``Pacer`` per destination and engine: a pure state machine over an adaptive window, a hold
(Retry-After) and a breaker. No clock, no database: times are arguments, in seconds of any
monotonic clock. Its state is not stored: after a restart it is learned again.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from enum import StrEnum

from webhooks_app.conf import webhook_settings
from webhooks_app.models import BreakerState
from webhooks_app.retry import AttemptResult, ErrorCode

FAST_MS = 1_000.0
_OVERLOAD_STATUSES = frozenset({429, 503})
_NOT_ITS_DOING = frozenset({ErrorCode.BLOCKED_ADDRESS, ErrorCode.INVALID_URL, ErrorCode.PROXY})


class ResultKind(StrEnum):
    """What the end of a request says about its destination."""

    FAST = "fast"  # answered quickly: the window may grow
    SLOW = "slow"  # answered, but late: the window stays
    OVERLOADED = "overloaded"  # 429, 503, time-out: the window shrinks
    FAILED = "failed"  # any other failure
    NEUTRAL = "neutral"  # says nothing about the destination (interrupted, policy, proxy)


@dataclass(frozen=True, slots=True)
class PacerLimits:
    """The limits of one pacer; defaults come from the settings."""

    start_window: int
    max_window: int
    breaker_threshold: int
    cooldown_seconds: float
    cooldown_max_seconds: float
    hold_max_seconds: float

    @classmethod
    def from_settings(cls, max_in_flight: int | None = None) -> PacerLimits:
        """Return the settings' limits; ``max_in_flight``: the operator's for a destination."""
        most = max_in_flight or webhook_settings.DESTINATION_MAX_WINDOW
        return cls(
            start_window=min(webhook_settings.DESTINATION_START_WINDOW, most),
            max_window=most,
            breaker_threshold=webhook_settings.BREAKER_THRESHOLD,
            cooldown_seconds=webhook_settings.BREAKER_COOLDOWN_SECONDS,
            cooldown_max_seconds=webhook_settings.BREAKER_COOLDOWN_MAX_SECONDS,
            hold_max_seconds=webhook_settings.HOLD_MAX_SECONDS,
        )


def result_kind(result: AttemptResult) -> ResultKind:
    """Return what an attempt's result says about its destination."""
    if not result.error_code:
        return ResultKind.FAST if result.duration_ms <= FAST_MS else ResultKind.SLOW
    if result.error_code in _NOT_ITS_DOING:
        return ResultKind.NEUTRAL
    if result.error_code == ErrorCode.TIMEOUT or result.status in _OVERLOAD_STATUSES:
        return ResultKind.OVERLOADED
    return ResultKind.FAILED


class Pacer:
    """The pace of one destination. ``seats(now)`` is how many more requests may start."""

    def __init__(self, limits: PacerLimits | None = None) -> None:
        self._limits = limits or PacerLimits.from_settings()
        self._window = float(self._limits.start_window)
        # message -> the ordinal of its request, to tell old requests from new ones
        self._in_flight: dict[str, int] = {}
        self._starts = 0
        self._halved_at_start = 0
        # Distinct messages that failed since the last success, oldest first.
        self._failing: OrderedDict[str, None] = OrderedDict()
        self._opened_until: float | None = None
        self._cooldown = self._limits.cooldown_seconds
        self._probe: str | None = None
        self._held_until: float | None = None
        self._proxy_faults = 0
        self._looked_at = 0.0

    @property
    def in_flight(self) -> int:
        """Requests that have started and not ended."""
        return len(self._in_flight)

    @property
    def window(self) -> int:
        """How many requests may be in flight while the breaker is closed."""
        return int(self._window)

    @property
    def failing(self) -> int:
        """How many distinct messages failed since the last success, up to the threshold."""
        return len(self._failing)

    @property
    def is_idle(self) -> bool:
        """Whether this pacer is in the state of a new one, so that it may be dropped."""
        held = self._held_until or self._proxy_faults
        return not (self._in_flight or self._failing or self._opened_until or held)

    def set_limits(self, limits: PacerLimits) -> None:
        """Replace the limits, for example after an operator set ``max_in_flight``."""
        self._limits = limits
        self._window = min(self._window, float(limits.max_window))

    @property
    def held_until(self) -> float | None:
        """Time until which nothing may start (hold or open breaker); None when there is none.

        As of the last time that was passed in.
        """
        times = [t for t in (self._held_until, self._opened_until) if t and t > self._looked_at]
        return max(times, default=None)

    @property
    def state(self) -> BreakerState:
        """The breaker's state, as of the last time that was passed in."""
        if self._opened_until is None:
            return BreakerState.CLOSED
        is_cooling = self._looked_at < self._opened_until
        return BreakerState.OPEN if is_cooling else BreakerState.HALF_OPEN

    def seats(self, now: float) -> int:
        """Return how many requests may start now."""
        self._looked_at = now
        if self.held_until is not None:
            return 0
        if self._opened_until is not None:
            return 0 if self._probe is not None else 1
        # After faults of the forward proxy one request shows whether it works again.
        window = 1 if self._proxy_faults else int(self._window)
        return max(0, window - len(self._in_flight))

    def started(self, message_id: str) -> None:
        """Count a started request. The caller must have asked ``seats`` before."""
        self._starts += 1
        self._in_flight[message_id] = self._starts
        if self._opened_until is not None:
            self._probe = message_id

    def finished(self, message_id: str, kind: ResultKind, now: float) -> None:
        """Update window and breaker after a request ended."""
        self._looked_at = now
        ordinal = self._in_flight.pop(message_id, self._starts)
        is_probe = self._probe == message_id
        if is_probe:
            self._probe = None
        if kind is ResultKind.NEUTRAL:
            return
        self._proxy_faults = 0
        if kind in (ResultKind.FAST, ResultKind.SLOW):
            self._close()
            if kind is ResultKind.FAST:
                # Additive increase: one seat more after as many fast answers as the window is wide.
                most = float(self._limits.max_window)
                self._window = min(self._window + 1 / self._window, most)
        else:
            # Halve once per burst: requests started before the last halving add no information.
            if kind is ResultKind.OVERLOADED and ordinal > self._halved_at_start:
                self._window = max(1.0, self._window / 2)
                self._halved_at_start = self._starts
            self._fail(message_id, now, is_probe=is_probe)

    def hold(self, seconds: float, now: float) -> float:
        """Let nothing start for ``seconds`` (Retry-After, capped) and return until when."""
        self._looked_at = now
        until = now + min(seconds, self._limits.hold_max_seconds)
        self._held_until = max(until, self._held_until or until)
        return self._held_until

    def proxy_failed(self, now: float) -> int:
        """Count a fault of the forward proxy, and return how many came in a row.

        The caller holds the destination after each; those that end during such a hold count as
        one, since their requests started before it.
        """
        if not self._proxy_faults or now >= (self._held_until or now):
            self._proxy_faults += 1
        return self._proxy_faults

    def resume(self) -> None:
        """End hold and breaker, as an operator asked."""
        self._held_until, self._proxy_faults = None, 0
        self._close()

    def _close(self) -> None:
        self._failing.clear()
        self._opened_until = None
        self._cooldown = self._limits.cooldown_seconds

    def _fail(self, message_id: str, now: float, *, is_probe: bool) -> None:
        # A message counts once however often it is retried.
        self._failing[message_id] = None
        if is_probe:
            self._cooldown = min(2 * self._cooldown, self._limits.cooldown_max_seconds)
            self._opened_until = now + self._cooldown
        elif self._opened_until is None and len(self._failing) >= self._limits.breaker_threshold:
            self._opened_until = now + self._cooldown
            self._window = float(self._limits.start_window)
        while len(self._failing) > self._limits.breaker_threshold:
            self._failing.popitem(last=False)
