import django.db.models.deletion
from django.db import migrations, models

# A claim writes a new version of the row beside the old one (HOT), for which a page needs room.
# Fixed thresholds: a fifth of the history, the default, is far more dead rows than the queue has.
STORAGE = """
ALTER TABLE webhooks_app_webhookmessage SET (fillfactor = 70,
  autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_scale_factor = 0.01);
ALTER TABLE webhooks_app_webhookdelivery SET (
  autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_scale_factor = 0.02);
"""
DEFAULTS = """
ALTER TABLE webhooks_app_webhookmessage RESET (fillfactor,
  autovacuum_vacuum_threshold, autovacuum_vacuum_scale_factor);
ALTER TABLE webhooks_app_webhookdelivery RESET (
  autovacuum_vacuum_threshold, autovacuum_vacuum_scale_factor);
"""


class Migration(migrations.Migration):

    dependencies = [
        ("webhooks_app", "0004_delivery_answer_index"),
    ]

    operations = [
        migrations.AlterField(
            model_name="webhookmessage",
            name="event",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="messages",
                to="webhooks_app.webhookevent",
            ),
        ),
        migrations.RunSQL(STORAGE, DEFAULTS),
    ]
