"""How do tickets travel, and what becomes of them where Redis cannot be used?

Dramatiq's own broker for Redis, behind the gate: nothing in it waits for a Redis that is away,
dies of one, or writes a line a second about it. A ticket that Redis does not know may lie in a
worker's queue as well (see `tickets.keep_ticket`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from dramatiq.brokers.redis import RedisBroker, _RedisConsumer

from tasks_app import redis_gate

#: Dramatiq's mark of a message that came from Redis.
REDIS_ID = "redis_message_id"


class TicketBroker(RedisBroker):
    """Dramatiq's Redis broker for tickets that may be lost."""

    def __init__(self, *, url: str, **options: Any) -> None:
        super().__init__(client=redis_gate.connect(url), **options)  # type: ignore[no-untyped-call]

    def _max_unpack_size(self) -> int:
        """Return what Dramatiq asks of Redis at the first use, while all threads wait in line."""
        return 1000

    @property
    def consumer_class(self) -> type[Any]:
        """Say which class fetches."""
        return TicketConsumer


class TicketConsumer(_RedisConsumer):
    """Fetch tickets and settle them, as far as Redis can be used.

    What cannot be settled stays in Redis under the name of this process, and comes back as a
    ticket too many when the process has ended.
    """

    def __next__(self) -> Any:
        if redis_gate.gate.fault:
            time.sleep(self.timeout / 1000)
            return None
        return redis_gate.gate.call(super().__next__)

    def ack(self, message: Any) -> None:
        """Tell Redis that the ticket is done with: once, where Dramatiq would wait for Redis."""
        self._settle(super().ack, message)

    def nack(self, message: Any) -> None:
        """Tell Redis that the ticket failed."""
        self._settle(super().nack, message)

    def _settle(self, settle: Callable[[Any], None], message: Any) -> None:
        self.queued_message_ids.discard(message.message_id)
        if REDIS_ID in message.options:
            redis_gate.gate.call(lambda: settle(message))

    def requeue(self, messages: Iterable[Any]) -> None:
        """Give back what was fetched and not begun; else an error here would end a shutdown."""
        of_redis = [message for message in messages if REDIS_ID in message.options]
        give_back: Callable[[Any], None] = super().requeue
        redis_gate.gate.call(lambda: give_back(of_redis))
