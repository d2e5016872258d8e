"""Django's handle on this package."""

import gc

from django.apps import AppConfig


class WebhooksAppConfig(AppConfig):
    name = "webhooks_app"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "Webhooks"

    def ready(self) -> None:
        """Register the system checks; as the last app, tune the garbage collector."""
        from webhooks_app import checks  # noqa: F401 - importing registers
        from webhooks_app.database import renew_unusable_connections

        renew_unusable_connections()
        gc.freeze()  # objects of start-up live for ever: skipping them saves a third of a command
        gc.enable()
