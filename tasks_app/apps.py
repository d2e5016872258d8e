"""Django's handle on this package."""

from django.apps import AppConfig


class TasksAppConfig(AppConfig):
    name = "tasks_app"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "Tasks"

    def ready(self) -> None:
        from tasks_app import checks  # noqa: F401 - importing registers
        from tasks_app.state import projects
        from webhooks_app import outbox
        from webhooks_app.operators import credentials

        credentials.register_user(projects.auth_users)
        outbox.register_defaults(projects.auths_of_tasks)
