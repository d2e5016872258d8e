"""What does a submit cost at least? A view that stores the row and sends the ticket, no more.

No middleware, no authentication, no validation, a minimal answer: Django, one insert of the same
row by the same statement, one message by the same broker.
"""

from __future__ import annotations

import gc
from typing import Any

import orjson
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

application: Any = None


def submit(request: HttpRequest) -> HttpResponse:
    """Insert one task and enqueue one message."""
    from tasks_app.actors import ACTORS
    from tasks_app.models import Task
    from tasks_app.state import statements

    document = orjson.loads(request.body)
    task = Task(
        project_id=document["project_id"],
        task_type=document["task_type"],
        task_data=document["task_data"],
        callback_url=document["callback_url"],
        timeout_seconds=600,
    )
    statements.insert(task)
    ACTORS[task.task_type].send(str(task.id))
    return HttpResponse(b'{"task_id":"%s"}' % str(task.id).encode(), status=201)


urlpatterns = [path("api/v1/tasks/submit", submit)]

if not settings.configured:  # loaded by the web server, not by a test that imports every module
    settings.MIDDLEWARE = []
    settings.ROOT_URLCONF = "tests.bench.bare_view"
    bare = get_wsgi_application()
    from moviesvc.rsgi import Front  # needs Django's apps

    application = Front(
        bare,
        threads=settings.WEB_THREADS,
        limit_bytes=settings.DATA_UPLOAD_MAX_MEMORY_SIZE,
    )
    gc.freeze()  # as the service's own web server does
    gc.set_threshold(20_000, 50, 1_000)
