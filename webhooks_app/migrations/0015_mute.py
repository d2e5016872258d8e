from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("webhooks_app", "0014_keep_due_time")]

    operations = [
        migrations.AddField(
            model_name="webhookdestination",
            name="muted_until",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AlterField(
            model_name="webhookmessage",
            name="status",
            field=models.CharField(
                choices=[
                    ("pending", "Pending"),
                    ("delivered", "Delivered"),
                    ("dead", "Dead"),
                    ("superseded", "Superseded"),
                    ("cancelled", "Cancelled"),
                    ("replayed", "Replayed"),
                    ("set_aside", "Set aside"),
                ],
                default="pending",
                max_length=10,
            ),
        ),
    ]
