"""Is every way in which a database cannot be used told from a fault of the statement?

Each error is provoked on a real server, once through Django and once through psycopg alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from django.db import Error, connection, transaction
from django.db.utils import IntegrityError

from tests.support.servers import pgbouncer
from tests.support.servers.postgres import Postgres
from webhooks_app.database import OUT_OF_REACH, READ_ONLY, WRITE_NOTHING, why_unusable

pytestmark = [
    pytest.mark.usefixtures("foreign_database"),
    pytest.mark.parametrize("foreign_database", ["debian"], indirect=True),
]

_TABLE = "CREATE TEMP TABLE kept (number int PRIMARY KEY)"
_TWICE = "INSERT INTO kept VALUES (1), (1)"
_BUSY = "The database is busy."
_SLOW = "The database took too long."


@pytest.fixture(autouse=True)
def _new_session(foreign_database: Postgres, django_db_blocker: Any) -> Iterator[None]:
    """What a test does to its session ends with it, and no test does more."""
    with django_db_blocker.unblock():
        yield
        connection.close()


def _end_session(*more: str) -> list[str]:
    return [*more, "SELECT pg_terminate_backend(pg_backend_pid())"]


#: Statements of one session, the last of which fails, and what that means.
TABLE: dict[str, tuple[list[str], str | None]] = {
    "read-only": (["SET default_transaction_read_only = on", WRITE_NOTHING], READ_ONLY),
    "row lock": (
        ["SET default_transaction_read_only = on", "SELECT 1 FROM django_session FOR UPDATE"],
        READ_ONLY,
    ),
    "ended by an operator": (_end_session(), OUT_OF_REACH),
    "statement_timeout": (["SET statement_timeout = 10", "SELECT pg_sleep(5)"], _SLOW),
    "serialization": (["DO $$BEGIN RAISE SQLSTATE '40001'; END$$"], _BUSY),
    "deadlock": (["DO $$BEGIN RAISE SQLSTATE '40P01'; END$$"], _BUSY),
    "lock_timeout": (["DO $$BEGIN RAISE SQLSTATE '55P03'; END$$"], _BUSY),
    "disk full": (["DO $$BEGIN RAISE SQLSTATE '53100'; END$$"], "The database's disk is full."),
    "memory": (["DO $$BEGIN RAISE SQLSTATE '53200'; END$$"], "The database is out of memory."),
    "connections": (
        ["DO $$BEGIN RAISE SQLSTATE '53300'; END$$"],
        "The database takes no more connections.",
    ),
    "starting up": (["DO $$BEGIN RAISE SQLSTATE '57P03'; END$$"], OUT_OF_REACH),
    "syntax": (["SELEC 1"], None),
    "no such table": (["SELECT 1 FROM nothing_here"], None),
    "division": (["SELECT 1 / 0"], None),
    "twice the same key": ([_TABLE, _TWICE], None),
    "a null": ([_TABLE, "INSERT INTO kept VALUES (NULL)"], None),
    "too large a number": (["SELECT 10000000000::int"], None),
}


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("driver", ["django", "psycopg"])
def test_state_of_an_error_tells_whether_the_database_is_usable(
    foreign_database: Postgres, name: str, driver: str
) -> None:
    """Read-only, lost, full and busy are told apart; faults of a statement are none of them."""
    statements, expected = TABLE[name]
    run = _by_django if driver == "django" else _by_psycopg
    with pytest.raises((Error, psycopg.Error)) as caught:
        run(statements)
    assert why_unusable(caught.value) == expected


def _by_django(statements: list[str]) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def _by_psycopg(statements: list[str]) -> None:
    parameters = connection.get_connection_params()
    for name in ("cursor_factory", "context"):
        parameters.pop(name, None)
    with psycopg.connect(**parameters, autocommit=True) as own:
        for statement in statements:
            own.execute(statement)  # type: ignore[arg-type]


def test_what_is_no_error_of_a_database_is_none_of_its_troubles() -> None:
    """Neither success nor somebody else's error is taken for an outage."""
    assert why_unusable(None) is None
    assert why_unusable(TimeoutError("the receiver")) is None
    assert why_unusable(psycopg.ProgrammingError("the query has 0 placeholders")) is None


@pytest.mark.parametrize(
    "place",
    ["host=127.0.0.1 port=1", "host=no-such-host.invalid", "host=/nowhere", "host=240.0.0.1"],
)
def test_server_that_nobody_reaches_is_out_of_reach(place: str) -> None:
    """No port, no name, no socket and no route are outages, though they carry no SQLSTATE."""
    with pytest.raises(psycopg.OperationalError) as caught:
        psycopg.connect(place, connect_timeout=2)
    assert why_unusable(caught.value) == OUT_OF_REACH


def test_server_without_a_connection_left_is_unusable(foreign_database: Postgres) -> None:
    """ "Too many connections" comes while connecting, where the driver tells no SQLSTATE."""
    name = connection.settings_dict["NAME"]
    foreign_database.execute(f"ALTER DATABASE {name} CONNECTION LIMIT 0")
    try:
        with pytest.raises(Error) as caught:
            connection.ensure_connection()
    finally:
        foreign_database.execute(f"ALTER DATABASE {name} CONNECTION LIMIT -1")
    assert why_unusable(caught.value) == OUT_OF_REACH


def test_session_that_saw_a_read_only_database_is_left(foreign_database: Postgres) -> None:
    """A stale session answers a health check for ever; Django opens another for what follows."""
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
    for _ in range(2):
        with suppress(Error):
            connection.cursor().execute(WRITE_NOTHING)
    connection.cursor().execute(WRITE_NOTHING)


def test_session_is_left_after_its_transaction(foreign_database: Postgres) -> None:
    """Inside a transaction the session is still to roll back, and is left at the next occasion."""
    from django.db import close_old_connections

    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
    with pytest.raises(Error), transaction.atomic():
        connection.cursor().execute(WRITE_NOTHING)
    close_old_connections()
    connection.cursor().execute(WRITE_NOTHING)


def test_session_stays_after_an_error_that_is_no_outage() -> None:
    """A row that is there already costs no new connection."""
    pid = _pid()
    with suppress(IntegrityError):
        _by_django([_TABLE, _TWICE])
    assert _pid() == pid


def _pid() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


TROUBLES: dict[str, tuple[dict[str, str], Callable[[Any], Any]]] = {
    "query_wait_timeout": (
        {"default_pool_size": "1", "query_wait_timeout": "1"},
        lambda pool: _second_transaction(pool),
    ),
    "no more connections": ({"max_client_conn": "1"}, lambda pool: _second_client(pool)),
    "server connection crashed": ({}, lambda pool: _crash(pool)),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_troubles_of_pgbouncer_are_outages(foreign_database: Postgres, trouble: str) -> None:
    """PgBouncer's own errors mean that the database cannot be used now."""
    settings, provoke = TROUBLES[trouble]
    with (
        pgbouncer.in_front_of(foreign_database, **settings) as pool,
        pytest.raises(psycopg.Error) as caught,
    ):
        provoke(pool.url(connection.settings_dict["NAME"]))
    assert why_unusable(caught.value) == OUT_OF_REACH


def _second_transaction(url: str) -> None:
    with psycopg.connect(url) as first, psycopg.connect(url) as second:
        first.execute("SELECT 1")
        second.execute("SELECT 1")


def _second_client(url: str) -> None:
    with psycopg.connect(url), psycopg.connect(url):
        pass


def _crash(url: str) -> None:
    with psycopg.connect(url) as own:
        own.execute("SELECT pg_terminate_backend(pg_backend_pid())")
