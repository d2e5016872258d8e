"""How does a client watch a task? Server-sent events, snapshots with a rising id; and a preview.

A stream keeps a thread of the web server busy, so there are only so many, and each ends after a
minute; the browser then comes back with ``Last-Event-ID`` and misses nothing, since every event
is a whole snapshot and only the newest one matters.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import orjson
from django.conf import settings
from django.db import Error
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from tasks_app.access.authentication import Access, access_of
from tasks_app.api import queries, task_answer
from tasks_app.api.openapi.hooks import EVENTS_OPERATION, PREVIEW_OPERATION
from tasks_app.media import previews
from tasks_app.models import ApiKey, Task
from webhooks_app.api.problems import ApiProblem
from webhooks_app.database import why_unusable

POLL_SECONDS = 0.5
#: A comment is sent this often: if the client is gone, the write fails and frees its seat.
SIGN_OF_LIFE_SECONDS = 2.0
RECONNECT_MS = 2000
BUSY_RETRY_SECONDS = 5


class Seats:
    """The open streams of this process, counted in total and per key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: Counter[str] = Counter()

    def take(self, key: str) -> bool:
        """Take a seat; False when all are taken, or the key's limit is reached."""
        with self._lock:
            is_full = self._taken.total() >= settings.SSE_STREAMS
            if is_full or self._taken[key] >= settings.SSE_STREAMS_PER_KEY:
                return False
            self._taken[key] += 1
        return True

    def free(self, key: str) -> None:
        with self._lock:
            self._taken[key] -= 1
            self._taken += Counter()  # removes keys with a count of zero


seats = Seats()


class TaskStream:
    """The bytes of one stream. Holds a seat from its creation until `close`.

    A class and not a generator: a generator that was never started runs no ``finally``.
    """

    def __init__(self, task: Task, seen: int, access: Access) -> None:
        self._task_id, self._seen, self._key = task.pk, seen, access.key.pk
        self._ends_at = time.monotonic() + settings.SSE_MAX_SECONDS
        self._spoke_at = 0.0
        self._checked_key_at = time.monotonic()
        self._has_ended = False
        self._is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if not self._spoke_at:
            self._spoke_at = time.monotonic()
            return f"retry: {RECONNECT_MS}\n\n".encode()
        while not self._has_ended and time.monotonic() < self._ends_at:
            chunk = self._next_chunk()
            if chunk:
                self._spoke_at = time.monotonic()
                return chunk
            time.sleep(POLL_SECONDS)
        raise StopIteration

    def close(self) -> None:
        """Free the seat, once; the web server calls this however the stream ended."""
        if not self._is_closed:
            self._is_closed = True
            seats.free(self._key)

    def _next_chunk(self) -> bytes:
        try:
            task = Task.objects.filter(pk=self._task_id).first() if self._may_go_on() else None
        except Error as error:
            if not why_unusable(error):
                raise
            task = None  # end the stream; the client reconnects when the database is back
        if task is None:
            self._has_ended = True
            return b""
        self._has_ended = task.is_terminal
        if task.version > self._seen:
            self._seen = task.version
            data = orjson.dumps(task_answer.snapshot(task))
            return b"id: %d\ndata: %s\n\n" % (task.version, data)
        is_quiet = time.monotonic() - self._spoke_at >= SIGN_OF_LIFE_SECONDS
        return b": still here\n\n" if is_quiet and not self._has_ended else b""

    def _may_go_on(self) -> bool:
        """Check once a second whether the key is still valid."""
        now = time.monotonic()
        if now - self._checked_key_at < 1.0:
            return True
        self._checked_key_at = now
        key = ApiKey.objects.filter(pk=self._key, revoked=False).first()
        return key is not None and not key.has_expired


class AnyAccept(DefaultContentNegotiation):
    """Ignore ``Accept: text/event-stream`` where a view's errors are chosen: they are JSON."""

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        return renderers[0], renderers[0].media_type


class TaskEventsView(APIView):
    """Live progress of one task."""

    content_negotiation_class = AnyAccept

    @EVENTS_OPERATION
    def get(self, request: Request, task_id: str) -> HttpResponseBase:
        """Return the stream, or 204 when there is nothing newer to come."""
        access = access_of(request)
        task = queries.find_task(access, task_id)
        text = request.META.get("HTTP_LAST_EVENT_ID", "")
        seen = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
        if task.is_terminal and task.version <= seen:
            return HttpResponse(status=204)  # tells an EventSource not to reconnect
        if not seats.take(access.key.pk):
            detail = "All event streams are taken; close one, or poll the task's status."
            wait = {"Retry-After": str(BUSY_RETRY_SECONDS)}
            raise ApiProblem(503, "too_many_streams", detail, headers=wait)
        stream = TaskStream(task, seen, access)
        response = StreamingHttpResponse(stream, content_type="text/event-stream; charset=utf-8")
        response["Cache-Control"] = "no-store"
        response["X-Accel-Buffering"] = "no"  # nginx would delay events otherwise
        return response


class TaskPreviewView(APIView):
    """What a task looks like while a provider works on it."""

    content_negotiation_class = AnyAccept

    @PREVIEW_OPERATION
    def get(self, request: Request, task_id: str) -> HttpResponseBase:
        """Return the newest preview, or 204 while there is none."""
        picture = previews.of_task(queries.find_task(access_of(request), task_id))
        return HttpResponse(status=204) if picture is None else previews.answer(picture)
