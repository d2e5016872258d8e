"""Which fixtures are shared by all tests? Clients of the API and of the admin, and clean state."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client

from tasks_app import redis_gate
from tests.support import factories
from tests.support.receiver import Receiver
from tests.support.waiting import wait_until


def _turn(item: pytest.Item) -> int:
    """Return whether a test's module begins first, next or last, by what it starts."""
    database = item.get_closest_marker("django_db")
    starts_servers = database is not None and database.kwargs.get("transaction", False)
    if item.get_closest_marker("long"):
        return 0
    return 1 if starts_servers or item.get_closest_marker("e2e") else 2


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the modules that take long and end with the quick ones; else at random.

    So no processor is idle at the end. The order inside a module stays as it is.
    """
    turns: dict[Path, int] = {}
    for item in items:
        turns[item.path] = min(_turn(item), turns.get(item.path, 2))
    items.sort(key=lambda item: turns[item.path])


@pytest.fixture(autouse=True)
def _own_media(settings: Any, tmp_path: Path) -> Iterator[None]:
    """Give every test its own media folder and an empty cache."""
    settings.MEDIA_ROOT = str(tmp_path / "media")
    settings.WORK_ROOT = str(tmp_path / "work")
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": settings.MEDIA_ROOT},
        },
    }
    # Hundreds of times faster than the default, for the users that tests make.
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    cache.clear()
    yield
    cache.clear()


@pytest.fixture(scope="session", autouse=True)
def _last_out(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Wait at the end until nobody uses the database: a process of a test may still be stopping."""
    yield
    if not connection.settings_dict["NAME"].startswith("test_"):
        return  # no test of this worker has used one, and the database of all workers stays
    with django_db_blocker.unblock(), connection.cursor() as cursor:

        def others() -> list[Any]:
            # Autovacuum is no obstacle: it makes way for whoever drops a database.
            cursor.execute(
                "SELECT application_name, state, left(query, 100) FROM pg_stat_activity WHERE"
                " datname = current_database() AND pid <> pg_backend_pid()"
                " AND backend_type = 'client backend'"
            )
            return list(cursor.fetchall())

        wait_until(
            lambda: not others(),
            timeout=30,
            message=lambda: f"nobody uses the test's database: {others()}",
        )


@pytest.fixture(autouse=True)
def _own_requests() -> None:
    """Let every test check the signatures of its own requests only."""
    Receiver.unchecked.clear()


@pytest.fixture(autouse=True)
def _open_gate() -> None:
    """Open the gate of Redis for every test, also after one that shut it."""
    redis_gate.gate.fault = None


@pytest.fixture
def api_key(db: None) -> str:
    """The clear text of a key that may do everything in all projects."""
    return factories.make_api_key()[1]


@pytest.fixture
def api(api_key: str) -> Client:
    """A client that sends ``api_key``."""
    return Client(headers={"x-api-key": api_key})


@pytest.fixture
def operator(db: None) -> Any:
    """A superuser of the admin; the password is ``password``."""
    return factories.make_staff("operator")


@pytest.fixture
def admin_client(operator: Any) -> Client:
    """A client that is logged in to the admin as ``operator``."""
    client = Client()
    client.force_login(operator)
    return client
