"""How much may this engine send to each destination, and what has it seen of them?

Holds one `pace.Pacer` per recently used destination. Their state is not kept over a restart; holds
that must apply to every engine are written to the destination's row.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from webhooks_app.conf import webhook_settings
from webhooks_app.delivery.pace import Pacer, PacerLimits, ResultKind, result_kind
from webhooks_app.models import FAILING, META_EVENTS, RECOVERED, BreakerState
from webhooks_app.notation import PING
from webhooks_app.outbox import Claimed
from webhooks_app.retry import AttemptResult, ErrorCode

FORGET_SECONDS = 300.0
#: How these events fare says nothing of a receiver's state: what tells of it would change it again.
_NOT_JUDGED_BY = frozenset({PING, *META_EVENTS})


class DestinationPaces:
    """The pacers of one engine, by destination id."""

    def __init__(self) -> None:
        self._pacers: dict[int, Pacer] = {}
        self._used_at: dict[int, float] = {}
        self._seen: dict[int, dict[str, Any]] = {}
        self._told_holds: dict[int, float | None] = {}

    @property
    def in_flight(self) -> int:
        """Requests under way, over all destinations."""
        return sum(pacer.in_flight for pacer in self._pacers.values())

    def seats(self) -> dict[int, int]:
        """Return the free seats by destination id, without those at the default."""
        now = time.monotonic()
        default = webhook_settings.DESTINATION_START_WINDOW
        free = {key: pacer.seats(now) for key, pacer in self._pacers.items()}
        return {key: seats for key, seats in free.items() if seats != default}

    def started(self, message: Claimed) -> None:
        """Count a request that is about to start."""
        self._pacer(message.destination_id).started(str(message.message_id))

    def finished(
        self,
        message: Claimed,
        result: AttemptResult,
        hold: float | None,
        *,
        is_dead: bool = False,
    ) -> None:
        """Update the pace after a request; ``hold``: Retry-After for the whole origin, seconds."""
        now = time.monotonic()
        pacer = self._pacer(message.destination_id)
        kind = result_kind(result)
        pacer.finished(str(message.message_id), kind, now)
        if hold:
            pacer.hold(hold, now)
        is_proxy = result.error_code == ErrorCode.PROXY
        reason = "" if not hold else "proxy" if is_proxy else "retry_after"
        seen = self._note(message.destination_id, pacer, kind, reason)
        if message.event_type not in _NOT_JUDGED_BY and not is_proxy:
            if kind in (ResultKind.FAST, ResultKind.SLOW):
                seen["news"] = (RECOVERED, "delivered")
            elif pacer.state is BreakerState.OPEN:
                seen["news"] = (FAILING, "breaker")
            elif is_dead:
                seen["news"] = (FAILING, "dead_letter")

    def proxy_faults(self, message: Claimed) -> int:
        """Count a fault of the forward proxy; return how many its destination saw in a row."""
        return self._pacer(message.destination_id).proxy_failed(time.monotonic())

    def interrupted(self, message: Claimed) -> None:
        """Count a request as ended that says nothing about its destination."""
        pacer = self._pacer(message.destination_id)
        pacer.finished(str(message.message_id), ResultKind.NEUTRAL, time.monotonic())

    def _pacer(self, destination_id: int) -> Pacer:
        self._used_at[destination_id] = time.monotonic()
        pacer = self._pacers.get(destination_id)
        if pacer is None:
            pacer = self._pacers[destination_id] = Pacer()
        return pacer

    def _note(
        self, destination_id: int, pacer: Pacer, kind: ResultKind, reason: str
    ) -> dict[str, Any]:
        seen = self._seen.setdefault(
            destination_id, {"id": destination_id, "succeeded": False, "failed": False}
        )
        is_success = kind in (ResultKind.FAST, ResultKind.SLOW)
        if reason != "proxy":
            seen["succeeded" if is_success else "failed"] = True
        if reason:
            seen["reason"] = reason
        elif pacer.state is BreakerState.OPEN:
            seen["reason"] = "breaker"
        return seen

    def take_observations(self) -> list[dict[str, Any]]:
        """Return what changed since the last call, as rows for `outbox.observe`.

        ``news`` in a row is (meta event, reason), which may be known already.
        """
        now = time.monotonic()
        seen, self._seen = self._seen, {}
        rows = []
        for destination_id, row in seen.items():
            pacer = self._pacers[destination_id]
            pacer.seats(now)  # brings the state up to date
            until = pacer.held_until
            # Each hold is reported once: reported again with a late result, it would undo a
            # `resume` that an operator gave in between.
            is_news = until is not None and until != self._told_holds.get(destination_id)
            hold = max(0.0, until - now) if until is not None and is_news else None
            self._told_holds[destination_id] = until
            now_seen = {"hold": hold, "state": pacer.state, "failing": pacer.failing}
            rows.append({"reason": "", **row, **now_seen, "seats": pacer.window})
        return rows

    def known(self) -> list[int]:
        """Forget destinations that were not used lately; return the ids of the others."""
        old = time.monotonic() - FORGET_SECONDS
        for key in [key for key, used in self._used_at.items() if used < old]:
            if self._pacers[key].is_idle and key not in self._seen:
                del self._pacers[key], self._used_at[key]
                self._told_holds.pop(key, None)
        return list(self._pacers)

    def heed_operator(self, rows: Iterable[tuple[int, int | None, bool, str]]) -> None:
        """Apply the operators' settings: rows of (id, max_in_flight, is its hold lifted, ...)."""
        for destination_id, max_in_flight, is_lifted, _ in rows:
            pacer = self._pacers.get(destination_id)
            if pacer is None:
                continue
            pacer.set_limits(PacerLimits.from_settings(max_in_flight))
            if is_lifted and pacer.held_until is not None and destination_id not in self._seen:
                pacer.resume()
