from django.db import migrations, models

import tasks_app.state.statements  # noqa: F401 - it defines the function
from webhooks_app.functions import create_functions


class Migration(migrations.Migration):
    dependencies = [("tasks_app", "0003_served_index")]

    operations = [
        migrations.CreateModel(
            name="Lease",
            fields=[
                (
                    "name",
                    models.CharField(max_length=40, primary_key=True, serialize=False),
                ),
                ("token", models.UUIDField()),
                ("expires_at", models.DateTimeField()),
            ],
        ),
        create_functions(
            [
                "tasks_claim_da46e9fa",
            ]
        ),
    ]
