"""How does a service look after some busy hours? Rows for screenshots and for trying the admin out.

The numbers come from a seeded generator, so that two runs make the same pictures.
"""

from __future__ import annotations

import json
import random
import secrets
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from django.utils import timezone

from tasks_app.api.task_requests import check_task_data
from tasks_app.models import Task
from tests.support import factories
from webhooks_app.models import WebhookDelivery, WebhookDestination, WebhookEvent, WebhookMessage

POLICY = [1.0, 2.0, 4.0]
WAITS = [0.0, 1.0, 3.0, 7.0]
KINDS = ("video_generation", "image_generation", "audio_generation")
INPUTS: dict[str, Any] = {
    "video_generation": factories.SEED_REQUEST["task_data"],
    "image_generation": {"prompt": "A street in the rain, neon signs"},
    "audio_generation": {"prompt": "The night was calm, and then the sea began to sing."},
}
SECONDS = {"video_generation": 41.0, "image_generation": 6.0, "audio_generation": 9.0}


@dataclass(frozen=True)
class Receiver:
    """One receiver: where, whose, how often it fails, how it fails, and how long it takes."""

    url: str
    project: str
    failure_rate: float
    error_code: str
    status: int | None
    median_ms: float
    share: float
    error: str = ""


RECEIVERS = (
    Receiver("https://hooks.aurora-studio.com/v1/done", "aurora", 0.01, "http_status", 503, 80, 5),
    Receiver("https://api.lumen-films.io/webhooks", "lumen", 0.03, "http_status", 502, 140, 3),
    Receiver("https://render.nightowl.dev/callback", "nightowl", 0.02, "reset", None, 60, 2),
    Receiver(
        "https://legacy.papercut.org:8443/cb",
        "papercut",
        0.9,
        "http_status",
        500,
        900,
        0.5,
        "status 500",
    ),
    Receiver(
        "https://dev.tinyroom.net/hook",
        "tinyroom",
        0.6,
        "timeout",
        None,
        30_000,
        0.2,
        "no answer within 30 s",
    ),
)


@cache
def accepted(task_type: str) -> dict[str, Any]:
    """Return the input of a type as a submit would store it."""
    return checked(task_type, INPUTS[task_type])


def checked(task_type: str, task_data: dict[str, Any]) -> dict[str, Any]:
    """Return an input as a submit would store it; it must be one that would be taken."""
    data, problems = check_task_data(task_type, task_data)
    assert not problems, problems
    return data


def fill(hours: float = 6.0, per_hour: int = 420, seed: int = 7) -> None:
    """Fill the tables with tasks, messages and attempts up to now."""
    rng = random.Random(seed)
    now = timezone.now()
    places = {r: _destination(r, now) for r in RECEIVERS}
    chosen = sorted(_moments(rng, now, hours, per_hour))
    tasks = [_task(rng, at) for at in chosen]
    for task in tasks:
        task.project_id = rng.choices(RECEIVERS, [r.share for r in RECEIVERS])[0].project
    Task.objects.bulk_create(tasks)
    by_project = {r.project: r for r in RECEIVERS}
    events = WebhookEvent.objects.bulk_create([_event(task) for task in tasks])
    pairs = [_message(rng, event, by_project[event.scope], places, now) for event in events]
    WebhookMessage.objects.bulk_create([message for message, _ in pairs])
    WebhookDelivery.objects.bulk_create(
        [delivery for message, made in pairs for delivery in _bound(message, made)]
    )
    _unfinished(rng, now)
    _operators(now)


def _moments(rng: random.Random, now: datetime, hours: float, per_hour: int) -> Iterator[datetime]:
    for _ in range(int(hours * per_hour)):
        # Busier towards the end, with a lull in the middle.
        back = hours * 3600 * rng.random() ** 1.3
        if 0.45 < back / (hours * 3600) < 0.55 and rng.random() < 0.6:
            continue
        yield now - timedelta(seconds=back)


def _destination(receiver: Receiver, now: datetime) -> WebhookDestination:
    is_bad = receiver.failure_rate > 0.5
    return factories.make_destination(
        receiver.url,
        scope=receiver.project,
        held_until=now + timedelta(seconds=210) if receiver.status == 500 else None,
        hold_reason="breaker" if receiver.status == 500 else "",
        breaker_state="open" if receiver.status == 500 else "closed",
        max_in_flight=2 if receiver.status == 500 else None,
        failing_messages=14 if receiver.status == 500 else 0,
        last_success_at=now - timedelta(hours=3 if is_bad else 0, seconds=4),
        last_failure_at=now - timedelta(seconds=20 if is_bad else 2000),
    )


def _task(rng: random.Random, ended: datetime) -> Task:
    kind = rng.choices(KINDS, (3, 4, 2))[0]
    took = SECONDS[kind] * rng.lognormvariate(0, 0.35)
    is_good = rng.random() < 0.96
    return Task(
        id=uuid.UUID(int=rng.getrandbits(128), version=4),
        project_id="aurora",
        task_type=kind,
        task_data=accepted(kind),
        status="completed" if is_good else "failed",
        error_code="" if is_good else "provider_error",
        error="" if is_good else "The provider gave up after 3 attempts.",
        attempts=0 if is_good else 3,
        progress=1.0 if is_good else 0.6,
        available_at=ended - timedelta(seconds=took + 3),
        timeout_seconds=1800,
        event_sequence=1,
        created_at=ended - timedelta(seconds=took + 3),
        started_at=ended - timedelta(seconds=took),
        finished_at=ended,
    )


def _event(task: Task) -> WebhookEvent:
    body = {
        "task_id": str(task.pk),
        "project_id": task.project_id,
        "status": task.status,
        "result": {"media_url": f"https://media.example.org/{task.pk.hex[:16]}.mp4"},
        "processing_time": 41,
        "metadata": {"userId": "user-123"},
    }
    return WebhookEvent(
        event_id=f"msg_{secrets.token_hex(12)}",
        scope=task.project_id,
        subject=str(task.pk),
        event_type=f"task.{task.status}",
        sequence=1,
        is_terminal=True,
        body=json.dumps(body).encode(),
        created_at=task.finished_at,
    )


Attempts = list[dict[str, Any]]


def _message(
    rng: random.Random,
    event: WebhookEvent,
    receiver: Receiver,
    places: dict[Receiver, WebhookDestination],
    now: datetime,
) -> tuple[WebhookMessage, Attempts]:
    made: Attempts = []
    at = event.created_at + timedelta(milliseconds=rng.uniform(4, 30))
    while len(made) < 4:
        duration = receiver.median_ms * rng.lognormvariate(0, 0.5)
        is_good = rng.random() >= receiver.failure_rate
        made.append({"at": at, "ms": duration, "is_good": is_good, "receiver": receiver})
        if is_good or len(made) == 4:
            break
        at += timedelta(milliseconds=duration, seconds=POLICY[len(made) - 1])
    is_delivered = made[-1]["is_good"]
    end = min(now, at + timedelta(milliseconds=made[-1]["ms"]))
    return WebhookMessage(
        event=event,
        url=receiver.url,
        destination=places[receiver],
        status="delivered" if is_delivered else "dead",
        policy=POLICY,
        retry_step=min(3, len(made) - 1),
        attempt_count=len(made),
        last_status_code=200 if is_delivered else receiver.status,
        last_error_code="" if is_delivered else receiver.error_code,
        created_at=event.created_at,
        delivered_at=end if is_delivered else None,
        finished_at=end,
    ), made


def _bound(message: WebhookMessage, made: Attempts) -> list[WebhookDelivery]:
    return [_delivery(message, number, one) for number, one in enumerate(made, 1)]


def _delivery(message: WebhookMessage, number: int, one: dict[str, Any]) -> WebhookDelivery:
    receiver, duration, is_good = one["receiver"], one["ms"], one["is_good"]
    status = 200 if is_good else receiver.status
    body = b'{"ok": true}' if is_good else b"<html><h1>500</h1> upstream is not feeling well</html>"
    return WebhookDelivery(
        message=message,
        attempt_number=number,
        url=message.url,
        remote_address="203.0.113.24:443",
        request_headers=factories.request_headers(message, number, one["at"]),
        started_at=one["at"],
        duration_ms=duration,
        phases={
            "dns_ms": duration * 0.05,
            "connect_ms": duration * 0.22,
            "first_byte_ms": duration * 0.68,
        },
        outcome="succeeded" if is_good else "failed",
        response_status=status,
        response_headers={"content-type": "text/html", "server": "nginx"} if status else {},
        response_body=body if status else None,
        error_code="" if is_good else receiver.error_code,
        error="" if is_good else receiver.error,
    )


def _unfinished(rng: random.Random, now: datetime) -> None:
    for kind, running, queued in zip(KINDS, (2, 1, 1), (9, 3, 1), strict=True):
        for _ in range(running):
            started_at = now - timedelta(seconds=rng.uniform(2, 20))
            factories.make_task(
                "processing",
                task_type=kind,
                task_data=accepted(kind),
                project_id="aurora",
                callback_url=RECEIVERS[0].url,
                progress=rng.uniform(0.2, 0.8),
                current_step="rendering frames",
                created_at=started_at - timedelta(seconds=3),
                started_at=started_at,
            )
        for number in range(queued):
            factories.make_task(
                task_type=kind,
                task_data=accepted(kind),
                project_id="lumen",
                callback_url=RECEIVERS[1].url,
                created_at=now - timedelta(seconds=3 * number),
            )
    bad = RECEIVERS[3]
    for number in range(4):
        event = factories.make_event(scope=bad.project, created_at=now - timedelta(seconds=number))
        factories.make_message(
            "pending", url=bad.url, event=event, attempt_count=0, last_error_code=""
        )


def _operators(now: datetime) -> None:
    factories.make_endpoint("https://hooks.aurora-studio.com/v1/done", scope="aurora")
    factories.make_endpoint(
        "https://audit.lumen-films.io/all", scope="lumen", event_types=["task.failed"]
    )
    factories.make_api_key("aurora production", project_id="aurora", scopes=["read", "submit"])
    factories.make_api_key("lumen production", project_id="lumen")
    factories.make_api_key("old test key", revoked=True)
    running = factories.make_replay(
        requested_by="mara",
        reason="lumen's receiver was down during its deployment",
        filters={"status": "dead", "host": "api.lumen-films.io"},
        total=480,
        started_count=311,
        skipped_count=2,
        rate_per_second=20,
    )
    of_lumen = WebhookMessage.objects.filter(destination__host="api.lumen-films.io")
    sent = list(of_lumen.order_by("-id").values_list("id", flat=True)[:311])
    WebhookMessage.objects.filter(id__in=sent).update(replay=running)
    factories.make_replay(
        requested_by="command jon",
        source="command",
        state="finished",
        total=37,
        started_count=37,
        finished_at=now,
        reason="after the certificate was renewed",
    )
    papercut = WebhookDestination.objects.get(host="legacy.papercut.org")
    for actor, action, target, reason in (
        ("mara", "destination.limit", f"{papercut}: 2", "they asked us to go easy on it"),
        ("jon", "destination.ping", str(papercut), "is it back after the deployment?"),
        ("mara", "replay.start", f"replay {running.pk}: host=api.lumen-films.io", running.reason),
        ("mara", "destination.resume", str(papercut), "they say it is repaired"),
    ):
        factories.make_operator_action(actor=actor, action=action, target=target, reason=reason)
