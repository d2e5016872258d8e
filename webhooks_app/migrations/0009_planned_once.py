from django.db import migrations

import webhooks_app.outbox.recover  # noqa: F401 - it and what it imports define them
from webhooks_app.functions import create_functions


class Migration(migrations.Migration):
    dependencies = [("webhooks_app", "0008_names_in_the_admin")]

    operations = [
        create_functions(
            [
                "webhooks_claim_995bce95",
                "webhooks_record_b5a0dde7",
                "webhooks_supersede_older_7946d5e1",
                "webhooks_supersede_late_c477107b",
                "webhooks_next_due_f74ed73a",
                "webhooks_observe_c84e3680",
                "webhooks_expired_leases_3469f529",
                "webhooks_recover_a3f9d5c2",
                "webhooks_close_ended_5ac1154f",
                "webhooks_expire_held_b7276267",
            ]
        )
    ]
