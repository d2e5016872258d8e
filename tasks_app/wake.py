"""How is a worker told that there is work, and what if Redis is away?

A ticket is only a hint; the database says what is owed. So a failure here is logged,
the next calls are spared for a while, and the sweep sends tickets later.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import TypeVar, cast

import dramatiq
import redis
import structlog
from django.conf import settings
from dramatiq.brokers.redis import RedisBroker

logger = structlog.get_logger(__name__)
T = TypeVar("T")

CLOSED_SECONDS = 5.0
UNREACHABLE = (redis.exceptions.RedisError, dramatiq.errors.BrokerConnectionError, OSError)


class RedisGate:
    """Spare Redis, and our callers' time, for a few seconds after a failure.

    One instance a process. `call` returns None at once while the gate is shut.
    """

    def __init__(self, closed_seconds: float = CLOSED_SECONDS) -> None:
        self._closed_seconds = closed_seconds
        self._closed_until = 0.0

    @property
    def is_open(self) -> bool:
        """Tell whether Redis may be asked now."""
        return time.monotonic() >= self._closed_until

    def call(self, ask: Callable[[], T]) -> T | None:
        """Return what ``ask`` returns, or None when Redis is, or was just, out of reach."""
        if not self.is_open:
            return None
        try:
            return ask()
        except UNREACHABLE as error:
            self._closed_until = time.monotonic() + self._closed_seconds
            logger.warning("Redis is out of reach", error=type(error).__name__)
            return None


gate = RedisGate()
_client: redis.Redis | None = None


def client() -> redis.Redis:
    """Return this process's Redis client (time-outs come from its URL)."""
    global _client
    if _client is None:
        _client = redis.Redis.from_url(settings.REDIS_URL)
    return _client


def send_ticket(task_type: str, task_id: str) -> bool:
    """Tell the workers that a task of this type is due; the id is for the log only."""
    from tasks_app.actors import ACTORS

    return gate.call(lambda: ACTORS[task_type].send(task_id)) is not None


_WORKERS = "workers"  # worker processes by the time of their last sign of life


def report_alive() -> None:
    """Leave a sign of life of this worker process."""
    name, now = f"{socket.gethostname()}:{os.getpid()}", time.time()
    forgotten = now - 20 * settings.SWEEP_INTERVAL_SECONDS
    gate.call(lambda: client().zadd(_WORKERS, {name: now}))
    gate.call(lambda: client().zremrangebyscore(_WORKERS, 0, forgotten))


def workers_alive() -> int | None:
    """Return how many worker processes gave a sign of life lately, None if Redis is away."""
    since = time.time() - 3 * settings.SWEEP_INTERVAL_SECONDS - 2
    return cast("int | None", gate.call(lambda: client().zcount(_WORKERS, since, "+inf")))


def waiting_tickets(queue: str) -> int | None:
    """Return how many tickets nobody has taken yet, None when the broker does not answer.

    Not the broker's own count: that includes the tickets which a killed worker still holds, and
    Dramatiq gives those back only after its heartbeat time-out, long after our lease ran out.
    """
    broker = dramatiq.get_broker()
    if isinstance(broker, RedisBroker):
        return gate.call(lambda: cast(int, broker.client.llen(f"{broker.namespace}:{queue}")))
    if hasattr(broker, "get_queue_message_counts"):
        return gate.call(lambda: int(broker.get_queue_message_counts(queue)[0]))
    return 0
