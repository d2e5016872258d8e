"""The indexes of what is reserved, beside all that goes on; no task of before has a reservation."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models

OPEN = models.Q(("reserved_amount__isnull", False), ("status__in", ["queued", "processing"]))


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("tasks_app", "0008_costs")]

    operations = [
        AddIndexConcurrently(
            "task", models.Index(condition=OPEN, fields=["project_id"], name="task_reserved")
        ),
        AddIndexConcurrently(
            "task", models.Index(condition=OPEN, fields=["api_key"], name="task_reserved_by_key")
        ),
    ]
