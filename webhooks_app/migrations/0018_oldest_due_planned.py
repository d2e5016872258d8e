from django.db import migrations

import webhooks_app.metrics  # noqa: F401 - it defines it
from webhooks_app.functions import create_functions


class Migration(migrations.Migration):
    dependencies = [("webhooks_app", "0017_disabled_and_held")]

    operations = [create_functions(["webhooks_oldest_due_7a6731dd"])]
