"""How do tests drive work at providers? The real loop in a thread, against a stand-in server."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings

from tasks_app.models import RemoteJob, Task
from tasks_app.remote_work import RemoteWorkThread
from tasks_app.state.submit import Submit, submit
from tasks_app.tickets import stopping
from tasks_app.work import run
from tests.support.fake_provider import Reply, png
from tests.support.waiting import wait_until

KEY = "canary-key-0123456789"
MODEL = "acme/painter"
CREATE, GET, CANCEL = (
    f"POST /v1/models/{MODEL}/predictions",
    "GET /v1/predictions/p1",
    "POST /v1/predictions/p1/cancel",
)
TASK = {"image_data": {"prompt": "a red door"}}
TYPE = "image_generation"


def good_run(url: str) -> dict[str, list[Any]]:
    """Return a script in which every protocol makes one picture."""
    queue = f"{url}/{MODEL}/requests/f1"
    inline = "data:image/png;base64," + base64.b64encode(png()).decode()
    return {
        CREATE: [{"id": "p1", "status": "starting"}],
        GET: [{"status": "processing"}, {"status": "succeeded", "output": [f"{url}/out.png"]}],
        CANCEL: [{}],
        "GET /out.png": [Reply(body=png())],
        "POST /v1/images/generations": [{"data": [{"b64_json": base64.b64encode(png()).decode()}]}],
        "DELETE /v1/videos/p1": [{}],
        f"POST /{MODEL}": [
            {
                "request_id": "f1",
                "status_url": f"{queue}/status",
                "response_url": queue,
                "cancel_url": f"{queue}/cancel",
            }
        ],
        f"GET /{MODEL}/requests/f1/status": [{"status": "IN_QUEUE"}, {"status": "COMPLETED"}],
        f"GET /{MODEL}/requests/f1": [{"images": [{"url": f"{url}/out.png"}], "seed": 3}],
        f"PUT /{MODEL}/requests/f1/cancel": [Reply(202)],
        "PUT /predictions/": [{"status": "succeeded", "output": inline}],
        "POST /predictions/": [{}],
        "GET /health-check": [{"status": "BUSY"}],
    }


def use(name: str = "replicate", **options: Any) -> None:
    """Configure a provider for images, which looks often."""
    entry = {"provider": name, "options": {"model": MODEL, "poll_seconds": 0.05, **options}}
    settings.GENERATION_PROVIDERS = {TYPE: entry}


@contextmanager
def remote_work() -> Iterator[None]:
    """Run the loop; at the end it gives back what it holds, as at a deploy."""
    thread = RemoteWorkThread()
    thread.start()
    try:
        yield
    finally:
        thread.stop()
        stopping.clear()


def begin(project: str = "p", **how: Any) -> Task:
    """Submit a task and give it to its provider."""
    task = submit(Submit(project, TYPE, TASK, **how)).task
    run.run_next(TYPE)
    return task


def ended(task: Task, timeout: float = 30, task_type: str = TYPE) -> Task:
    """Wait for a task's end; whatever waits for room or another attempt is run meanwhile."""

    def is_over() -> bool:
        run.run_next(task_type)
        task.refresh_from_db()
        return task.is_terminal

    wait_until(is_over, timeout=timeout, message=f"task {task.id} ends")
    return task


def job_of(task: Task) -> RemoteJob:
    """Return a task's newest job."""
    return RemoteJob.objects.filter(task=task).latest("created_at")
