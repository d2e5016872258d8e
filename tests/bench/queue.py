"""P12: does one project's long queue delay the first task of another?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

from tests.bench import place
from tests.bench.report import Figure, in_turns

WORK_SECONDS = 0.02
QUEUED = 10_000

_QUEUE = """
INSERT INTO tasks_app_task (id, project_id, task_type, task_data, callback_url, webhook_events,
  priority, status, progress, current_step, version, error_code, error, traceback, attempts,
  lost_count, available_at, timeout_seconds, event_sequence, request_id, created_at)
SELECT gen_random_uuid(), 'crowded', 'image_generation', '{"prompt": "x"}', '', '[]', 2,
  'queued', 0, '', 0, '', '', '', 0, 0, now(), 600, 0, '', now()
FROM generate_series(1, %(count)s)
"""
_BUSY = "SELECT count(*) FROM tasks_app_task WHERE status = 'processing'"
_DELAY = """
SELECT 1000 * extract(epoch FROM started_at - created_at) FROM tasks_app_task
WHERE id = %s AND started_at IS NOT NULL
"""


def p12(scale: place.Scale) -> list[Figure]:
    """Submit single tasks of one project, alone and while another has a long queue."""
    count = QUEUED if scale.rounds >= 5 else 500
    what = f"first start beside {count:,} queued tasks of another project"
    figure = Figure("P12", what, "ms", 1.2, is_less_better=True, reference_name="alone")
    tries = max(5, scale.idle // 10)
    in_turns(scale.rounds, lambda: _delay(tries, count), lambda: _delay(tries, 0), figure)
    return [figure]


def _delay(tries: int, queued: int) -> float:
    """Return the median milliseconds from submit to start."""
    with place.connect() as connection, _worker():
        _delay_of_one(connection)  # the worker is ready
        if queued:
            _crowd(connection, queued)
        found = [_delay_of_one(connection) for _ in range(tries)]
    return median(found)


def _crowd(connection: Any, count: int) -> None:
    """Queue tasks, each with its ticket as at a submit; return when every worker is busy."""
    from django.conf import settings

    from tasks_app import tickets

    connection.execute(_QUEUE, {"count": count})
    for _ in range(count):
        tickets.send_ticket("image_generation", "")
    deadline = time.monotonic() + 60
    while connection.execute(_BUSY).fetchone()[0] < settings.RENDER_SLOTS:
        if time.monotonic() > deadline:
            raise RuntimeError("the seats were not taken")
        time.sleep(0.005)


def _delay_of_one(connection: Any) -> float:
    from tasks_app.state import submit

    task = submit.submit(
        submit.Submit(project_id="quiet", task_type="image_generation", task_data={"prompt": "x"})
    ).task
    deadline = time.monotonic() + 60
    while not (row := connection.execute(_DELAY, [task.id]).fetchone()):
        if time.monotonic() > deadline:
            raise RuntimeError("the task was not started")
        time.sleep(0.005)
    time.sleep(2 * WORK_SECONDS)
    return float(row[0])


@contextmanager
def _worker() -> Iterator[None]:
    """Run one worker as the service does, with tasks that take almost no time."""
    still = {
        "provider": "tests.support.providers.StillProvider",
        "options": {"seconds": WORK_SECONDS},
    }
    environment = os.environ | {
        "GENERATION_PROVIDERS": json.dumps({"image_generation": still}),
        "WEBHOOK_ENGINE": "dedicated",
        "dramatiq_queue_prefetch": "3",
        "dramatiq_worker_timeout": "200",
    }
    command = [sys.executable, "manage.py", "rundramatiq", "--skip-logging", "-p", "1", "-t", "3"]
    log = (place.var_directory() / "worker.log").open("ab")
    process = subprocess.Popen(command, cwd=place.ROOT, env=environment, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)
        log.close()
        _forget()


def _forget() -> None:
    import dramatiq

    with place.connect() as connection:
        connection.execute("TRUNCATE tasks_app_task CASCADE")
    dramatiq.get_broker().flush_all()
