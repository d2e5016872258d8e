"""A service with one more task type, event type and error code of each kind: who knows them?

A programme, since an entry must be there before anything that reads its registry is loaded.
Prints JSON: place -> the text that is shown there.
"""

from __future__ import annotations

import io
import json
import os
import re
from typing import Any

from tasks_app import events, failures
from tasks_app.task_types import TASK_TYPES, TaskType
from webhooks_app import retry

TASK_TYPE = "hologram_generation"
EVENT = "task.paused"
TASK_ERROR = "projector_broken"
WEBHOOK_ERROR = "eclipse"
HOOK = "http://127.0.0.1:9/hook"


class FakeCode(str):
    """A webhook error code; an enum takes no further members."""

    __slots__ = ()
    meaning = "the moon stood in the way"
    is_retried = is_sent = True


def register() -> None:
    """Add the entries, as a developer would by writing them into the registries."""
    TASK_TYPES[TASK_TYPE] = TaskType(
        TASK_TYPE,
        schema="tasks_app.api.task_data.ImageTaskData",
        sections=("image_data", "image_params"),
        media="image",
        queue="hologram",
        timeout_seconds=60,
        max_timeout_seconds=60,
        typical_seconds=5,
    )
    events.EVENT_TYPES[EVENT] = events.EventType(
        EVENT,
        status="processing",
        is_terminal=False,
        body=lambda task: {"paused_at": None},
        schema={"paused_at": {"type": "string"}},
        example={"paused_at": "2025-01-15T10:30:20Z"},
    )
    failures.ERROR_CODES[TASK_ERROR] = failures.ErrorCode(TASK_ERROR, "the lamp is out.", True)
    retry.ERROR_CODES[WEBHOOK_ERROR] = FakeCode(WEBHOOK_ERROR)  # type: ignore[assignment]


def shown() -> dict[str, str]:
    """Return what is shown where."""
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.test import Client

    client = Client(headers={"X-API-Key": os.environ["KEY"]})
    client.force_login(get_user_model().objects.get(username="operator"))

    def get(path: str) -> str:
        answer = client.get(path)
        assert answer.status_code == 200, (path, answer.status_code, answer.content)
        return answer.content.decode()

    def post(path: str, body: dict[str, Any]) -> str:
        answer = client.post(path, json.dumps(body), content_type="application/json")
        return f"{answer.status_code} {answer.content.decode()}"

    document = json.loads(get("/api/v1/schema"))
    schemas = document["components"]["schemas"]

    def whole(part: Any) -> str:
        """Return a part of the document with the components that it refers to."""
        text, seen = json.dumps(part), set[str]()
        while new := set(re.findall(r"schemas/(\w+)", text)) - seen:
            text += "".join(json.dumps(schemas[name]) for name in sorted(new))
            seen |= new
        return text

    submit = {"project_id": "p", "task_type": TASK_TYPE, "webhook_events": [EVENT]}
    call_command("makemigrations", check=True, dry_run=True, stdout=(migrations := io.StringIO()))
    return {
        "schema: submit": whole(schemas["SubmitHologramGeneration"]),
        "schema: task": whole(schemas["Task"]),
        "schema: error codes": whole(schemas["ErrorCode"]),
        "schema: webhooks": whole(document["webhooks"]),
        "schema: endpoint": whole(schemas["EndpointRequest"]),
        "schema: messages": whole(document["paths"]["/api/v1/webhooks/messages"]),
        "page": get("/api/v1/docs?script="),
        "submit": post("/api/v1/tasks/submit", {**submit, "task_data": {"prompt": "a cat"}}),
        "provider": post(
            "/api/v1/tasks/submit", {**submit, "task_data": {"prompt": "a cat", "model": "other"}}
        ),
        "subscribe": post("/api/v1/webhooks/endpoints", {"url": HOOK, "event_types": [EVENT]}),
        "refused": post("/api/v1/webhooks/endpoints", {"url": HOOK, "event_types": ["task.x"]}),
        "list": get(f"/api/v1/tasks?task_type={TASK_TYPE}"),
        "figures": get("/api/v1/tasks/metrics"),
        "metrics": get("/metrics"),
        "admin: tasks": get("/admin/tasks_app/task/"),
        "admin: messages": get("/admin/webhooks_app/webhookmessage/"),
        "admin: attempts": get("/admin/webhooks_app/webhookdelivery/"),
        "migrations": migrations.getvalue(),
        "inputs": json.dumps(_inputs()),
    }


def _inputs() -> dict[str, Any]:
    """Return what the provider elsewhere is sent for a task of the new type."""
    from tasks_app.providers.remote.inputs import said_by_name

    return said_by_name(TASK_TYPE, {"image_data": {"prompt": "a cat"}})


if __name__ == "__main__":
    register()
    import django

    django.setup()
    print(json.dumps(shown()))
