"""P8: what does a complete submit cost, compared with the least possible?"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from tests.bench import place
from tests.bench.children import Child, Server, wait_for_port
from tests.bench.report import Figure, pairs_in_turns
from tests.support.ports import free_port

TASK_TABLES = "TRUNCATE tasks_app_task, tasks_app_mediafile, tasks_app_idempotencykey CASCADE"


def make_key() -> str:
    """Make an API key with a limit that is never reached; return its clear text."""
    from tasks_app.models import ApiKey

    _, clear = ApiKey.objects.create_key(name="bench", rate_limit_per_minute=10_000_000)
    return str(clear)


def forget_tasks(connection: Any) -> None:
    """Remove all tasks and tickets, and run ANALYZE."""
    from tasks_app import redis_gate

    connection.execute(TASK_TABLES)
    connection.execute("ANALYZE tasks_app_task")
    redis_gate.client().flushdb()


@contextlib.contextmanager
def web_server(name: str, application: str) -> Iterator[tuple[Server, str]]:
    """Run the service's web server with a given application; yield it and its submit URL."""
    from moviesvc.run import service

    port = free_port()
    command = [*service._web_command()[:-1], application]
    command[command.index("--port") + 1] = str(port)
    with Server(name, command, PORT=str(port), QUEUE_LIMIT_PER_PROJECT="10000000") as server:
        wait_for_port(port)
        yield server, f"http://127.0.0.1:{port}/api/v1/tasks/submit"


def p8(scale: place.Scale) -> list[Figure]:
    """Measure submits per second, by the clock and by the server's processor time."""
    figures = [
        Figure("P8", what, "1/s", 0.50, reference_name="bare view")
        for what in ("submits through the web server", "submits for a second of CPU")
    ]
    count, key = scale.submits, make_key()
    with (
        place.connect() as connection,
        Child("web_load") as load,
        web_server("web", "moviesvc.wsgi:front") as ours,
        web_server("bare_view", "tests.bench.bare_view:application") as bare,
    ):

        def measure(server: Server, url: str, number: int = count) -> tuple[float, float]:
            forget_tasks(connection)
            before = server.cpu_seconds
            done = load.ask(url=url, key=key, count=number)
            cpu = server.cpu_seconds - before
            rows = connection.execute("SELECT count(*) FROM tasks_app_task").fetchone()[0]
            if (done["created"], rows) != (number, number):
                raise RuntimeError(f"created {done['created']}, rows {rows}, sent {number}")
            return number / done["seconds"], number / cpu

        for server in (ours, bare):  # every thread opens its database connection once
            measure(*server, max(50, count // 10))
        pairs_in_turns(scale.rounds, lambda: measure(*ours), lambda: measure(*bare), figures)
        forget_tasks(connection)
    return figures
