"""What can a client read of the operators' record?"""

from __future__ import annotations

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from webhooks_app.api.access import within
from webhooks_app.api.fields import Moment, Named, ProjectId, Text
from webhooks_app.api.openapi import extend_schema
from webhooks_app.api.pages import PageQuery, page_of, page_response
from webhooks_app.api.read import read_query
from webhooks_app.api.view import WebhookView
from webhooks_app.models import OperatorAction
from webhooks_app.operators import record


class ActionQuery(PageQuery):
    """The query string of the operators' record."""

    actor = Text(
        required=False,
        max_length=150,
        help_text="Who, or the beginning: a user, `key <prefix>` or `command <login>`.",
    )
    action = Named(
        record.read_action,
        known=record.known_actions,
        required=False,
        max_length=60,
        help_text="For example `replay.start`.",
    )
    target = Text(
        required=False,
        max_length=300,
        help_text="What it was done to: its beginning, or the id of a message, event or task, a "
        "host or URL, a request id, or metadata as `key=value`.",
    )
    project_id = ProjectId(required=False)
    since = Moment(required=False, help_text="Done at or after this time.")
    until = Moment(required=False, help_text="Done before this time.")


class ActionSerializer(serializers.ModelSerializer[OperatorAction]):
    """Who did what, to what, when and why."""

    project_id = serializers.SerializerMethodField(
        help_text="The only project that it touched; null: the installation, or several."
    )

    class Meta:
        model = OperatorAction
        fields: tuple[str, ...] = (
            *("id", "at", "actor", "action", "target", "project_id", "reason"),
        )

    def get_project_id(self, row: OperatorAction) -> str | None:
        return row.scope or None


class ActionListView(WebhookView):
    """The operators' record, newest first."""

    actions = {"GET": "admin"}

    @extend_schema(
        operation_id="listOperatorActions",
        parameters=[ActionQuery],
        responses=page_of("OperatorActionPage", ActionSerializer),
    )
    def get(self, request: Request) -> Response:
        """List what operators did; a key of one project sees only what touched that alone."""
        asked = read_query(request, ActionQuery)
        found = within(request, OperatorAction.objects.all())
        lookups = {
            "actor": "actor__startswith",
            "action": "action",
            "project_id": "scope",
            "since": "at__gte",
            "until": "at__lt",
        }
        for name, lookup in lookups.items():
            if name in asked:
                found = found.filter(**{lookup: asked[name]})
        if "target" in asked:
            found = found.filter(record.about(asked["target"]))
        return page_response(request, found, asked, ActionSerializer)
