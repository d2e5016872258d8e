"""From a task to its webhook: payloads, sending, and both together, against a real receiver.

A short way into the webhooks for whoever reads the tests first. Every function here is the one
that production calls; the receiver is a real HTTP server whose requests are verified with the
`standardwebhooks` package. The finer points are in tests/tasks/test_events.py and tests/webhooks/.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from tasks_app import events
from tasks_app.models import Task
from tasks_app.state.submit import Submit, submit
from tasks_app.work import run
from tests.support import answers
from tests.support.factories import PROJECT, make_task
from tests.support.receiver import Receiver
from tests.support.running import (
    SCOPE,
    attempts_of,
    is_all_ended,
    publish,
    running_engine,
    status_of,
)
from tests.support.waiting import wait_until
from webhooks_app import outbox
from webhooks_app.models import WebhookDelivery, WebhookEvent, WebhookMessage
from webhooks_app.signing.store import get_or_create

METADATA = '{"userId": "user-123", "testResultId": "result-456"}'


@pytest.fixture
def receiver(transactional_db: None) -> Iterator[Receiver]:
    """A receiver that answers 200 and checks signatures, while an engine delivers."""
    with Receiver([200], secret=get_or_create(SCOPE)) as receiver, running_engine():
        yield receiver


@pytest.mark.django_db
class TestWebhookPayloadBuilders:
    """`tasks_app.events.body` writes the JSON that a receiver gets."""

    def payload_of(self, task: Task) -> dict[str, Any]:
        return dict(json.loads(events.body(task, f"task.{task.status}")))

    def test_build_success_webhook_payload_basic(self) -> None:
        """A completed task says what was made, how long it took and when; no metadata, no key."""
        now = timezone.now()
        made = {"media_url": "https://media.example.org/v.mp4", "payload_media_id": "64f1b2c3"}
        task = make_task(
            "completed", result=made, started_at=now - timedelta(seconds=315), finished_at=now
        )
        payload = self.payload_of(task)
        assert list(payload)[:3] == ["task_id", "project_id", "status"]
        assert (payload["task_id"], payload["status"]) == (str(task.pk), "completed")
        assert payload["result"] == made
        assert payload["processing_time"] == 315
        assert payload["completed_at"] == f"{now:%Y-%m-%dT%H:%M:%SZ}"
        assert "metadata" not in payload

    def test_build_success_webhook_payload_with_metadata(self) -> None:
        """Metadata comes back byte for byte: the client's order of keys and form of numbers."""
        metadata = '{"z": 1.0, "a": [1e3, "\\u00e9"], "userId": "user-123"}'
        task = make_task("completed", result={"media_url": "u"}, metadata=metadata)
        assert f'"metadata":{metadata}}}'.encode() in events.body(task, events.COMPLETED)

    def test_build_failure_webhook_payload_basic(self) -> None:
        """A failed task says what went wrong, by sentence and by code, and when."""
        task = make_task("failed", error="The render failed.", error_code="render_failed")
        payload = self.payload_of(task)
        assert (payload["status"], payload["error"]) == ("failed", "The render failed.")
        assert (payload["error_code"], payload["traceback"]) == ("render_failed", "")
        assert payload["failed_at"].endswith("Z")
        assert "result" not in payload
        assert "completed_at" not in payload

    def test_build_failure_webhook_payload_with_traceback(self) -> None:
        """The stored traceback is told, beside the metadata."""
        task = make_task("failed", traceback="Traceback (most recent call last): ...")
        task.metadata = METADATA
        payload = self.payload_of(task)
        assert payload["traceback"] == "Traceback (most recent call last): ..."
        assert payload["metadata"] == json.loads(METADATA)


class TestWebhookSending:
    """`outbox.publish` owes an event to a URL; the engine sends it, and tries again."""

    def test_send_webhook_async_success(self, receiver: Receiver) -> None:
        """A published event arrives once, signed, with the bytes that were published."""
        event = publish(receiver.url, body=b'{"n": 1}')
        (request,) = receiver.wait_for(1)
        assert (request.method, request.body) == ("POST", b'{"n": 1}')
        assert request.is_verified
        assert request.message_id == event.event_id
        wait_until(lambda: status_of(event) == "delivered")
        (attempt,) = attempts_of(event)
        assert (attempt.outcome, attempt.response_status) == ("succeeded", 200)

    def test_send_webhook_async_retry_on_failure(self, receiver: Receiver) -> None:
        """After two failures the third attempt delivers: the same id, the same bytes."""
        receiver.answer(500, 503, 200)
        event = publish(receiver.url)
        requests = receiver.wait_for(3)
        wait_until(lambda: status_of(event) == "delivered")
        assert len({(request.message_id, request.body) for request in requests}) == 1
        assert [attempt.response_status for attempt in attempts_of(event)] == [500, 503, 200]
        assert [request.headers["webhook-attempt"] for request in requests] == ["1", "2", "3"]

    def test_send_webhook_async_no_url(self, receiver: Receiver) -> None:
        """Without a URL the event is kept for the pull feed, and nothing is owed to anybody."""
        event = outbox.publish(
            scope=SCOPE,
            subject="task-without-url",
            sequence=1,
            event_type="task.completed",
            body=b"{}",
            is_terminal=True,
            targets=[],
        )
        other = publish(receiver.url)  # the engine has looked when this one has arrived
        wait_until(lambda: status_of(other) == "delivered")
        assert not event.messages.exists()
        assert [request.message_id for request in receiver.requests] == [other.event_id]

    def test_send_webhook_async_timeout(self, receiver: Receiver, settings: Any) -> None:
        """A receiver that never answers costs the time-out, says so, and is tried again."""
        settings.WEBHOOKS = {**settings.WEBHOOKS, "TIMEOUT_SECONDS": 0.3}
        receiver.answer(answers.hang(), 200)
        event = publish(receiver.url)
        wait_until(lambda: status_of(event) == "delivered")
        first, second = attempts_of(event)
        assert (first.outcome, first.error_code) == ("failed", "timeout")
        assert first.duration_ms > 250
        assert second.response_status == 200

    def test_send_webhook_sync(self, receiver: Receiver) -> None:
        """Ordinary synchronous code sends by committing: what is rolled back was never owed."""
        with transaction.atomic():
            publish(receiver.url, subject="rolled-back")
            transaction.set_rollback(True)  # as any error in the same transaction does
        with transaction.atomic():
            event = publish(receiver.url, subject="committed")
            assert receiver.requests == []
        receiver.wait_for(1)
        wait_until(is_all_ended)
        assert [request.message_id for request in receiver.requests] == [event.event_id]


class TestWebhookIntegrationWithTasks:
    """A worker's run of a task ends in a webhook, without a line of glue in between."""

    @pytest.fixture(autouse=True)
    def _provider(self, transactional_db: None, settings: Any) -> None:
        settings.TASK_RETRY_WAITS = []
        self.use(settings)

    def use(self, settings: Any, **options: Any) -> None:
        provider = {"provider": "tests.support.providers.StillProvider", "options": options}
        settings.GENERATION_PROVIDERS = {"image_generation": provider}

    def run_task(self, callback_url: str) -> Task:
        """Submit a task, run it as a worker does, and return it as it ended."""
        request = Submit(
            PROJECT,
            "image_generation",
            {"prompt": "A lighthouse"},
            callback_url=callback_url,
            metadata=METADATA,
        )
        task = submit(request).task
        run.run_next("image_generation")
        task.refresh_from_db()
        return task

    def test_task_success_sends_webhook(self) -> None:
        """The webhook of a completed task names its media and carries the client's metadata."""
        with Receiver([204], secret=get_or_create(PROJECT)) as receiver, running_engine():
            task = self.run_task(receiver.url)
            (request,) = receiver.wait_for(1)
        payload = json.loads(request.body)
        assert request.is_verified
        assert request.headers["webhook-event"] == "task.completed"
        assert (payload["task_id"], payload["status"]) == (str(task.pk), "completed")
        assert payload["result"]["media_url"] == task.result["media_url"]
        assert payload["metadata"] == json.loads(METADATA)

    def test_task_failure_sends_webhook(self, settings: Any) -> None:
        """The webhook of a failed task says why, without the text of the exception."""
        self.use(settings, fail_code="render_failed")
        with Receiver([202], secret=get_or_create(PROJECT)) as receiver, running_engine():
            task = self.run_task(receiver.url)
            (request,) = receiver.wait_for(1)
        payload = json.loads(request.body)
        assert task.status == payload["status"] == "failed"
        assert (payload["error_code"], payload["error"]) == ("render_failed", task.error)
        assert 'File "tests/support/providers.py"' in payload["traceback"]
        assert b"secret-canary-text" not in request.body

    def test_task_success_no_webhook_if_no_url(self) -> None:
        """A task without a callback URL ends as usual; its event waits in the pull feed."""
        with running_engine():
            task = self.run_task("")
        assert task.status == "completed"
        event = WebhookEvent.objects.get()
        assert (event.subject, event.event_type) == (str(task.pk), "task.completed")
        assert event.acknowledged_at is None
        assert not WebhookMessage.objects.exists()
        assert not WebhookDelivery.objects.exists()
