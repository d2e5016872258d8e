"""Where does a benchmark run? On servers of its own in ``var/bench``, durable as in production.

Nothing here imports Django before `prepare` has set the environment that the settings read.
"""

from __future__ import annotations

import atexit
import os
import platform
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from moviesvc.run import embedded

ROOT = Path(__file__).resolve().parents[2]
SCOPE = "bench"
#: Servers that run until this process ends.
_servers = ExitStack()
atexit.register(_servers.close)
#: Prefixes of environment variables that must not reach the measured processes.
_CLEARED = ("PG", "WEBHOOK", "TASK_", "DJANGO_", "PUBLIC_URL", "ALLOWED_HOSTS", "FAULT")


def var_directory() -> Path:
    """Return the folder of servers, logs and results; ``BENCH_VAR`` names another one."""
    return Path(os.environ.get("BENCH_VAR") or ROOT / "var" / "bench")


@dataclass(frozen=True)
class Scale:
    """How much is measured: numbers of messages, requests and rows; seconds where named so."""

    rounds: int
    deliveries: int
    naive: int  # deliveries by the slow references
    idle: int  # single tasks, one at a time
    history: int  # finished messages
    claims: int
    backlog: int  # due messages of the dead destination
    steady_seconds: float
    submits: int
    tasks: int
    in_flight: int


FULL = Scale(5, 20_000, 1_000, 200, 5_000_000, 30, 100_000, 8.0, 3_000, 1_000_000, 1_000)
QUICK = Scale(2, 8_000, 100, 25, 50_000, 5, 5_000, 2.0, 300, 20_000, 200)
TINY = Scale(1, 100, 10, 3, 300, 2, 200, 0.3, 20, 300, 20)
SCALES = {"": FULL, "0": FULL, "1": QUICK, "tiny": TINY}


def prepare() -> None:
    """Start the servers, set the environment, and bring Django and the schema up."""
    var = var_directory()
    for name in [key for key in os.environ if key.startswith(_CLEARED)]:
        del os.environ[name]
    os.environ |= {
        "DATABASE_URL": _start_database(var),
        "REDIS_URL": embedded.redis(var),
        "EMBEDDED": "off",
        "VAR_DIR": str(var),
        "ENVIRONMENT": "development",  # receivers live on loopback
        "SECRET_KEY": "a key that only the benchmarks use",
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "ERROR",
        "DJANGO_SETTINGS_MODULE": "moviesvc.settings",
    }
    set_up_django()
    os.environ["LOG_LEVEL"] = "INFO"  # for the measured processes; this one logs less
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


def _start_database(var: Path) -> str:
    """Return the embedded server's URL; with ``BENCH_SERVER=stock`` that of Debian's, untuned."""
    if os.environ.get("BENCH_SERVER") != "stock":
        return embedded.postgres(var)
    from tests.support.servers import postgres

    server = _servers.enter_context(postgres.running("debian"))
    url = server.make_database(embedded.DATABASE)
    server.execute(f"ALTER ROLE {postgres.ROLE} CREATEDB")
    return f"{url}?connect_timeout=5"


def set_up_django() -> None:
    """Set up a process of a benchmark; it gets its environment from its parent."""
    import django

    django.setup()


def database_url(name: str) -> str:
    """Return the URL of another database of the same server."""
    url = os.environ["DATABASE_URL"]
    return url.replace(f"/{embedded.DATABASE}?", f"/{name}?")


def copy_database(name: str) -> bool:
    """Make an empty database with our schema, unless it exists; say whether it is new."""
    from django.db import connection, connections

    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
        if cursor.fetchone():
            return False
    connections.close_all()
    _admin(f'CREATE DATABASE "{name}" TEMPLATE "{embedded.DATABASE}"')
    return True


def _admin(statement: str) -> None:
    import psycopg

    with psycopg.connect(database_url("postgres"), autocommit=True) as connection:
        connection.execute(statement)  # type: ignore[arg-type]


def connect(name: str = embedded.DATABASE) -> Any:
    """Open an autocommit connection to a database of the benchmark."""
    import psycopg

    return psycopg.connect(database_url(name), autocommit=True)


def machine() -> str:
    """Return one line on hardware and versions."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    python = ".".join(map(str, sys.version_info[:3]))
    parts = [f"{os.cpu_count()} x {cpu}", f"Python {python}", f"PostgreSQL {_server_version()}"]
    parts += [f"{name} {version(name)}" for name in ("aiohttp", "uvloop", "psycopg", "granian")]
    return ", ".join(parts)


def _server_version() -> str:
    with connect() as connection:
        return str(connection.execute("SHOW server_version").fetchone()[0])
