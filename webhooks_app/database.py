"""How is the database reached, and is it usable just now?

asyncio code takes Django's own settings, without its ORM. Whether an error means that the
database cannot be used is asked of `why_unusable` everywhere, and answered there alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import psycopg
from django.db import Error, close_old_connections, connection, connections
from django.db.backends.signals import connection_created

T = TypeVar("T")

READ_ONLY = "The database is read-only."
OUT_OF_REACH = "The database is out of reach."
#: SQLSTATE or class of it -> what it means. A statement that lost to another one, or that somebody
#: cancelled, counts as well: whoever sent it does the same about it, which is to try again later.
_UNUSABLE = {
    "25006": READ_ONLY,
    "25P03": OUT_OF_REACH,  # idle_in_transaction_session_timeout: the server ended the session
    "25P04": OUT_OF_REACH,  # transaction_timeout: the same
    "53100": "The database's disk is full.",
    "53200": "The database is out of memory.",
    "53300": "The database takes no more connections.",
    "55P03": "The database is busy.",  # lock_timeout
    "57014": "The database took too long.",  # statement_timeout
    "08": OUT_OF_REACH,  # lost connections, and all that PgBouncer says of its own
    "40": "The database is busy.",  # deadlock, serialization failure
    "53": "The database is short of resources.",
    "57": OUT_OF_REACH,  # shutdown, start-up, recovery, idle_session_timeout
    "58": "The database has trouble with its disk.",
}


def why_unusable(error: BaseException | None) -> str | None:
    """Say in a sentence why the database cannot be used just now.

    Returns: None for every other error: a fault of the statement, a row that is there already.
    Takes errors of Django and of psycopg.
    """
    if not isinstance(error, (Error, psycopg.Error)):
        return None
    told = error if isinstance(error, psycopg.Error) else error.__cause__
    state = getattr(told, "sqlstate", None)
    if state:
        return _UNUSABLE.get(state) or _UNUSABLE.get(state[:2])
    # What the driver says by itself carries no state: no connection, or one that broke off.
    lost = (psycopg.OperationalError, psycopg.InterfaceError)
    return OUT_OF_REACH if isinstance(told, lost) else None


#: Changes nothing, and fails where nothing can be changed: in a standby, in a stale session.
WRITE_NOTHING = "DELETE FROM webhooks_app_operatoraction WHERE false"


def renew_unusable_connections() -> None:
    """See to it that Django leaves each connection over which the database was unusable.

    A session that was opened before a failover stays read-only for as long as it lives, and
    answers Django's own health check. Django reconnects at the next statement.
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
                used.close_at = 0.0  # by the next `close_old_connections`: it is still to roll back
            else:
                used.close()
        raise


#: Django's synchronous cursor class and type adapters, and its pool, mean nothing here.
_DJANGO_ONLY = ("cursor_factory", "context", "pool")

#: A server that vanished without a word is noticed within about half a minute (TCP only).
ALIVE: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}


async def connect(application_name: str) -> psycopg.AsyncConnection[Any]:
    """Open an autocommit connection to the default database.

    Raises:
        psycopg.OperationalError: the server cannot be reached.
    """
    parameters = {**ALIVE, **connections["default"].get_connection_params()}
    for name in _DJANGO_ONLY:
        parameters.pop(name, None)
    parameters |= {"autocommit": True, "application_name": application_name}
    return await psycopg.AsyncConnection.connect(**parameters)


async def is_pooled(connection: psycopg.AsyncConnection[Any]) -> bool:
    """Say whether a pooler such as PgBouncer stands between us and the server.

    It names a process of its own at the start; the server's process is asked for.
    """
    cursor = await connection.execute("SELECT pg_backend_pid()")
    row = await cursor.fetchone()
    assert row is not None
    return bool(row[0] != connection.pgconn.backend_pid)


class DatabaseThread:
    """One thread with a Django connection, for the ORM calls of asyncio code."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    def call(self, function: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        """Run ``function`` in the thread, with a connection that was checked before."""

        def run() -> T:
            close_old_connections()
            return function(*arguments)

        return asyncio.get_running_loop().run_in_executor(self._executor, run)

    async def close(self) -> None:
        """Close the thread's connection and end the thread."""
        # Looked up inside the thread: `connection` means the calling thread's own.
        await asyncio.get_running_loop().run_in_executor(self._executor, lambda: connection.close())
        self._executor.shutdown(wait=False)
