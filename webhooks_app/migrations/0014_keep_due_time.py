from django.db import migrations

import webhooks_app.outbox.recover  # noqa: F401 - it and what it imports define them
from webhooks_app.functions import create_functions


class Migration(migrations.Migration):
    dependencies = [("webhooks_app", "0013_delivery_in_order")]

    operations = [create_functions(["webhooks_record_852db29c"])]
