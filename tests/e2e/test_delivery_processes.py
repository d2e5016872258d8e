"""Do dedicated delivery processes share the work, stop cleanly, and replace one that was killed?"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from django.db import connection
from django.utils import timezone

from tests.support import answers, processes
from tests.support.answers import Answer
from tests.support.receiver import Receiver
from tests.support.running import (
    SCOPE,
    attempts_of,
    check_signatures,
    is_all_ended,
    publish,
    publish_bulk,
    status_of,
)
from tests.support.waiting import wait_until
from webhooks_app.models import WebhookDelivery, WebhookMessage
from webhooks_app.signing.store import get_or_create

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.django_db(transaction=True)]

READY = "delivering webhooks"
DRAIN_SECONDS = 10


class Delivery:
    """One ``manage.py deliver_webhooks``."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log

    def is_ready(self) -> bool:
        """Say whether it has reported that it is ready."""
        assert self.process.poll() is None, self.log.read_text()
        return READY in self.log.read_text()

    def talks_to(self, receiver: Receiver) -> bool:
        """Tell whether it has a connection to the receiver."""
        sockets = psutil.Process(self.process.pid).net_connections()
        return any(s.raddr and s.raddr.port == receiver.port for s in sockets)

    def terminate(self) -> float:
        """Send SIGTERM, wait for the end, and return the seconds that it took."""
        started_at = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(DRAIN_SECONDS + 5) == 0, self.log.read_text()
        return time.monotonic() - started_at


def start(stack: ExitStack, folder: Path, **more: str) -> list[Delivery]:
    """Start two delivery processes and wait until both deliver."""
    get_or_create(SCOPE)
    found = []
    for number in (1, 2):
        log = folder / f"delivery{number}.log"
        command = ("manage.py", "deliver_webhooks")
        process = stack.enter_context(processes.running(log, *command, **more))
        found.append(Delivery(process, log))
    wait_until(lambda: all(delivery.is_ready() for delivery in found), timeout=40)
    return found


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Receivers and processes that end with the test."""
    with ExitStack() as stack:
        yield stack
    check_signatures()


def by_whom(receiver: Receiver, found: list[Delivery]) -> tuple[Delivery, Delivery]:
    """Return the process with a request in flight at the receiver, and the other one."""
    one, other = found
    wait_until(lambda: one.talks_to(receiver) or other.talks_to(receiver))
    return (one, other) if one.talks_to(receiver) else (other, one)


def test_two_processes_share_the_work_and_end_with_exit_code_0(
    stack: ExitStack, tmp_path: Path
) -> None:
    """400 messages arrive once each, by both processes; idle ones stop within seconds.

    Their log begins with what the policy's allow-list opens, here loopback.
    """
    found = start(stack, tmp_path)
    # Slow enough that one alone could not be done before the other has looked.
    receivers = [stack.enter_context(Receiver([Answer(200, delay=0.2)])) for _ in range(8)]
    for receiver in receivers:
        publish_bulk(receiver.url, 50)
    wait_until(is_all_ended, timeout=30)
    ids = [request.message_id for receiver in receivers for request in receiver.requests]
    assert len(ids) == len(set(ids)) == WebhookDelivery.objects.count() == 400
    for delivery in found:
        assert "Webhooks may go to addresses that are not public" in delivery.log.read_text()
        assert any(delivery.talks_to(receiver) for receiver in receivers)
        assert delivery.terminate() < 5


def test_sigterm_finishes_hands_back_and_leaves_nothing(stack: ExitStack, tmp_path: Path) -> None:
    """R21, W12: a slow answer counts, a hanging request is freed for the other at once, exit 0."""
    found = start(stack, tmp_path)
    slow = stack.enter_context(Receiver([Answer(200, delay=2.0)]))
    hanging = stack.enter_context(Receiver([answers.hang()]))
    stuck = publish(hanging.url)
    hanging.wait_for(1)
    leaving, staying = by_whom(hanging, found)
    # Both messages must be with the stopping process; the other one is resumed afterwards.
    staying.process.send_signal(signal.SIGSTOP)
    finished = publish(slow.url, subject="task-2")
    slow.wait_for(1)
    seconds = leaving.terminate()
    assert DRAIN_SECONDS - 1 < seconds < DRAIN_SECONDS + 5
    assert status_of(finished) == "delivered"
    assert not WebhookMessage.objects.filter(lease_token__isnull=False).exists()
    assert stuck.messages.get().retry_step == 0
    hanging.answer(200)
    staying.process.send_signal(signal.SIGCONT)
    wait_until(lambda: status_of(stuck) == "delivered", timeout=5)
    assert [a.outcome for a in attempts_of(stuck)] == ["interrupted", "succeeded"]
    assert len(hanging.requests) == 2
    assert staying.terminate() < 5


def test_sigterm_to_all_of_them_under_load_loses_and_doubles_nothing(
    stack: ExitStack, tmp_path: Path
) -> None:
    """W12, F10: all stop under load: begun requests end, the rest is freed, the next goes on."""
    found = start(stack, tmp_path)
    receivers = [stack.enter_context(Receiver([Answer(200, delay=0.3)])) for _ in range(8)]
    for receiver in receivers:
        publish_bulk(receiver.url, 100)
    wait_until(lambda: sum(len(receiver.requests) for receiver in receivers) > 100)
    for delivery in found:
        delivery.process.send_signal(signal.SIGTERM)
    assert [delivery.process.wait(5) for delivery in found] == [0, 0]
    begun = sum(len(receiver.requests) for receiver in receivers)
    delivered = WebhookMessage.objects.filter(status="delivered", delivered_at__isnull=False)
    left = WebhookMessage.objects.filter(status="pending", lease_token=None, attempt_count=0)
    assert begun == delivered.count() == WebhookDelivery.objects.count()
    assert (delivered.count() + left.count(), left.count() > 0) == (800, True)
    for receiver in receivers:
        receiver.answer(200)
    start(stack, tmp_path)
    wait_until(is_all_ended, timeout=20)
    ids = [request.message_id for receiver in receivers for request in receiver.requests]
    assert len(ids) == len(set(ids)) == 800
    assert set(WebhookDelivery.objects.values_list("outcome", flat=True)) == {"succeeded"}


def test_a_second_signal_ends_it_at_once(stack: ExitStack, tmp_path: Path) -> None:
    """A second signal ends it at once; the message returns when its lease expires."""
    found = start(stack, tmp_path)
    hanging = stack.enter_context(Receiver([answers.hang()]))
    event = publish(hanging.url)
    hanging.wait_for(1)
    leaving, staying = by_whom(hanging, found)
    leaving.process.send_signal(signal.SIGTERM)
    # It has heard the first one when it claims no more.
    wait_until(lambda: claiming() == 1)
    assert leaving.process.poll() is None
    leaving.process.send_signal(signal.SIGTERM)
    assert leaving.process.wait(2) == -signal.SIGTERM
    hanging.answer(200)
    event.messages.update(lease_expires_at=timezone.now())  # 45 seconds later
    wait_until(lambda: status_of(event) == "delivered", timeout=10)
    assert [a.outcome for a in attempts_of(event)] == ["interrupted", "succeeded"]
    assert staying.terminate() < 5


def claiming() -> int:
    """Return how many delivery processes have a connection to claim with."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'webhook-claim'"
        )
        return int(cursor.fetchone()[0])


def test_the_other_takes_over_from_one_that_was_killed(stack: ExitStack, tmp_path: Path) -> None:
    """kill -9 during a request: when the lease expires the other sends it again, same id."""
    found = start(stack, tmp_path, DJANGO_SETTINGS_MODULE="tests.support.short_leases")
    hanging = stack.enter_context(Receiver([answers.hang()]))
    event = publish(hanging.url)
    hanging.wait_for(1)
    killed, other = by_whom(hanging, found)
    killed.process.send_signal(signal.SIGKILL)
    assert killed.process.wait(5) == -signal.SIGKILL
    hanging.answer(200)
    wait_until(lambda: status_of(event) == "delivered", timeout=10)
    assert [a.outcome for a in attempts_of(event)] == ["interrupted", "succeeded"]
    assert [r.message_id for r in hanging.requests] == [event.event_id] * 2
    assert event.messages.get().retry_step == 0
    assert other.terminate() < 5
