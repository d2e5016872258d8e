"""Do we leave any state on a database session, which a pooler gives to other clients?"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator

import psycopg
import pytest
from django.db import connection

from tasks_app.state.submit import Submit, submit
from tasks_app.upkeep.sweep import sweep
from tasks_app.work import run
from tests import ROOT
from tests.support import remote_work
from tests.support.fake_provider import FakeProvider
from tests.support.receiver import Receiver
from tests.support.running import SCOPE, is_all_ended, publish, running_engine
from tests.support.servers.postgres import Postgres
from tests.support.waiting import wait_until
from tests.webhooks.conftest import count_logged  # noqa: F401 - a fixture
from webhooks_app.signing.store import get_or_create

#: What stays on a session when its statement has ended.
STAYS = re.compile(
    r"^\s*SET (?=\w)(?!LOCAL\b)|set_config\([^)]*,\s*false|pg_(try_)?advisory_lock(_shared)?\("
    r"|^\s*(LISTEN|PREPARE|DECLARE|LOAD) |CREATE (TEMP|TEMPORARY) |ON COMMIT PRESERVE"
)


def statements() -> Iterator[tuple[str, str]]:
    """Yield every text in the product's code, with the file it is in."""
    for app in ("moviesvc", "tasks_app", "webhooks_app"):
        for path in (ROOT / app).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield path.relative_to(ROOT).as_posix(), node.value


def test_no_statement_leaves_anything_on_a_session() -> None:
    """One does, LISTEN, which is never sent where a pooler stands between."""
    found = {(path, text) for path, text in statements() if STAYS.search(text)}
    assert found == {("webhooks_app/delivery/engine.py", "LISTEN ")}


@pytest.mark.parametrize(
    "statement",
    ["SET jit = off", "SELECT set_config('jit', 'off', false)", "SELECT pg_advisory_lock(1)"],
)
def test_the_rule_bites(statement: str) -> None:
    """The pattern finds each kind that was there once."""
    assert STAYS.search(statement)


LEFT = """
SELECT name FROM pg_settings WHERE source = 'session'
  AND name NOT IN ('application_name', 'client_encoding', 'DateStyle', 'TimeZone',
    'standard_conforming_strings')  -- PgBouncer sets these anew for each client
UNION ALL SELECT 'advisory lock' FROM pg_locks WHERE locktype = 'advisory'
UNION ALL SELECT 'prepared: ' || name FROM pg_prepared_statements
UNION ALL SELECT 'listens: ' || channel FROM pg_listening_channels() AS channel
UNION ALL SELECT 'table: ' || relname FROM pg_class WHERE relpersistence = 't'
"""


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("foreign_database", ["pooled"], indirect=True)
def test_a_stranger_in_the_same_pool_finds_nothing_of_ours(
    foreign_database: Postgres,
    count_logged: Callable[[str], int],  # noqa: F811 - the fixture
    settings: object,
) -> None:
    """After submits, work, sweeps and deliveries through PgBouncer, every session is as new.

    The engine says once that it polls.
    """
    provider = {"image_generation": "tests.support.providers.StillProvider"}
    settings.GENERATION_PROVIDERS = provider  # type: ignore[attr-defined]
    with Receiver([500, 200], secret=get_or_create(SCOPE)) as receiver, running_engine():
        for number in range(20):
            publish(receiver.url, subject=f"pooled-{number}")
        submit(Submit("p", "image_generation", {"prompt": "x"}))
        run.run_next("image_generation")
        sweep()
        wait_until(is_all_ended, timeout=20)
    assert count_logged("A pooler stands before the database") == 1
    strangers = [psycopg.connect(_url()) for _ in range(20)]
    for stranger in strangers:  # each holds a session of the pool, ours among them
        assert stranger.execute(LEFT).fetchall() == []
    for stranger in strangers:
        stranger.close()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("foreign_database", ["pooled"], indirect=True)
def test_work_at_providers_is_done_through_a_pooler(
    foreign_database: Postgres, settings: object
) -> None:
    """Twenty jobs, each looked at until it has ended, and all sessions are as new afterwards."""
    with FakeProvider() as fake:
        settings.REPLICATE_BASE_URL = fake.url  # type: ignore[attr-defined]
        settings.REPLICATE_API_TOKEN = remote_work.KEY  # type: ignore[attr-defined]
        settings.PROVIDER_ALLOW_NETWORKS = ["127.0.0.0/8"]  # type: ignore[attr-defined]
        fake.script = remote_work.good_run(fake.url)
        remote_work.use()
        with remote_work.remote_work():
            tasks = [remote_work.begin(f"p{number}") for number in range(20)]
            assert {remote_work.ended(task).status for task in tasks} == {"completed"}
        assert fake.count(remote_work.CREATE) == 20
    strangers = [psycopg.connect(_url()) for _ in range(20)]
    for stranger in strangers:
        assert stranger.execute(LEFT).fetchall() == []
    for stranger in strangers:
        stranger.close()


def _url() -> str:
    known = connection.get_connection_params()
    place = {"host": known["host"], "port": known["port"], "dbname": known["dbname"]}
    return psycopg.conninfo.make_conninfo(
        **place, user=known["user"], password=known["password"], application_name="stranger"
    )
