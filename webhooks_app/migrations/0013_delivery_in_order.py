from django.db import migrations

import webhooks_app.outbox.order  # noqa: F401 - it defines them
from webhooks_app.functions import create_functions


class Migration(migrations.Migration):
    dependencies = [("webhooks_app", "0012_found_by_request")]

    operations = [
        create_functions(
            [
                "webhooks_before_62f8ef96",
                "webhooks_release_2efc0304",
                "webhooks_release_unlocked_82ab72fb",
                "webhooks_orphans_2f6014cf",
            ]
        )
    ]
