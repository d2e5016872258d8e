"""The project of each old file, and the indexes: in small steps, beside all that goes on.

Not in a transaction. If it is interrupted, start it again: what is filled stays so, and an index
that was not finished is made anew.
"""

from datetime import UTC, datetime

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models

#: Rows read in one statement, a few milliseconds each.
BATCH = 5_000

_BATCH = """
WITH batch AS (
  SELECT id FROM tasks_app_mediafile WHERE id > %s ORDER BY id LIMIT %s
), filled AS (
  UPDATE tasks_app_mediafile file SET project_id = task.project_id
  FROM batch, tasks_app_task task
  WHERE file.id = batch.id AND file.project_id = '' AND task.id = file.task_id
)
SELECT max(id) FROM batch
"""


def fill_projects(apps, schema_editor):
    """Give each file the project of its task, by the order of the primary key."""
    last = ""
    with schema_editor.connection.cursor() as cursor:
        while last is not None:
            cursor.execute(_BATCH, [last, BATCH])
            last = cursor.fetchone()[0]


class MakeIndex(AddIndexConcurrently):
    """Makes an index while others write; what an interrupted try left is dropped first."""

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        """Drop, and make."""
        schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {self.index.name}")
        super().database_forwards(app_label, schema_editor, from_state, to_state)


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("tasks_app", "0006_assets")]

    operations = [
        migrations.RunPython(fill_projects, migrations.RunPython.noop, elidable=True),
        MakeIndex(
            "mediafile",
            models.Index(fields=["project_id", "created_at", "id"], name="asset_project_page"),
        ),
        MakeIndex("mediafile", models.Index(fields=["created_at", "id"], name="asset_page")),
        MakeIndex(
            "mediafile",
            models.Index(
                condition=models.Q(("due_at__isnull", False)), fields=["due_at"], name="asset_due"
            ),
        ),
        MakeIndex(
            "mediafile",
            models.Index(
                condition=models.Q(("expires_at__isnull", False)),
                fields=["expires_at"],
                name="asset_expiry",
            ),
        ),
        MakeIndex(
            "mediafile",
            models.Index(
                condition=models.Q(("same_as", ""), _negated=True),
                fields=["same_as"],
                name="asset_same_as",
            ),
        ),
        migrations.SeparateDatabaseAndState(
            [
                migrations.RunSQL(
                    [
                        "DROP INDEX CONCURRENTLY IF EXISTS asset_once",
                        "CREATE UNIQUE INDEX CONCURRENTLY asset_once ON tasks_app_mediafile"
                        " (project_id, sha256) WHERE origin IN ('upload', 'url')"
                        " AND same_as = '' AND state = 'ready'",
                    ],
                    "DROP INDEX CONCURRENTLY IF EXISTS asset_once",
                )
            ],
            [
                migrations.AddConstraint(
                    "mediafile",
                    models.UniqueConstraint(
                        condition=models.Q(
                            ("origin__in", ["upload", "url"]), ("same_as", ""), ("state", "ready")
                        ),
                        fields=("project_id", "sha256"),
                        name="asset_once",
                    ),
                )
            ],
        ),
        MakeIndex(
            "task",
            models.Index(
                condition=models.Q(
                    ("available_at__gte", datetime(9999, 1, 1, tzinfo=UTC)), ("status", "queued")
                ),
                fields=["available_at"],
                name="task_unready",
            ),
        ),
    ]
