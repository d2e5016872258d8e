"""How does asyncio code reach Django's database? With Django's own settings, without its ORM."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import psycopg
from django.db import close_old_connections, connection, connections

T = TypeVar("T")

#: Django's synchronous cursor class and type adapters, and its pool, mean nothing here.
_DJANGO_ONLY = ("cursor_factory", "context", "pool")

#: A server that vanished without a word is noticed within about half a minute (TCP only).
_ALIVE: dict[str, Any] = {
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
    parameters = {**_ALIVE, **connections["default"].get_connection_params()}
    for name in _DJANGO_ONLY:
        parameters.pop(name, None)
    return await psycopg.AsyncConnection.connect(
        **parameters, autocommit=True, application_name=application_name
    )


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
