"""What does the web server call? Django, behind a small wrapper for requests without a length."""

import io
import os
from collections.abc import Callable, Iterable
from typing import Any

from django.core.wsgi import get_wsgi_application

from moviesvc import lifeline

WSGIApplication = Callable[[dict[str, Any], Any], Iterable[bytes]]
BODILESS_METHODS = {"GET", "HEAD", "OPTIONS", "TRACE"}


class MeasuredBody:
    """Give every request with a body a length: Django reads a chunked one as empty.

    That concerns `Transfer-Encoding: chunked` and HTTP/2 without `content-length`. A body over
    the limit is cut one byte above it, which is what makes Django answer 413.
    """

    def __init__(self, application: WSGIApplication, limit_bytes: int) -> None:
        self.application = application
        self.limit_bytes = limit_bytes

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        has_length = environ.get("CONTENT_LENGTH") not in (None, "")
        if not has_length and environ["REQUEST_METHOD"] not in BODILESS_METHODS:
            body = environ["wsgi.input"].read(self.limit_bytes + 1)
            environ["wsgi.input"] = io.BytesIO(body)
            environ["CONTENT_LENGTH"] = str(len(body))
        return self.application(environ, start_response)


def _application() -> WSGIApplication:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "moviesvc.settings")
    django = get_wsgi_application()
    from django.conf import settings

    from webhooks_app.stored_secrets import require_readable_at_boot

    require_readable_at_boot()
    return MeasuredBody(django, settings.DATA_UPLOAD_MAX_MEMORY_SIZE)


application = _application()
lifeline.watch_if_asked()
