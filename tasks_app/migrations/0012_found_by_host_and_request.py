from django.db import migrations, models
from django.db.models.functions import Lower

HOST = models.Func(
    models.F("callback_url"),
    models.Value(r"^[^:]+://(\[[^]]*\]|[^/?#:]+)"),
    function="substring",
    output_field=models.TextField(),
)


class Migration(migrations.Migration):
    dependencies = [("tasks_app", "0011_reach_and_find")]

    operations = [
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                Lower(HOST),
                models.F("created_at"),
                models.F("id"),
                condition=~models.Q(callback_url=""),
                name="task_callback_host",
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                fields=["request_id", "created_at", "id"],
                condition=~models.Q(request_id=""),
                name="task_request_page",
            ),
        ),
    ]
