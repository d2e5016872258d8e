"""What was told to whom about one task? The one webhook address that needs to know tasks."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tasks_app.access.authentication import access_of
from tasks_app.api import queries
from webhooks_app.api.fields import PageQuery, read_query
from webhooks_app.api.pages import OLDEST_FIRST, page_of, page_response, read_page
from webhooks_app.api.serializers import MessageDetailSerializer
from webhooks_app.models import WebhookMessage


class TaskWebhooksView(APIView):
    """The webhook messages of one task."""

    @extend_schema(
        operation_id="listTaskWebhooks",
        parameters=[PageQuery],
        responses=page_of("TaskWebhooksPage", MessageDetailSerializer),
    )
    def get(self, request: Request, task_id: str) -> Response:
        """List the task's messages, oldest first, each with every attempt."""
        task = queries.find_task(access_of(request), task_id)
        asked = read_query(request, PageQuery)
        rows, cursor = read_page(
            WebhookMessage.objects.filter(event__subject=str(task.id))
            .select_related("event", "destination")
            .prefetch_related("deliveries"),
            limit=asked["limit"],
            cursor=asked.get("cursor"),
            order=OLDEST_FIRST,
        )
        return page_response(request, MessageDetailSerializer(rows, many=True).data, cursor)
