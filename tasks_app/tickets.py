"""How is a worker told that there is work, and what if Redis is away?

A ticket is only a hint; the database says what is owed. Where Redis cannot be used a worker puts
tickets into its own queue, and finds the work that no ticket told it of by itself.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import Any, cast

import dramatiq
from django.conf import settings
from dramatiq.brokers.redis import RedisBroker

from tasks_app import redis_gate
from tasks_app.task_types import TASK_TYPES

#: In a worker process: whose threads work here.
own_worker: dramatiq.Worker | None = None
#: Set once this process is on its way out.
stopping = threading.Event()


def send_ticket(task_type: str, task_id: str) -> bool:
    """Tell the workers that a task of this type is due; the id is for the log only.

    Returns: whether anybody was told. Without Redis that can be this process only.
    """
    ticket = _ticket(task_type, task_id)
    sent = redis_gate.gate.call(lambda: dramatiq.get_broker().enqueue(ticket))
    return sent is not None or keep_ticket(task_type)


def _ticket(task_type: str, task_id: str = "") -> dramatiq.Message[Any]:
    """Return the message for the actor of this name, which only workers import."""
    queue = TASK_TYPES[task_type].queue
    return dramatiq.Message(
        queue_name=queue, actor_name=task_type, args=(task_id,), kwargs={}, options={}
    )


def keep_ticket(task_type: str) -> bool:
    """Put a ticket into this process's own queue, past Redis; False where nobody would take it."""
    if own_worker is None or own_worker.work_queue.qsize() >= own_worker.worker_threads:
        return False
    ticket = dramatiq.MessageProxy(_ticket(task_type))
    own_worker.consumers[ticket.queue_name].handle_message(ticket)
    return True


def free_threads() -> int:
    """Return how many threads of this process have nothing to do."""
    if own_worker is None:
        return 0
    return own_worker.worker_threads - own_worker.work_queue.unfinished_tasks


def report_alive() -> None:
    """Leave a sign of life of this worker process."""
    name, now = f"{socket.gethostname()}:{os.getpid()}", time.time()
    forgotten = now - 20 * settings.SWEEP_INTERVAL_SECONDS
    redis_gate.gate.call(lambda: redis_gate.client().zadd(redis_gate.WORKERS, {name: now}))
    redis_gate.gate.call(
        lambda: redis_gate.client().zremrangebyscore(redis_gate.WORKERS, 0, forgotten)
    )


def workers_alive() -> int | None:
    """Return how many worker processes gave a sign of life lately, None if Redis is away."""
    since = time.time() - 3 * settings.SWEEP_INTERVAL_SECONDS - 2
    return cast(
        "int | None",
        redis_gate.gate.call(lambda: redis_gate.client().zcount(redis_gate.WORKERS, since, "+inf")),
    )


def waiting_tickets(queue: str) -> int | None:
    """Return how many tickets nobody has taken yet, None when the broker does not answer.

    Not the broker's own count: that includes the tickets which a killed worker still holds, and
    Dramatiq gives those back only after its heartbeat time-out, long after our lease ran out.
    """
    broker = dramatiq.get_broker()
    assert isinstance(broker, RedisBroker)
    ask = lambda: cast(int, broker.client.llen(f"{broker.namespace}:{queue}"))  # noqa: E731
    return redis_gate.gate.call(ask)
