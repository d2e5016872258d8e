"""Columns for assets: none needs the table to be read or rewritten.

No CHECK, no unique constraint and no foreign key on the table of files here: PostgreSQL would read
all of it, and let nobody write meanwhile. Its old rows get their project in the next migration.
"""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("tasks_app", "0005_remote_jobs")]

    operations = [
        migrations.AddField(
            "mediafile",
            "project_id",
            models.CharField(db_default="", default="", max_length=100),
        ),
        migrations.AddField(
            "mediafile",
            "state",
            models.CharField(
                choices=[
                    ("pending", "Pending"),
                    ("ready", "Ready"),
                    ("failed", "Failed"),
                    ("deleting", "Deleting"),
                ],
                db_default="ready",
                default="ready",
                max_length=8,
            ),
        ),
        migrations.AddField(
            "mediafile",
            "origin",
            models.CharField(
                choices=[("task", "Task"), ("upload", "Upload"), ("url", "Url")],
                db_default="task",
                default="task",
                max_length=6,
            ),
        ),
        migrations.AddField(
            "mediafile",
            "source_url",
            models.CharField(blank=True, db_default="", default="", max_length=2048),
        ),
        migrations.AddField(
            "mediafile",
            "error_code",
            models.CharField(blank=True, db_default="", default="", max_length=40),
        ),
        migrations.AddField(
            "mediafile", "attempts", models.SmallIntegerField(db_default=0, default=0)
        ),
        migrations.AddField("mediafile", "due_at", models.DateTimeField(blank=True, null=True)),
        migrations.AddField("mediafile", "expires_at", models.DateTimeField(blank=True, null=True)),
        migrations.AddField(
            "mediafile",
            "same_as",
            models.CharField(blank=True, db_default="", default="", max_length=32),
        ),
        migrations.AlterField("mediafile", "run_token", models.UUIDField(blank=True, null=True)),
        # By hand: Django would drop the foreign key and make it anew, for which PostgreSQL reads all.
        migrations.SeparateDatabaseAndState(
            [
                migrations.RunSQL(
                    "ALTER TABLE tasks_app_mediafile ALTER COLUMN task_id DROP NOT NULL",
                    "ALTER TABLE tasks_app_mediafile ALTER COLUMN task_id SET NOT NULL",
                )
            ],
            [
                migrations.AlterField(
                    "mediafile",
                    "task",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="files",
                        to="tasks_app.task",
                    ),
                )
            ],
        ),
        migrations.CreateModel(
            name="TaskInput",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("name", models.CharField(max_length=30)),
                ("position", models.PositiveSmallIntegerField(default=0)),
                (
                    "file",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="uses",
                        to="tasks_app.mediafile",
                    ),
                ),
                (
                    "task",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="inputs",
                        to="tasks_app.task",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("task", "name", "position"), name="task_input_once"
                    )
                ]
            },
        ),
        migrations.AddField(
            "idempotencykey",
            "file",
            models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                to="tasks_app.mediafile",
            ),
        ),
        migrations.SeparateDatabaseAndState(
            [
                migrations.RunSQL(
                    "ALTER TABLE tasks_app_idempotencykey ALTER COLUMN task_id DROP NOT NULL",
                    "ALTER TABLE tasks_app_idempotencykey ALTER COLUMN task_id SET NOT NULL",
                )
            ],
            [
                migrations.AlterField(
                    "idempotencykey",
                    "task",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        to="tasks_app.task",
                    ),
                )
            ],
        ),
    ]
