"""What does the web server call? Django, behind a small wrapper that receives the bodies."""

import gc
import io
import json
import os
import threading
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from django.core.wsgi import get_wsgi_application

from moviesvc import lifeline

WSGIApplication = Callable[[dict[str, Any], Any], Iterable[bytes]]
#: A body that is all there is read in a millisecond, so a seat is free by then, or held by a
#: client that sends nothing.
SEAT_SECONDS = 0.25
BODILESS_METHODS = {"GET", "HEAD", "OPTIONS", "TRACE"}


class WholeBody:
    """Take a request's body whole before Django sees it, in a bounded number of threads.

    A thread waits while a client sends its body, and a client may send nothing for as long as it
    likes: so at most `readers` threads read bodies, the others go on serving what has none, and
    who comes in between is asked to try again.

    Also gives every request with a body a length, since Django reads a chunked one (or HTTP/2
    without `content-length`) as empty. A body over the limit is cut one byte above it, which is
    what makes Django answer 413.
    """

    def __init__(self, application: WSGIApplication, limit_bytes: int, readers: int) -> None:
        self.application = application
        self.limit_bytes = limit_bytes
        self._seats = threading.BoundedSemaphore(readers)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in BODILESS_METHODS and not self._is_too_long(environ):
            if not self._seats.acquire(timeout=SEAT_SECONDS):
                return _busy(environ, start_response)
            try:
                self._take(environ)
            finally:
                self._seats.release()
        return self.application(environ, start_response)

    def _is_too_long(self, environ: dict[str, Any]) -> bool:
        """Say whether Django will refuse it by its length alone; then nobody need read it."""
        length = environ.get("CONTENT_LENGTH") or "0"
        return not length.isdigit() or int(length) > self.limit_bytes

    def _take(self, environ: dict[str, Any]) -> None:
        length = environ.get("CONTENT_LENGTH") or self.limit_bytes + 1
        body = environ["wsgi.input"].read(int(length))
        environ["wsgi.input"] = io.BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body))


def _busy(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    problem = {
        "type": "urn:problem:busy",
        "title": "Too many requests are being received",
        "status": 503,
        "code": "busy",
        "detail": "Other clients are still sending their bodies. Try again in a second.",
        "instance": environ.get("PATH_INFO", ""),
        "request_id": uuid.uuid4().hex,
        "errors": [],
    }
    headers = [("Content-Type", "application/problem+json"), ("Retry-After", "1")]
    start_response("503 Service Unavailable", headers)
    return [json.dumps(problem).encode()]


def _application() -> WSGIApplication:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "moviesvc.settings")
    django = get_wsgi_application()
    from django.conf import settings

    from webhooks_app.stored_secrets import require_readable_at_boot

    require_readable_at_boot()
    # What is loaded now stays, and what a request makes dies with it: look seldom.
    gc.freeze()
    gc.set_threshold(20_000, 50, 1_000)
    readers = max(1, settings.WEB_THREADS // 4)
    return WholeBody(django, settings.DATA_UPLOAD_MAX_MEMORY_SIZE, readers)


application = _application()
lifeline.watch_if_asked()
