"""Django's handle on this package."""

from django.apps import AppConfig


class WebhooksAppConfig(AppConfig):
    name = "webhooks_app"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "Webhooks"

    def ready(self) -> None:
        """Register the system checks; leave no connection over which the database is unusable."""
        from webhooks_app import checks  # noqa: F401 - importing registers
        from webhooks_app.database import renew_unusable_connections

        renew_unusable_connections()
