"""What does an operator see and do about webhooks? One module per page."""

from django.contrib import admin

from webhooks_app.admin import (
    deliveries,
    destinations,
    endpoints,
    messages,
    operator_actions,
    replays,
)

__all__ = [
    "bars",
    "base",
    "dashboard",
    "deliveries",
    "destinations",
    "endpoints",
    "lists",
    "messages",
    "operator_actions",
    "replays",
]

admin.site.index_template = "webhooks_app/dashboard.html"
admin.site.index_title = "Dashboard"
