"""Which routes does the API have, by the URL resolver, and what do their parameters name?

A new route with a parameter that `World` does not make, or a new public one that is not in
`PUBLIC`, fails the tests that walk all routes, so that somebody decides about it.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from typing import Any

from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from tasks_app.models import MediaFile, Task
from tests.support import factories
from webhooks_app.models import (
    Credential,
    ReplayJob,
    SigningSecret,
    WebhookDestination,
    WebhookEndpoint,
    WebhookEvent,
    WebhookMessage,
)

OWN, OTHER = "own_project", "other_project"
#: The last one is for providers: its token is the key.
PUBLIC = {
    "api/v1/health",
    "api/v1/health/ready",
    "api/v1/schema",
    "api/v1/docs",
    "api/v1/providers/<str:name>/callback/<str:token>",
}
#: A provider's name and the token of one of its jobs.
CALLBACK = {"name": "replicate", "token": "0" * 48}
METHODS = ("get", "post", "put", "patch", "delete")


def routes(resolver: Any = None, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every route under api/v1 and its view."""
    for entry in (resolver or get_resolver()).url_patterns:
        route = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from routes(entry, route)
        elif isinstance(entry, URLPattern) and route.startswith("api/v1/"):
            yield route, entry.callback


def cases() -> list[tuple[str, str]]:
    """Every route with every method that its view has."""
    found = []
    for route, view in routes():
        if route not in PUBLIC:
            found += [(route, method) for method in METHODS if hasattr(view.cls, method)]
    return found


class World:
    """One object of each kind in a project, by the names that routes give their parameters."""

    def __init__(self, project: str) -> None:
        task = factories.make_task("failed", project_id=project)
        event = factories.make_event("task.failed", scope=project, subject=str(task.id))
        message = factories.make_message("dead", event=event)
        url = f"https://receiver.example.org/{message.pk}"
        factories.make_operator_action(target=f"message {message.pk} of {task.id}", scope=project)
        self.ids = {
            "task_id": str(task.id),
            "project_id": project,
            "subject": str(task.id),
            "message_id": str(message.pk),
            "event_id": event.event_id,
            "replay_id": str(factories.make_replay(scope=project).pk),
            **CALLBACK,
            "destination_id": str(message.destination_id),
            "endpoint_id": str(factories.make_endpoint(url, scope=project).pk),
            "credential_id": str(factories.make_credential(f"door-{message.pk}", scope=project).pk),
            "asset_id": factories.make_asset(project_id=project).pk,
        }

    def state(self) -> list[dict[str, Any]]:
        """Every row of the project, to see whether a request changed one."""
        project = self.ids["project_id"]
        found = [
            Task.objects.filter(project_id=project),
            MediaFile.objects.filter(project_id=project),
            WebhookEvent.objects.filter(scope=project),
            WebhookMessage.objects.filter(event__scope=project),
            ReplayJob.objects.filter(scope=project),
            WebhookEndpoint.objects.filter(scope=project),
            WebhookDestination.objects.filter(scope=project),
            SigningSecret.objects.filter(scope=project),
            Credential.objects.filter(scope=project),
        ]
        return [row for rows in found for row in rows.order_by("pk").values()]

    def needles(self) -> list[str]:
        """What an answer to another project must not contain."""
        names = ("task_id", "project_id", "event_id", "replay_id", "endpoint_id", "asset_id")
        return [self.ids[name] for name in (*names, "credential_id")]


#: Ids that do not exist, in the same form as those that do.
ABSENT = {
    "task_id": str(uuid.uuid4()),
    "project_id": "absent_project",
    "subject": str(uuid.uuid4()),
    "message_id": "999999999",
    "event_id": "msg_absent",
    "replay_id": str(uuid.uuid4()),
    "endpoint_id": str(uuid.uuid4()),
    "destination_id": "999999998",
    "credential_id": str(uuid.uuid4()),
    "asset_id": "0123456789abcdef",
    **CALLBACK,
}


def address(route: str, ids: dict[str, str]) -> str:
    return "/" + re.sub(r"<(?:\w+:)?(\w+)>", lambda match: ids[match[1]], route)


def client_of(**fields: Any) -> Client:
    """A client with a new key."""
    return Client(headers={"x-api-key": factories.make_api_key(**fields)[1]})
