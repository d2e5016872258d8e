"""What is known after a run? Which tasks were accepted, the rows, and what arrived.

The input of `ledger`: read once, from outside, with plain SQL and without the product's code.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from tests.support.receiver import Request

Query = Callable[[str, list[Any]], list[tuple[Any, ...]]]

SUCCESS = (200, 201, 202, 204)
TERMINAL = ("completed", "failed", "cancelled")

_TASKS = (
    "id::text, status, callback_url, webhook_events, result IS NOT NULL AS has_result, finished_at,"
    " run_token, lease_expires_at < now() - make_interval(secs => %s) AS is_zombie"
)
_EVENTS = "id, event_id, subject, event_type, sequence, is_terminal, body"
_MESSAGES = (
    "message.id, message.event_id AS event, message.url, message.status, message.attempt_count,"
    " message.next_attempt_at, message.delivered_at, message.lease_token IS NOT NULL AS is_leased,"
    " message.lease_expires_at < now() - make_interval(secs => %s) AS is_zombie"
)
_DELIVERIES = (
    "delivery.id, delivery.message_id AS message, delivery.attempt_number, delivery.outcome,"
    " delivery.response_status, delivery.reconnected"
)
_FILES = "file.task_id::text AS task, file.run_token"


@dataclass(frozen=True)
class Post:
    """One request that the receiver got. ``status`` is None if it gave no answer."""

    target: str
    webhook_id: str
    attempt: int
    timestamp: int
    signature: str
    body: bytes
    status: int | None

    @classmethod
    def of(cls, request: Request) -> Post:
        """Make one from a receiver's request."""
        return cls(
            target=request.path,
            webhook_id=request.headers.get("webhook-id", ""),
            attempt=int(request.headers.get("webhook-attempt", "0")),
            timestamp=int(request.headers.get("webhook-timestamp", "0")),
            signature=request.headers.get("webhook-signature", ""),
            body=request.body,
            status=request.answered,
        )

    @property
    def is_success(self) -> bool:
        """Say whether the answer means delivered."""
        return self.status in SUCCESS


@dataclass
class History:
    """One run: what clients and the receiver saw, what was done to the service, and the rows.

    Args:
        accepted: ids of tasks that were answered with 201 (also after repeated tries).
        crashes: injected faults that may each repeat requests that were under way.
        repeats_per_crash: requests that one crash can catch between answer and record.
        sinks: name of a place -> its text, in which no canary may be found.
        canaries: secrets that must stay out of every sink.
        resources: name -> (before, after), of descriptors, threads and connections.
    """

    accepted: Sequence[str]
    posts: Sequence[Post]
    secret: str
    crashes: int = 0
    repeats_per_crash: int = 1
    sinks: Mapping[str, str] = field(default_factory=dict)
    canaries: Sequence[str] = ()
    resources: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    tasks: dict[str, Any] = field(default_factory=dict)
    events: dict[int, Any] = field(default_factory=dict)
    messages: dict[int, Any] = field(default_factory=dict)
    deliveries: list[Any] = field(default_factory=list)
    files: list[Any] = field(default_factory=list)

    def read(self, query: Query, scope: str, patience_seconds: float = 5.0) -> History:
        """Read a project's rows; a lease that expired longer ago than the patience is a zombie."""
        dead = [patience_seconds, scope]
        tasks = _select(query, _TASKS, "tasks_app_task WHERE", "project_id = %s", dead)
        self.tasks = {task.id: task for task in tasks}
        events = _select(query, _EVENTS, "webhooks_app_webhookevent WHERE", "scope = %s", [scope])
        self.events = {event.id: event for event in events}
        joined = (
            "webhooks_app_webhookmessage message"
            " JOIN webhooks_app_webhookevent event ON event.id = message.event_id WHERE"
        )
        messages = _select(query, _MESSAGES, joined, "event.scope = %s", dead)
        self.messages = {message.id: message for message in messages}
        attempts = "webhooks_app_webhookdelivery delivery JOIN webhooks_app_webhookmessage message"
        joined = f"{attempts} ON message.id = delivery.message_id JOIN" + (
            " webhooks_app_webhookevent event ON event.id = message.event_id WHERE"
        )
        self.deliveries = _select(query, _DELIVERIES, joined, "event.scope = %s", [scope])
        joined = "tasks_app_mediafile file JOIN tasks_app_task task ON task.id = file.task_id WHERE"
        self.files = _select(query, _FILES, joined, "task.project_id = %s", [scope])
        return self

    @property
    def attempts_of(self) -> dict[int, list[Any]]:
        """Return the deliveries by message, in order."""
        found: dict[int, list[Any]] = defaultdict(list)
        for delivery in sorted(self.deliveries, key=lambda each: each.attempt_number):
            found[delivery.message].append(delivery)
        return found

    @property
    def posts_of(self) -> dict[int, list[Post]]:
        """Return the received requests by message; those that match no message are under 0."""
        found: dict[int, list[Post]] = defaultdict(list)
        by_address = {
            (self.events[message.event].event_id, _target(message.url)): message.id
            for message in self.messages.values()
        }
        for post in self.posts:
            found[by_address.get((post.webhook_id, post.target), 0)].append(post)
        return found


def _target(url: str) -> str:
    parts = urlsplit(url)
    return parts.path + (f"?{parts.query}" if parts.query else "")


def _select(query: Query, columns: str, source: str, condition: str, values: list[Any]) -> list:
    names = [column.strip().split(" ")[-1] for column in _split(columns)]
    names = [name.removesuffix("::text").rpartition(".")[2] for name in names]
    rows = query(f"SELECT {columns} FROM {source} {condition}", values)
    return [SimpleNamespace(**dict(zip(names, row, strict=True))) for row in rows]


def _split(columns: str) -> list[str]:
    """Split at commas outside of parentheses (ours have none inside)."""
    return columns.split(",")
