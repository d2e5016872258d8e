"""What does an operator see of what clients handed in? What tasks made is on their pages."""

from __future__ import annotations

from collections.abc import Sequence

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.utils.html import format_html
from unfold.decorators import display

from tasks_app.admin.media import link
from tasks_app.models import AssetState, MediaFile
from tasks_app.state.find import search_assets
from webhooks_app.admin.base import ReadOnlyAdmin, utc
from webhooks_app.admin.lists import SEARCHED_BY, known_values
from webhooks_app.shown import safe_url

TONES = {"ready": "success", "pending": "info", "failed": "danger", "deleting": "warning"}


@admin.register(MediaFile)
class AssetAdmin(ReadOnlyAdmin):
    """Uploads and fetched URLs, by how long they stay; the index holds no others."""

    list_display = ["id", "project_id", "shown_state", "origin", "media_type", "size", "at_end"]
    list_filter = [known_values("state", "state", AssetState.choices)]
    search_fields = ["id"]
    search = staticmethod(search_assets)
    search_help_text = f"{SEARCHED_BY}; or an asset's id"
    ordering = ["-expires_at"]
    at_end = utc("expires_at", "kept until")
    fields = [
        *("id", "project_id", "shown_state", "origin", "content", "size", "sha256"),
        *("media_type", "width", "height", "duration", "fps", "source", "error_code", "attempts"),
        *("created_at", "expires_at"),
    ]
    readonly_fields = ["shown_state", "content", "size", "source"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[MediaFile]:
        """Return what clients handed in: only that has an end of its own."""
        return super().get_queryset(request).filter(expires_at__isnull=False)

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> MediaFile | None:
        """Return the asset, None for a text that no id can be."""
        return None if "\x00" in object_id else super().get_object(request, object_id, from_field)

    @display(description="state", label=TONES)
    def shown_state(self, row: MediaFile) -> Sequence[str]:
        return row.state, row.error_code or row.state

    @display(description="size")
    def size(self, row: MediaFile) -> str:
        return filesizeformat(row.size_bytes)

    @display(description="source")
    def source(self, row: MediaFile) -> str:
        """Show the URL without possible secrets."""
        return safe_url(row.source_url) if row.source_url else "-"

    @display(description="content")
    def content(self, row: MediaFile) -> str:
        """Show a link to the file, once it is known to be media."""
        if row.state != AssetState.READY or not row.path:
            return "-"
        return format_html('<a href="{}">open</a>', link(row))
