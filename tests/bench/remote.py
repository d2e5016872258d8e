"""P13: what do thousands of jobs at a provider cost while they wait, and when is their end seen?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.bench import place
from tests.bench.report import Figure

JOBS = 5_000
#: The age at which a job is looked at as seldom as the service ever does.
AGE_SECONDS = 1_200
LONGEST_SECONDS = 60.0
MODEL = "acme/painter"

_TASKS = """
INSERT INTO tasks_app_task (id, project_id, task_type, task_data, callback_url, webhook_events,
  priority, status, progress, current_step, version, error_code, error, traceback, attempts,
  lost_count, available_at, timeout_seconds, event_sequence, request_id, created_at, started_at,
  deadline, remote_provider)
SELECT gen_random_uuid(), 'far', 'image_generation', '{"prompt": "x"}', '', '[]', 2,
  'processing', 0.05, 'generating', 0, '', '', '', 0, 0, now(), 7200, 0, '', now(), now(),
  now() + interval '2 hours', 'replicate'
FROM generate_series(1, %(count)s)
"""
#: Each job has the id of its prediction, and its next look at another moment of the longest wait.
_JOBS = """
INSERT INTO tasks_app_remotejob (id, task_id, task_type, provider, server, model, attempt, state,
  outcome, stop_reason, remote, outputs, facts, callback_token, note, next_look_at, asked_at,
  seen_at, deadline, created_at)
SELECT gen_random_uuid(), id, task_type, 'replicate', 'replicate', %(model)s, 1, 'running', '', '',
  jsonb_build_object('id', 'p-' || id), '[]', '{}',
  left(replace(id::text || id::text, '-', ''), 48), '',
  now() + random() * interval '60 seconds', now(), now(), deadline,
  now() - make_interval(secs => %(age)s)
FROM tasks_app_task
"""


def p13(scale: place.Scale) -> list[Figure]:
    """Let jobs wait at a stand-in of Replicate, then end some, each with a callback."""
    count = JOBS if scale.rounds >= 5 else 500
    what = f"{count:,} jobs at a provider"
    cpu = Figure("P13", f"added to a worker by {what}", "% of a core", 5.0, is_less_better=True)
    memory = Figure("P13", f"growth of a worker, {what}", "MB", 200.0, is_less_better=True)
    delay = Figure("P13", "from a callback to the task's end", "s", 1.0, is_less_better=True)
    with place.connect() as connection, _server() as address:
        seconds = min(60.0, 12 * scale.steady_seconds)
        with _worker(address) as process:
            idle_cpu = _cpu_share(process, seconds)
            idle = process.memory_info().rss
        connection.execute("TRUNCATE tasks_app_task CASCADE")
        connection.execute(_TASKS, {"count": count})
        connection.execute(_JOBS, {"model": MODEL, "age": AGE_SECONDS})
        with _worker(address) as process:
            time.sleep(LONGEST_SECONDS)  # the first look at each job stores its progress
            for _ in range(max(1, scale.rounds // 2)):
                cpu.add(_cpu_share(process, seconds) - idle_cpu)
                memory.add((process.memory_info().rss - idle) / 1e6)
            for _ in range(max(5, scale.rounds * 4)):
                delay.add(_delay(connection, address))
        connection.execute("TRUNCATE tasks_app_task CASCADE")
    return [cpu, memory, delay]


def _delay(connection: Any, address: str) -> float:
    """End one job at the provider, call back, and return the seconds until its task has ended."""
    from urllib.request import Request, urlopen

    from tasks_app.state import remote_jobs

    row = connection.execute(
        "SELECT task_id, callback_token FROM tasks_app_remotejob WHERE state = 'running' LIMIT 1"
    ).fetchone()
    urlopen(Request(f"{address}/end/p-{row[0]}", method="POST")).close()
    began = time.monotonic()
    remote_jobs.hint("replicate", row[1])
    done = "SELECT 1 FROM tasks_app_task WHERE id = %s AND status = 'completed'"
    while not connection.execute(done, [row[0]]).fetchone():
        if time.monotonic() - began > 60:
            raise RuntimeError("the task did not end")
        time.sleep(0.01)
    return time.monotonic() - began


def _cpu_share(process: Any, seconds: float) -> float:
    """Return which part of a core a process takes in the next seconds, in per cent."""
    before = sum(process.cpu_times()[:2])
    time.sleep(seconds)
    return float(100 * (sum(process.cpu_times()[:2]) - before) / seconds)


@contextmanager
def _server() -> Iterator[str]:
    """Run the stand-in in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.remote"]
    process = subprocess.Popen(command, cwd=place.ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


@contextmanager
def _worker(address: str) -> Iterator[Any]:
    """Run one worker process as the service does; yields the process that works."""
    import psutil

    provider = {"provider": "replicate", "options": {"model": MODEL}}
    environment = os.environ | {
        "GENERATION_PROVIDERS": json.dumps({"image_generation": provider}),
        "REPLICATE_BASE_URL": address,
        "REPLICATE_API_TOKEN": "a-key-of-the-benchmark",
        "PROVIDER_ALLOW_NETWORKS": "127.0.0.0/8",
        "WEBHOOK_ENGINE": "dedicated",
    }
    command = [sys.executable, "manage.py", "rundramatiq", "--skip-logging", "-p", "1", "-t", "3"]
    with (place.var_directory() / "worker.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=place.ROOT, env=environment, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 60
            while not (children := psutil.Process(process.pid).children()):
                if time.monotonic() > deadline or process.poll() is not None:
                    raise RuntimeError("the worker did not start; see worker.log")
                time.sleep(0.1)
            time.sleep(10)  # the cost of its start is not part of this
            yield max(children, key=lambda child: child.memory_info().rss)
        finally:
            process.terminate()
            process.wait(60)


def main() -> None:
    """Serve predictions that run until their end is asked for; the first line is the address."""
    from aiohttp import web

    from tests.support.fake_provider import png

    ended: set[str] = set()
    picture = png()

    async def look(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in ended:
            return web.json_response({"id": name, "status": "processing"})
        output = [f"http://{request.host}/out.png"]
        return web.json_response({"id": name, "status": "succeeded", "output": output})

    async def end(request: web.Request) -> web.Response:
        ended.add(request.match_info["name"])
        return web.Response()

    async def out(request: web.Request) -> web.Response:
        return web.Response(body=picture, content_type="image/png")

    async def tell(application: web.Application) -> None:
        print(f"http://127.0.0.1:{port}", flush=True)

    from tests.support.ports import free_port

    port = free_port()
    application = web.Application()
    application.add_routes(
        [
            web.get("/v1/predictions/{name}", look),
            web.post("/end/{name}", end),
            web.get("/out.png", out),
        ]
    )
    application.on_startup.append(tell)
    web.run_app(application, host="127.0.0.1", port=port, print=None)


if __name__ == "__main__":
    main()
