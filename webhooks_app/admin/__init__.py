"""What does an operator see and do about webhooks? One module per page."""

from webhooks_app.admin import (
    credentials,
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
    "credentials",
    "dashboard",
    "deliveries",
    "destinations",
    "endpoints",
    "lists",
    "messages",
    "operator_actions",
    "replays",
]
