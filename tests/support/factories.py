"""Which rows does a test need? One function per model, each with valid defaults.

Rows are written straight into the tables, without `lifecycle` and `outbox`: for tests of code that
reads them. Every default can be given by keyword; times are relative to `timezone.now()`.
"""

from __future__ import annotations

import itertools
import json
import secrets
import uuid
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from django.contrib.auth import get_user_model
from django.utils import timezone

from tasks_app.models import (
    TERMINAL_STATUSES,
    ApiKey,
    MediaFile,
    RemoteJob,
    RemoteServer,
    Task,
)
from webhooks_app.credentials import read_parts, seal
from webhooks_app.models import (
    Credential,
    OperatorAction,
    ReplayJob,
    WebhookDelivery,
    WebhookDestination,
    WebhookEndpoint,
    WebhookEvent,
    WebhookMessage,
)

PROJECT = "test_project"
URL = "https://receiver.example.org/hooks/done"
SEED_REQUEST: dict[str, Any] = {
    "project_id": PROJECT,
    "task_type": "video_generation",
    "callback_url": "https://your-app.com/api/webhooks/task-complete",
    "task_data": {
        "scene_data": {"prompt": "Generate video"},
        "video_params": {"resolution": "1920x1080"},
    },
    "metadata": {"userId": "user-123", "testResultId": "result-456"},
}
_numbers = itertools.count(1)


def make_api_key(name: str = "test key", **fields: Any) -> tuple[ApiKey, str]:
    """Make a key; return it and its clear text for ``X-API-Key``."""
    key, clear = ApiKey.objects.create_key(name=name, **fields)
    return key, clear


def make_staff(username: str = "", *, is_superuser: bool = True, **fields: Any) -> Any:
    """Make a user who may log in to the admin, with the password ``password``."""
    fields = {"is_staff": True, "is_superuser": is_superuser, **fields}
    name = username or f"operator-{next(_numbers)}"
    return get_user_model().objects.create_user(username=name, password="password", **fields)


def make_task(status: str = "queued", **fields: Any) -> Task:
    """Make a task; the times fit its status."""
    now = timezone.now()
    is_terminal, has_begun = status in TERMINAL_STATUSES, status not in ("queued", "cancelled")
    defaults: dict[str, Any] = {
        "project_id": PROJECT,
        "task_type": "video_generation",
        "task_data": SEED_REQUEST["task_data"],
        "status": status,
        "webhook_events": ["task.completed", "task.failed", "task.cancelled"],
        "available_at": now,
        "timeout_seconds": 1800,
        "created_at": now - timedelta(seconds=30 if is_terminal else 0),
        "started_at": now - timedelta(seconds=20) if has_begun else None,
        "finished_at": now if is_terminal else None,
        "progress": 1.0 if status == "completed" else 0.0,
    }
    if status == "processing":
        lease = now + timedelta(seconds=30)
        defaults |= {"run_token": uuid.uuid4(), "lease_expires_at": lease, "progress": 0.4}
    if status == "failed":
        defaults |= {"error_code": "provider_error", "error": "Task execution failed"}
    return Task.objects.create(**{**defaults, **fields})


def make_media_file(task: Task | None = None, **fields: Any) -> MediaFile:
    """Make the record of a stored file (the file itself is the caller's business)."""
    task = task or make_task("completed")
    run_token = fields.pop("run_token", None) or uuid.uuid4()
    role = fields.setdefault("role", "primary")
    defaults: dict[str, Any] = {
        "path": f"results/{task.pk}/{run_token}/{role}.mp4",
        "media_type": "video/mp4",
        "size_bytes": 1234,
        "sha256": secrets.token_hex(32),
        "width": 1920,
        "height": 1080,
        "duration": 4.0,
        "fps": 24.0,
        "codecs": ["h264", "aac"],
    }
    defaults["project_id"] = task.project_id
    return MediaFile.objects.create(task=task, run_token=run_token, **{**defaults, **fields})


def make_asset(state: str = "ready", **fields: Any) -> MediaFile:
    """Make the record of an uploaded picture (the file itself is the caller's business)."""
    asset_id = secrets.token_hex(8)
    is_ready = state == "ready"
    defaults: dict[str, Any] = {
        "id": asset_id,
        "project_id": PROJECT,
        "origin": "upload",
        "role": "asset",
        "path": f"assets/{asset_id}/asset.png" if is_ready else "",
        "media_type": "image/png" if is_ready else "",
        "size_bytes": 1234 if is_ready else 0,
        "sha256": secrets.token_hex(32) if is_ready else "",
        "width": 64 if is_ready else None,
        "height": 64 if is_ready else None,
        "codecs": ["png"] if is_ready else [],
        "expires_at": timezone.now() + timedelta(days=30),
    }
    return MediaFile.objects.create(state=state, **{**defaults, **fields})


def make_event(event_type: str = "task.completed", **fields: Any) -> WebhookEvent:
    """Make an event; ``body`` is JSON that fits, ``subject`` a random task id unless given."""
    is_terminal = event_type in ("task.completed", "task.failed", "task.cancelled")
    subject = str(fields.setdefault("subject", str(uuid.uuid4())))
    scope = fields.setdefault("scope", PROJECT)
    payload = {"task_id": subject, "project_id": scope, "status": event_type.partition(".")[2]}
    defaults: dict[str, Any] = {
        "event_id": f"msg_{secrets.token_hex(12)}",
        "event_type": event_type,
        "sequence": next(_numbers),
        "is_terminal": is_terminal,
        "body": json.dumps(payload).encode(),
        "created_at": timezone.now(),
    }
    return WebhookEvent.objects.create(**{**defaults, **fields})


def make_destination(
    url: str = URL, *, scope: str = PROJECT, port: int | None = None, **fields: Any
) -> WebhookDestination:
    """Find or make the destination of a URL."""
    parts = urlsplit(url)
    port = port or parts.port or {"http": 80, "https": 443}[parts.scheme]
    destination, _ = WebhookDestination.objects.update_or_create(
        scope=scope, scheme=parts.scheme, host=parts.hostname or "", port=port, defaults=fields
    )
    return destination


def make_endpoint(url: str = URL, *, scope: str = PROJECT, **fields: Any) -> WebhookEndpoint:
    """Make a subscription to every event of a project."""
    return WebhookEndpoint.objects.create(url=url, scope=scope, **fields)


def make_credential(name: str = "door", *, scope: str = PROJECT, **fields: Any) -> Credential:
    """Make a credential, a bearer token for the origin of `URL` unless said otherwise."""
    kind = fields.pop("kind", "bearer")
    origins = fields.pop("origins", [URL.removesuffix("/hooks/done")])
    row = Credential(scope=scope, name=name, kind=kind, origins=origins)
    seal(row, read_parts(kind, fields or {"token": "s3cr3t-of-the-tests"}))
    row.save()
    return row


def make_message(status: str = "pending", *, url: str = URL, **fields: Any) -> WebhookMessage:
    """Make a message (with its event and destination); due now when pending."""
    now = timezone.now()
    event = fields.pop("event", None) or make_event()
    is_pending = status == "pending"
    defaults: dict[str, Any] = {
        "url": url,
        "policy": [1.0, 2.0, 4.0],
        "retry_step": 3 if status == "dead" else 0,
        "next_attempt_at": now if is_pending else None,
        "created_at": event.created_at,
        "delivered_at": now if status == "delivered" else None,
        "finished_at": None if is_pending else now,
    }
    if status == "delivered":
        defaults |= {"last_status_code": 200}
    if status == "dead":
        defaults |= {"last_status_code": 500, "last_error_code": "http_status"}
    if "destination" not in fields:
        defaults["destination"] = make_destination(url, scope=event.scope)
    return WebhookMessage.objects.create(event=event, status=status, **{**defaults, **fields})


def make_delivery(
    message: WebhookMessage | None = None, outcome: str = "succeeded", **fields: Any
) -> WebhookDelivery:
    """Make one attempt at a message, the next in number, and count it on the message."""
    message = message or make_message("delivered" if outcome == "succeeded" else "pending")
    number = fields.pop("attempt_number", None) or message.attempt_count + 1
    message.attempt_count = max(message.attempt_count, number)
    message.save(update_fields=["attempt_count"])
    has_ended = outcome in ("succeeded", "failed")
    status = {"succeeded": 200, "failed": 500}.get(outcome)
    defaults: dict[str, Any] = {
        "url": message.url,
        "remote_address": "203.0.113.7:443",
        "request_headers": request_headers(message, number),
        "started_at": timezone.now(),
        "duration_ms": 42.5 if has_ended else None,
        "phases": {"dns_ms": 3.0, "connect_ms": 12.0, "first_byte_ms": 25.0} if has_ended else {},
        "outcome": outcome,
        "response_status": status,
        "response_headers": {"content-type": "text/plain"} if has_ended else {},
        "response_body": b"ok" if outcome == "succeeded" else b"no" if has_ended else None,
        "error_code": "http_status" if outcome == "failed" else "",
        "error": "the receiver answered 500" if outcome == "failed" else "",
    }
    return WebhookDelivery.objects.create(
        message=message, attempt_number=number, **{**defaults, **fields}
    )


def request_headers(
    message: WebhookMessage, number: int, at: datetime | None = None
) -> dict[str, str]:
    """Return the headers of one attempt; the signature has the right form only."""
    return {
        "content-type": "application/json",
        "user-agent": "AI-Movie-Task-Service/1.0",
        "webhook-id": message.event.event_id,
        "webhook-timestamp": str(int((at or timezone.now()).timestamp())),
        "webhook-signature": "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
        "webhook-attempt": str(number),
        "webhook-event": message.event.event_type,
    }


def make_dead_letter(*, attempts: int = 4, **fields: Any) -> WebhookMessage:
    """Make a message that failed ``attempts`` times with a 500, with its deliveries."""
    message = make_message("dead", **fields)
    begin = timezone.now() - timedelta(minutes=5)
    for number in range(attempts):
        make_delivery(message, "failed", started_at=begin + timedelta(seconds=2**number))
    return message


def make_replay(**fields: Any) -> ReplayJob:
    """Make a replay that is running."""
    return ReplayJob.objects.create(
        **{"requested_by": "operator", "source": "admin", "reason": "a test", **fields}
    )


def make_operator_action(**fields: Any) -> OperatorAction:
    """Make one line of the operators' record."""
    defaults = {"actor": "operator", "action": "replay", "target": "message 1", "reason": "a test"}
    return OperatorAction.objects.create(**{**defaults, **fields})


def make_remote_server(
    provider: str = "replicate", label: str = "replicate", **fields: Any
) -> RemoteServer:
    """Find or make the row of a provider's server."""
    server, _ = RemoteServer.objects.update_or_create(
        provider=provider, label=label, defaults=fields
    )
    return server


def make_remote_job(state: str = "running", **fields: Any) -> RemoteJob:
    """Make a job at a provider; its times fit its state, and its server has a row."""
    now = timezone.now()
    outcome = fields.setdefault("outcome", "completed" if state == "ended" else "")
    task = fields.pop("task", None) or make_task(
        "failed" if outcome or state == "stopping" else "processing", remote_provider="replicate"
    )
    begun = fields.setdefault("created_at", now - timedelta(minutes=1))
    defaults: dict[str, Any] = {
        "provider": "replicate",
        "server": "replicate",
        "model": "acme/painter",
        "task_type": task.task_type,
        "attempt": 1,
        "remote": {"id": "p1"},
        "next_look_at": now + timedelta(seconds=30),
        "asked_at": begun,
        "seen_at": now,
        "stop_owed_at": now if state == "stopping" else None,
        "stop_reason": "cancelled" if state == "stopping" else "",
        "deadline": now + timedelta(minutes=29),
        "ended_at": now if state == "ended" else None,
    }
    job = RemoteJob.objects.create(task=task, state=state, **{**defaults, **fields})
    make_remote_server(job.provider, job.server)
    return job
