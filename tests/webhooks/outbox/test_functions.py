"""Are the statements that PostgreSQL plans once there, under the names that the code calls?"""

from __future__ import annotations

import pytest
from django.db import connection

import tasks_app.state.statements
import webhooks_app.outbox.recover  # noqa: F401 - both, and what they import, define functions
from tests import ROOT
from webhooks_app.functions import Function

pytestmark = pytest.mark.django_db
MIGRATIONS = "migrations/0*.py"


def test_a_migration_names_every_function_that_the_code_calls() -> None:
    """A statement that was changed without a migration fails the test: its digest differs."""
    files = [
        path for app in ("tasks_app", "webhooks_app") for path in (ROOT / app).glob(MIGRATIONS)
    ]
    named = "".join(path.read_text() for path in files)
    assert [name for name in Function.known if f'"{name}"' not in named] == []
    with connection.cursor() as cursor:
        cursor.execute("SELECT proname FROM pg_proc WHERE proname = ANY(%s)", [[*Function.known]])
        assert {name for (name,) in cursor.fetchall()} == set(Function.known)


def test_settings_of_a_function_end_with_its_call() -> None:
    """A function's planner settings do not change those of its connection."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT name, setting FROM pg_settings ORDER BY name")
        before = cursor.fetchall()
        cursor.execute(tasks_app.state.statements._CLAIM.call, _claim())
        cursor.execute("SELECT name, setting FROM pg_settings ORDER BY name")
        after = [row for row in cursor.fetchall() if not row[0].startswith("plpgsql.")]
    # PL/pgSQL adds settings of its own when it is loaded.
    assert after == [row for row in before if not row[0].startswith("plpgsql.")]


def _claim() -> dict[str, object]:
    token = "00000000-0000-0000-0000-000000000000"
    return {"task_type": "image_generation", "token": token, "lease_seconds": 30}
