"""Does the table of files become one of assets without stopping the service?"""

from __future__ import annotations

import re
import uuid
from importlib import import_module
from io import StringIO
from types import SimpleNamespace

import pytest
from django.core.management import call_command
from django.db import connection

from tasks_app.models import MediaFile
from tasks_app.state import assets
from tests.support import factories

filled = import_module("tasks_app.migrations.0007_assets_filled")
ROWS = 250

_AS_BEFORE = """
INSERT INTO tasks_app_mediafile
  (id, task_id, run_token, role, path, media_type, size_bytes, sha256, codecs, link_token,
   created_at)
SELECT md5('id' || n || %s::text), %s, %s, 'primary', 'p', 'video/mp4', 1, '', '[]',
  md5('token' || n || %s::text), now()
FROM generate_series(1, %s) n
"""


def insert_as_before(project: str, count: int) -> None:
    """Insert rows as the version before does: without the new columns."""
    task = factories.make_task("completed", project_id=project)
    with connection.cursor() as cursor:
        cursor.execute(_AS_BEFORE, [task.pk, task.pk, uuid.uuid4(), task.pk, count])


def without_project() -> int:
    return MediaFile.objects.filter(project_id="").count()


@pytest.mark.django_db
def test_old_rows_get_the_project_of_their_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """In batches over the whole table, and again after an interruption, which changes nothing."""
    monkeypatch.setattr(filled, "BATCH", 17)
    insert_as_before("one", ROWS)
    insert_as_before("two", ROWS)
    assert without_project() == 2 * ROWS
    editor = SimpleNamespace(connection=connection)
    for _ in range(2):
        filled.fill_projects(None, editor)
        counts = [MediaFile.objects.filter(project_id=name).count() for name in ("one", "two")]
        assert counts == [ROWS, ROWS]
    row = MediaFile.objects.filter(project_id="one").first()
    assert row is not None
    assert (row.state, row.origin, row.same_as, row.expires_at) == ("ready", "task", "", None)


@pytest.mark.django_db
def test_rows_of_an_older_process_are_filled_in_later() -> None:
    """What is inserted while two versions run gets its project from the daily run, in steps."""
    insert_as_before("late", 25)
    assert [assets.fill_projects(10) for _ in range(4)] == [10, 10, 5, 0]
    assert MediaFile.objects.filter(project_id="late").count() == 25


@pytest.mark.django_db
def test_no_statement_reads_the_table_under_a_lock() -> None:
    """No check, key or index is made on it in a transaction, and no column has to be written."""
    told = StringIO()
    call_command("sqlmigrate", "tasks_app", "0006", stdout=told, no_color=True)
    changes = [
        line
        for line in told.getvalue().replace('"', "").splitlines()
        if line.startswith("ALTER TABLE tasks_app_mediafile ")
    ]
    assert len(changes) >= 10
    for line in changes:
        assert re.search(r" (ADD COLUMN \w+ |ALTER COLUMN \w+ DROP NOT NULL)", line), line
        assert not re.search(r"CHECK|REFERENCES|UNIQUE| TYPE ", line), line
    assert filled.Migration.atomic is False
