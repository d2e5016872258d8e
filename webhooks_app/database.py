"""How is the database reached, and is it usable just now?

Asyncio code uses Django's connection settings without the ORM. Only `why_unusable` decides whether
an error means that the database cannot be used.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from math import inf
from typing import Any, TypeVar

import psycopg
from django.db import Error, close_old_connections, connection, connections
from django.db.backends.signals import connection_created

T = TypeVar("T")

#: A connection that served so short a time ago is good, in seconds.
CHECKED_SECONDS = 5.0

READ_ONLY = "The database is read-only."
OUT_OF_REACH = "The database is out of reach."
#: SQLSTATE, or its class (two characters) -> what it means. Statements that lost against another
#: one or were cancelled are included, since the caller does the same: try again later.
_UNUSABLE = {
    "25006": READ_ONLY,
    "25P03": OUT_OF_REACH,  # idle_in_transaction_session_timeout: the server ended the session
    "25P04": OUT_OF_REACH,  # transaction_timeout: the same
    "53100": "The database's disk is full.",
    "53200": "The database is out of memory.",
    "53300": "The database takes no more connections.",
    "55P03": "The database is busy.",  # lock_timeout
    "57014": "The database took too long.",  # statement_timeout
    "08": OUT_OF_REACH,  # lost connections, and PgBouncer's own errors
    "40": "The database is busy.",  # deadlock, serialization failure
    "53": "The database is short of resources.",
    "57": OUT_OF_REACH,  # shutdown, start-up, recovery, idle_session_timeout
    "58": "The database has trouble with its disk.",
}


def why_unusable(error: BaseException | None) -> str | None:
    """Return a sentence that says why the database cannot be used now.

    Takes errors of Django and of psycopg. Returns None for every other error, such as a fault in
    the statement or a row that exists already.
    """
    if not isinstance(error, (Error, psycopg.Error)):
        return None
    told = error if isinstance(error, psycopg.Error) else error.__cause__
    state = getattr(told, "sqlstate", None)
    if state:
        return _UNUSABLE.get(state) or _UNUSABLE.get(state[:2])
    # The driver's own errors carry no state: no connection, or a broken one.
    lost = (psycopg.OperationalError, psycopg.InterfaceError)
    return OUT_OF_REACH if isinstance(told, lost) else None


#: Changes nothing, but fails where writing is impossible: on a standby, in a stale session.
WRITE_NOTHING = "DELETE FROM webhooks_app_operatoraction WHERE false"


def renew_unusable_connections() -> None:
    """Make Django close each connection on which the database was unusable.

    A session opened before a failover stays read-only as long as it lives, yet passes Django's own
    health check. Django reconnects at the next statement.
    """
    connection_created.connect(_watch, dispatch_uid="renew_unusable_connections")


def _watch(sender: Any, connection: Any, **kwargs: Any) -> None:
    if _leave_unusable not in connection.execute_wrappers:
        connection.execute_wrappers.append(_leave_unusable)


def _leave_unusable(execute: Any, sql: Any, params: Any, many: Any, context: Any) -> Any:
    try:
        return execute(sql, params, many, context)
    except Error as error:
        if why_unusable(error):
            used = context["connection"]
            if used.in_atomic_block:
                used.close_at = 0.0  # closed by `close_old_connections`, after the rollback
            else:
                used.close()
        raise


#: With these a server that vanished silently is noticed within about half a minute (TCP only).
ALIVE: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}


async def connect(application_name: str) -> psycopg.AsyncConnection[Any]:
    """Open an autocommit connection to the default database; raises psycopg.OperationalError."""
    parameters = {**ALIVE, **connections["default"].get_connection_params()}
    # Django's synchronous cursors, type adapters and pool are of no use here.
    for name in ("cursor_factory", "context", "pool"):
        parameters.pop(name, None)
    parameters |= {"autocommit": True, "application_name": application_name}
    return await psycopg.AsyncConnection.connect(**parameters)


async def is_pooled(connection: psycopg.AsyncConnection[Any]) -> bool:
    """Say whether a pooler such as PgBouncer stands between us and the server.

    A pooler reports a process id of its own at connect; here it differs from the server's.
    """
    cursor = await connection.execute("SELECT pg_backend_pid()")
    row = await cursor.fetchone()
    assert row is not None
    return bool(row[0] != connection.pgconn.backend_pid)


class DatabaseThread:
    """One thread with a Django connection, for ORM calls from asyncio code."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._good_at = -inf

    def call(self, function: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        """Run ``function`` in the thread, on a connection that was checked first.

        The check is a statement of its own; one that has just served is not checked again.
        """

        def run() -> T:
            if time.monotonic() - self._good_at > CHECKED_SECONDS:
                close_old_connections()
            self._good_at = -inf
            found = function(*arguments)
            self._good_at = time.monotonic()
            return found

        return asyncio.get_running_loop().run_in_executor(self._executor, run)

    async def close(self) -> None:
        """Close the thread's connection and end the thread."""
        # Inside the thread: Django's `connection` is a different one in each thread.
        await asyncio.get_running_loop().run_in_executor(self._executor, lambda: connection.close())
        self._executor.shutdown(wait=False)
