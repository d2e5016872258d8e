"""How does an operator see who subscribed to what?"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from django.contrib import admin
from django.db.models.functions import Now
from django.http import HttpRequest

from webhooks_app.admin.base import Operation, ReadOnlyAdmin, actor, cell, clipped, sent_ping, utc
from webhooks_app.admin.lists import SEARCHED_BY, known_values
from webhooks_app.models import SigningSecret, WebhookEndpoint, WebhookMessage
from webhooks_app.operators import endpoints
from webhooks_app.outbox import search_endpoints
from webhooks_app.shown import safe_url

CHANGE = "webhooks_app.change_webhookendpoint"


def _switch(is_enabled: bool) -> Any:
    def perform(request: HttpRequest, row: WebhookEndpoint, cleaned: dict[str, Any]) -> str:
        reason = cleaned["reason"]
        changes: dict[str, Any] = {"is_enabled": is_enabled}
        if not is_enabled:
            changes["disabled_reason"] = reason[:300]
        endpoints.update(row, changes, actor=actor(request), reason=reason)
        return f"The endpoint is {'enabled' if is_enabled else 'disabled'}."

    return perform


def _ping(request: HttpRequest, row: WebhookEndpoint, cleaned: dict[str, Any]) -> str:
    message = endpoints.ping(row, actor=actor(request), reason=cleaned["reason"])
    return sent_ping(message)


@admin.register(WebhookEndpoint)
class EndpointAdmin(ReadOnlyAdmin):
    """Subscriptions. They are made through the API; secrets are never shown here."""

    page_template = "webhooks_app/endpoint.html"
    list_display = ["receiver", "project", "types", "shown_state", "at_made"]
    list_filter = [known_values("state", "is_enabled", [(True, "enabled"), (False, "disabled")])]
    search_fields = ["url"]
    search = staticmethod(search_endpoints)
    search_help_text = SEARCHED_BY
    ordering = ["-created_at"]
    at_made = utc("created_at", "made")
    project = cell("project", attrgetter("scope"))
    receiver = cell("receiver", lambda row: clipped(row.url))
    types = cell("events", lambda row: ", ".join(row.event_types) or "all")
    shown_state = cell(
        "state",
        lambda row: (word := "enabled" if row.is_enabled else "disabled", word),
        label={"enabled": "success", "disabled": "danger"},
    )
    operations = (
        Operation(
            "ping",
            "Send a ping",
            CHANGE,
            "Sends a test event (webhook.ping) to this endpoint, signed as every other one.",
            _ping,
            icon="network_ping",
        ),
        Operation(
            "disable",
            "Disable",
            CHANGE,
            "New events are not sent there. What is already in the outbox goes out.",
            _switch(False),
            is_offered=lambda row: row.is_enabled,
            icon="block",
            is_dangerous=True,
        ),
        Operation(
            "enable",
            "Enable",
            CHANGE,
            "Events from now on are sent there again.",
            _switch(True),
            is_offered=lambda row: not row.is_enabled,
            icon="check",
        ),
    )

    def page_context(self, request: HttpRequest, row: WebhookEndpoint) -> dict[str, Any]:
        latest = WebhookMessage.objects.filter(endpoint=row).select_related("event")
        secrets = SigningSecret.objects.filter(endpoint=row).defer("ciphertext")
        return {
            "title": safe_url(row.url),
            "url": safe_url(row.url),
            "types": ", ".join(row.event_types) or "all",
            "latest": latest.defer("event__body").order_by("-id")[:15],
            "secrets": secrets.exclude(expires_at__lt=Now()).order_by("-created_at")[:5],
        }

    def name_of(self, row: WebhookEndpoint) -> str:
        return f"{safe_url(row.url)} ({row.scope})"
