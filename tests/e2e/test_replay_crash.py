"""Does a bulk replay continue where it was when the process that advances it is killed?"""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.receiver import Receiver
from tests.support.running import SCOPE, publish_bulk
from tests.support.waiting import wait_until
from webhooks_app.models import ReplayJob, ReplayState, WebhookDelivery, WebhookMessage
from webhooks_app.operators import replay
from webhooks_app.outbox.find import MessageFilters
from webhooks_app.signing.store import get_or_create

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]

COMMAND = ("manage.py", "deliver_webhooks")
#: What was under way when the process died is due again after a few seconds.
SHORT = {"WEBHOOK_TIMEOUT_SECONDS": "2", "WEBHOOK_LEASE_MARGIN_SECONDS": "3"}
DEAD = 90
BATCH = 30


@pytest.mark.parametrize("place", ["its own receiver", "elsewhere"])
def test_a_replay_survives_kill_9_in_the_middle_of_a_batch(tmp_path: Path, place: str) -> None:
    """The batch in progress is rolled back; the next process does it and the rest, once.

    Elsewhere, each original is linked to its one copy, and is no dead letter any more.
    """
    get_or_create(SCOPE)
    with ExitStack() as stack:
        receiver = stack.enter_context(Receiver())
        is_elsewhere = place == "elsewhere"
        publish_bulk(f"{receiver.url}/old" if is_elsewhere else receiver.url, DEAD)
        WebhookMessage.objects.update(status="dead", next_attempt_at=None)
        job = replay.start(
            MessageFilters(),
            to_url=receiver.url if is_elsewhere else "",
            rate=BATCH,
            requested_by="op",
            source="command",
            reason="outage",
        )

        fault = {"FAULT_INJECTION": "1", "FAULTS": "replay.before_commit:kill@2"}
        log = tmp_path / "killed.log"
        killed = stack.enter_context(processes.running(log, *COMMAND, **SHORT, **fault))
        assert killed.wait(40) == -signal.SIGKILL, log.read_text()
        assert (_put_back(job), _dead()) == (BATCH, DEAD - BATCH)

        stack.enter_context(processes.running(tmp_path / "next.log", *COMMAND, **SHORT))
        wait_until(lambda: _is_delivered(DEAD), timeout=40)
    job.refresh_from_db()
    assert (job.state, job.total, job.started_count) == (ReplayState.FINISHED, DEAD, DEAD)
    _check_once_each(receiver)
    replayed = WebhookMessage.objects.filter(status="replayed", replayed_as__status="delivered")
    copies = {row.replayed_as_id for row in replayed}
    assert (len(copies), {request.path for request in receiver.requests}) == (
        DEAD if is_elsewhere else 0,
        {"/hook"},
    )


def _put_back(job: ReplayJob) -> int:
    return WebhookMessage.objects.filter(replay_id=job.pk).count()


def _dead() -> int:
    return WebhookMessage.objects.filter(status="dead").count()


def _is_delivered(count: int) -> bool:
    is_over = not ReplayJob.objects.filter(state=ReplayState.RUNNING).exists()
    return is_over and WebhookMessage.objects.filter(status="delivered").count() == count


def _check_once_each(receiver: Receiver) -> None:
    """Each message arrived; twice only if its answer was lost with the killed process."""
    ids = [request.message_id for request in receiver.requests]
    interrupted = WebhookDelivery.objects.exclude(outcome="succeeded").count()
    assert len(set(ids)) == DEAD
    assert len(ids) - DEAD <= interrupted
    assert WebhookDelivery.objects.filter(outcome="succeeded").count() == DEAD
