"""Who did what to the outbox, when, and why?"""

from __future__ import annotations

from django.contrib import admin

from webhooks_app.admin.base import ReadOnlyAdmin, utc
from webhooks_app.models import OperatorAction


@admin.register(OperatorAction)
class RecordAdmin(ReadOnlyAdmin):
    """The operators' log; written by the admin, the API and commands."""

    list_display = ["at_done", "actor", "action", "target", "reason"]
    list_filter = ["at"]
    ordering = ["-id"]
    at_done = utc("at", "at")
    fields = ["at", "actor", "action", "target", "reason"]
