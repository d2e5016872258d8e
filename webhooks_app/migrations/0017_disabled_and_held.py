from django.db import migrations, models

import webhooks_app.outbox.stop  # noqa: F401 - it defines it
from webhooks_app.functions import create_functions


class Migration(migrations.Migration):
    dependencies = [("webhooks_app", "0016_alert")]

    operations = [
        migrations.AddIndex(
            model_name="webhookdestination",
            index=models.Index(
                condition=models.Q(("disabled_at__isnull", False)),
                fields=["disabled_at"],
                name="destination_disabled",
            ),
        ),
        migrations.AddIndex(
            model_name="webhookdestination",
            index=models.Index(
                condition=models.Q(("held_until__isnull", False)),
                fields=["held_until"],
                name="destination_held",
            ),
        ),
        create_functions(["webhooks_bury_disabled_661d54cb"]),
    ]
