"""How is a worker told that there is work, and what if Redis is unavailable?

A ticket is only a hint; the database says what is due. Without Redis a worker finds late work by
itself and puts tickets into its own queue.
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

#: The actor that fetches assets, and its queue; every other one is named after its type of task.
FETCH, FETCH_QUEUE = "fetch_asset", "assets"
#: Set in worker processes: the worker that runs in this process.
own_worker: dramatiq.Worker | None = None
#: Set when this process begins to stop.
stopping = threading.Event()


def send_ticket(task_type: str, task_id: str) -> bool:
    """Tell the workers that a task of this type, or FETCH, is due; the id serves the log only.

    Returns:
        Whether any worker was told. Without Redis that can only be one in this process.
    """
    ticket = _ticket(task_type, task_id)
    sent = redis_gate.gate.call(lambda: dramatiq.get_broker().enqueue(ticket))
    return sent is not None or keep_ticket(task_type)


def _ticket(task_type: str, task_id: str = "") -> dramatiq.Message[Any]:
    """Return a message for the actor of this type; only workers import the actors themselves."""
    queue = FETCH_QUEUE if task_type == FETCH else TASK_TYPES[task_type].queue
    return dramatiq.Message(
        queue_name=queue, actor_name=task_type, args=(task_id,), kwargs={}, options={}
    )


def keep_ticket(task_type: str) -> bool:
    """Put a ticket into this process's own queue, without Redis; False if no worker runs here."""
    if own_worker is None or own_worker.work_queue.qsize() >= own_worker.worker_threads:
        return False
    ticket = dramatiq.MessageProxy(_ticket(task_type))
    own_worker.consumers[ticket.queue_name].handle_message(ticket)
    return True


def free_threads() -> int:
    """Return how many threads of this process are idle, minus the tickets that wait for them."""
    if own_worker is None:
        return 0
    return own_worker.worker_threads - own_worker.work_queue.unfinished_tasks


def report_alive() -> None:
    name, now = f"{socket.gethostname()}:{os.getpid()}", time.time()
    forgotten = now - 20 * settings.SWEEP_INTERVAL_SECONDS
    redis_gate.gate.call(lambda: redis_gate.client().zadd(redis_gate.WORKERS, {name: now}))
    redis_gate.gate.call(
        lambda: redis_gate.client().zremrangebyscore(redis_gate.WORKERS, 0, forgotten)
    )


def workers_alive() -> int | None:
    """Return how many worker processes gave a sign of life lately, None without Redis."""
    since = time.time() - 3 * settings.SWEEP_INTERVAL_SECONDS - 2
    return cast(
        "int | None",
        redis_gate.gate.call(lambda: redis_gate.client().zcount(redis_gate.WORKERS, since, "+inf")),
    )


def waiting_tickets(queue: str) -> int | None:
    """Return how many tickets no worker has fetched yet, None without Redis.

    Not the broker's own count, which includes tickets that a killed worker holds: Dramatiq returns
    those only after its heartbeat time-out, long after the task's lease has expired.
    """
    broker = dramatiq.get_broker()
    assert isinstance(broker, RedisBroker)
    ask = lambda: cast(int, broker.client.llen(f"{broker.namespace}:{queue}"))  # noqa: E731
    return redis_gate.gate.call(ask)
