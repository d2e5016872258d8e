"""What becomes of messages while the forward proxy lets nothing through?"""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from tests.support.forward_proxy import ForwardProxy
from tests.support.ports import free_port
from tests.support.receiver import Receiver
from tests.support.running import SCOPE, attempts_of, publish, running_engine, status_of
from tests.support.waiting import wait_until
from webhooks_app import egress, metrics, retry
from webhooks_app.models import WebhookDestination, WebhookMessage
from webhooks_app.operators.explain import explain

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webhooks_app.delivery.housekeeping.INTERVAL_SECONDS", 0.1)
    monkeypatch.setattr(retry, "PROXY_WAIT_SECONDS", 0.5)
    monkeypatch.setattr(retry, "PROXY_WAIT_MAX_SECONDS", 1.0)


def test_a_proxy_that_is_down_costs_the_receiver_nothing(settings: object) -> None:
    """No retry is used and no breaker opens, the destination is held, and all arrives afterwards.

    A message without retries lives through it. What waited for longer than MESSAGE_MAX_WAIT dies,
    although its attempts went on: it stays due since when it was.
    """
    port = free_port()
    proxy = egress.read_proxy(f"http://127.0.0.1:{port}")
    with Receiver() as receiver, running_engine(proxy=proxy):
        # More than the breaker's threshold, and none may be retried.
        events = [publish(receiver.url, subject=f"task-{n}", policy=[]) for n in range(12)]
        due = {m.pk: m.next_attempt_at for m in WebhookMessage.objects.all()}
        wait_until(lambda: WebhookMessage.objects.filter(last_error_code="proxy").count() >= 2)
        destination = WebhookDestination.objects.get(scope=SCOPE)
        # One request, that of the oldest message, looks whether the proxy works again.
        wait_until(lambda: WebhookMessage.objects.filter(attempt_count__gte=2).count() == 1)
        wait_until(lambda: _of(destination).hold_reason == "proxy" and _is_held(destination))
        destination = _of(destination)
        assert (destination.breaker_state, destination.failing_messages) == ("closed", 0)
        assert destination.last_failure_at is None
        # Not the oldest, of which an attempt may be under way.
        failed = WebhookMessage.objects.filter(last_error_code="proxy").order_by("-pk").first()
        assert failed is not None
        assert (failed.status, failed.retry_step) == ("pending", 0)
        assert failed.next_attempt_at == due[failed.pk]
        wait_until(lambda: "the forward proxy makes no connection" in _told(failed.pk))
        wait_until(lambda: dict(_figures())["webhooks_destinations_behind_proxy"] == 1)

        long_ago = timezone.now() - timedelta(days=1, seconds=1)
        WebhookMessage.objects.filter(pk=failed.pk).update(next_attempt_at=long_ago)
        wait_until(lambda: WebhookMessage.objects.get(pk=failed.pk).status == "dead")
        assert WebhookMessage.objects.get(pk=failed.pk).last_error_code == "expired"

        with ForwardProxy(port=port) as forward:
            others = [event for event in events if event.pk != failed.event_id]
            wait_until(lambda: all(status_of(event) == "delivered" for event in others), 20)
            assert set(forward.asked) == {f"127.0.0.1:{receiver.port}"}
        assert len(receiver.wait_for(11)) == 11
    told = [attempt.error for event in events for attempt in attempts_of(event)]
    assert "the proxy cannot be reached: connection refused" in told


def _of(destination: WebhookDestination) -> WebhookDestination:
    return WebhookDestination.objects.get(pk=destination.pk)


def _is_held(destination: WebhookDestination) -> bool:
    until = _of(destination).held_until
    return until is not None and until > timezone.now()


def _told(pk: int) -> str:
    return explain(WebhookMessage.objects.get(pk=pk), timezone.now()).text


def _figures() -> list[tuple[str, float]]:
    return [(s.name, s.value) for gauge in metrics.database_gauges() for s in gauge.samples]
