"""How does asyncio code reach Django's database? With Django's own settings, without its ORM."""

from __future__ import annotations

from typing import Any

import psycopg
from django.db import connections

#: Django's synchronous cursor class and type adapters, and its pool, mean nothing here.
_DJANGO_ONLY = ("cursor_factory", "context", "pool")


async def connect(application_name: str) -> psycopg.AsyncConnection[Any]:
    """Open an autocommit connection to the default database.

    Raises:
        psycopg.OperationalError: the server cannot be reached.
    """
    parameters = dict(connections["default"].get_connection_params())
    for name in _DJANGO_ONLY:
        parameters.pop(name, None)
    return await psycopg.AsyncConnection.connect(
        **parameters, autocommit=True, application_name=application_name
    )
