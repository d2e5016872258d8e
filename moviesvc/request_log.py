"""What does the log say about a request, and which lines belong to it?"""

from __future__ import annotations

import structlog
from django.http import FileResponse, HttpRequest, HttpResponseBase
from django_structlog.middlewares import RequestMiddleware

from tasks_app.access import throttling
from webhooks_app import traces


class RequestLog(RequestMiddleware):
    """Bind the request's id to its log lines; log only requests that failed.

    django-structlog composes a line at the start and the end of each request, which our settings
    drop unless it failed: that would cost as much as checking the key and its rate limit.
    """

    def prepare(self, request: HttpRequest) -> None:
        """Bind the request's id to every line until the request ends."""
        structlog.contextvars.bind_contextvars(
            request_id=request.META["HTTP_X_REQUEST_ID"],  # ours, or checked by us
            # Not django-structlog's own: that one believes every X-Forwarded-For.
            ip=throttling.client_address(request),
            **traces.log_fields(traces.read(request.META.get("HTTP_TRACEPARENT", ""))),
        )

    def handle_response(self, request: HttpRequest, response: HttpResponseBase) -> None:
        """Log a failure, and keep the context while a stream is sent.

        A file does not count as a stream: the web server sends it, if nothing wraps it here.
        """
        is_stream = response.streaming and not isinstance(response, FileResponse)
        is_plain = response.status_code < 400 and not is_stream
        if is_plain and not hasattr(request, "_raised_exception"):
            structlog.contextvars.clear_contextvars()
        else:
            super().handle_response(request, response)  # type: ignore[arg-type]
