from django.db import migrations

import webhooks_app.outbox.recover  # noqa: F401 - it and what it imports define them
from webhooks_app.functions import create_functions


class Migration(migrations.Migration):
    dependencies = [("webhooks_app", "0009_planned_once")]

    operations = [
        create_functions(
            [
                "webhooks_claim_dd29e65d",
                "webhooks_expired_leases_ddf5fb5d",
                "webhooks_close_ended_046b7d12",
            ]
        )
    ]
