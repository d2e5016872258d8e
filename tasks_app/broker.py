"""How do tickets travel, and what happens to them when Redis cannot be used?

Dramatiq's Redis broker behind the gate: without Redis nothing waits, crashes or fills the log.
A ticket that Redis does not know may also be in a worker's own queue (see `tickets.keep_ticket`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from dramatiq.brokers.redis import RedisBroker, _RedisConsumer

from tasks_app import redis_gate

#: Dramatiq's option on messages that came from Redis.
REDIS_ID = "redis_message_id"


class TicketBroker(RedisBroker):
    """Dramatiq's Redis broker for tickets that may be lost."""

    def __init__(self, *, url: str, **options: Any) -> None:
        super().__init__(client=redis_gate.connect(url), **options)  # type: ignore[no-untyped-call]

    def _max_unpack_size(self) -> int:
        """Return a limit that Dramatiq would ask Redis for at first use, blocking all threads."""
        return 1000

    @property
    def consumer_class(self) -> type[Any]:
        return TicketConsumer


class TicketConsumer(_RedisConsumer):
    """Fetches and acknowledges tickets, as far as Redis can be used.

    A ticket that could not be acknowledged stays in Redis under this process's name. After the
    process has ended it is delivered again, as a superfluous ticket.
    """

    def __next__(self) -> Any:
        if redis_gate.gate.fault:
            time.sleep(self.timeout / 1000)
            return None
        return redis_gate.gate.call(super().__next__)

    def ack(self, message: Any) -> None:
        """Acknowledge a ticket: one try, where Dramatiq would retry until Redis answers."""
        self._settle(super().ack, message)

    def nack(self, message: Any) -> None:
        self._settle(super().nack, message)

    def _settle(self, settle: Callable[[Any], None], message: Any) -> None:
        self.queued_message_ids.discard(message.message_id)
        if REDIS_ID in message.options:
            redis_gate.gate.call(lambda: settle(message))

    def requeue(self, messages: Iterable[Any]) -> None:
        """Return fetched tickets that were not begun; an error here must not stop a shutdown."""
        of_redis = [message for message in messages if REDIS_ID in message.options]
        give_back: Callable[[Any], None] = super().requeue
        redis_gate.gate.call(lambda: give_back(of_redis))
