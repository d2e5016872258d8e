from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("webhooks_app", "0011_reach_and_repair")]

    operations = [
        migrations.AddIndex(
            model_name="replayjob",
            index=models.Index(fields=["scope", "-created_at", "-id"], name="replay_scope_page"),
        ),
        migrations.AddIndex(
            model_name="webhookevent",
            index=models.Index(
                fields=["request_id", "-id"],
                condition=~models.Q(request_id=""),
                name="event_request_page",
            ),
        ),
    ]
