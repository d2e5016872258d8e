"""Which fixtures provide foreign databases? One that Django uses, and the servers themselves."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connections

from moviesvc import database_url
from tests.support.servers import pgbouncer, postgres

#: What the main path is tried on: the oldest version that is supported, Debian's with its JIT
#: compiler, and the latter through a pool that keeps no session.
SERVERS = ("oldest", "debian", "pooled")


@contextmanager
def django_at(url: str, blocker: Any) -> Iterator[None]:
    """Make ``url`` the database of this process and of all that it starts.

    The settings of a connection are one dictionary for all threads, so it is changed in place.
    """
    ours = settings.DATABASES["default"]
    kept = dict(ours)
    with blocker.unblock(), pytest.MonkeyPatch.context() as patch:
        connections["default"].close()
        patch.setitem(os.environ, "DATABASE_URL", url)
        ours.update(_settings_of(url))
        try:
            yield
        finally:
            connections["default"].close()
            ours.clear()
            ours.update(kept)


def _settings_of(url: str) -> dict[str, Any]:
    found = database_url.read(url)
    return {name: found[name] for name in ("NAME", "USER", "PASSWORD", "HOST", "PORT", "OPTIONS")}


def migrate() -> None:
    """Apply migrations to the database that Django uses."""
    call_command("migrate", interactive=False, verbosity=0)
    connections["default"].close()


@pytest.fixture(scope="session")
def stock_servers(django_db_setup: None, django_db_blocker: Any) -> Iterator[Any]:
    """A function that returns the running server of a version, with our tables in its database.

    Started when first asked for, and kept for all modules: each test leaves the tables empty.
    """
    with ExitStack() as stack:
        known: dict[str, postgres.Postgres] = {}

        def get(version: str) -> postgres.Postgres:
            if version not in known:
                server = stack.enter_context(postgres.running(version))
                with django_at(server.make_database(), django_db_blocker):
                    migrate()
                known[version] = server
            return known[version]

        yield get


@pytest.fixture(scope="module", params=SERVERS)
def foreign_database(
    request: pytest.FixtureRequest, stock_servers: Any, django_db_blocker: Any
) -> Iterator[postgres.Postgres]:
    """Each server in turn, with Django and every child process at its database."""
    server = stock_servers("oldest" if request.param == "oldest" else "debian")
    with ExitStack() as stack:
        url = server.url()
        if request.param == "pooled":
            url = stack.enter_context(pgbouncer.in_front_of(server)).url()
        stack.enter_context(django_at(url, django_db_blocker))
        yield server
