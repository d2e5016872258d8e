"""What does the log say about a request, and which lines belong to it?"""

from __future__ import annotations

import structlog
from django.http import FileResponse, HttpRequest, HttpResponseBase
from django_structlog.middlewares import RequestMiddleware

from tasks_app.access import throttling


class RequestLog(RequestMiddleware):
    """Bind the request's id to its lines; say nothing of requests that went well.

    django-structlog composes a line at the start and at the end of each request, which our
    configuration drops unless it failed: they cost as much as the key and its rate limit.
    """

    def prepare(self, request: HttpRequest) -> None:
        """Name the request in every line until it ends."""
        structlog.contextvars.bind_contextvars(
            request_id=request.META["HTTP_X_REQUEST_ID"],  # ours, or checked by us
            # Not django-structlog's own: that one believes every X-Forwarded-For.
            ip=throttling.client_address(request),
        )

    def handle_response(self, request: HttpRequest, response: HttpResponseBase) -> None:
        """Write the line of a failure, and keep the names while a stream goes on.

        A file is no stream of ours: the web server sends it, if nothing wraps it here.
        """
        is_stream = response.streaming and not isinstance(response, FileResponse)
        is_plain = response.status_code < 400 and not is_stream
        if is_plain and not hasattr(request, "_raised_exception"):
            structlog.contextvars.clear_contextvars()
        else:
            super().handle_response(request, response)  # type: ignore[arg-type]
