"""The replay service: what is sent again, what is not, how fast, and after a crash."""

from __future__ import annotations

import threading
import uuid
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from tests.support.factories import (
    PROJECT,
    URL,
    make_dead_letter,
    make_delivery,
    make_destination,
    make_event,
    make_message,
)
from webhooks_app.egress import EgressDenied
from webhooks_app.models import OperatorAction, ReplayJob, WebhookDelivery, WebhookMessage
from webhooks_app.operators import replay
from webhooks_app.operators.replay_preview import preview
from webhooks_app.outbox.find import InvalidFilter, MessageFilters

pytestmark = pytest.mark.django_db
BY = {"requested_by": "somebody", "source": "command", "reason": "an outage"}
ALL = MessageFilters(status="any")
TASK = str(uuid.uuid4())
OTHER_URL = "https://backup.example.org/hooks"


def start(filters=ALL, **options):
    return replay.start(filters, **{**BY, **options})


def run(job):
    while replay.advance(job.pk) is not None:
        pass
    job.refresh_from_db()
    return job


def lease(message, seconds=30):
    end = timezone.now() + timedelta(seconds=seconds)
    message.lease_token, message.lease_expires_at = uuid.uuid4(), end
    if message.status == "pending":
        message.next_attempt_at = end
    message.save()
    return message


def is_due(message):
    message.refresh_from_db()
    return message.status == "pending" and message.next_attempt_at <= timezone.now()


def test_a_dead_letter_becomes_due_again_with_its_whole_policy():
    """Proves what a replay resets, and that history (attempts, first delivery) stays."""
    message = make_dead_letter()
    WebhookMessage.objects.update(interrupted_count=4)
    job = run(start(MessageFilters()))
    assert is_due(message)
    assert (message.retry_step, message.interrupted_count, message.attempt_count) == (0, 0, 4)
    assert message.finished_at is None
    assert message.replay_id == job.pk
    assert (job.state, job.total, job.started_count, job.skipped_count) == ("finished", 1, 1, 0)
    assert WebhookDelivery.objects.count() == 4


def test_a_delivered_message_may_be_replayed_and_stays_delivered_in_the_figures():
    """Proves that delivered_at, by which deliveries are counted, survives a replay."""
    message = make_message("delivered")
    replay.replay_one(message, **BY)
    assert is_due(message)
    assert message.delivered_at is not None


def test_without_a_status_a_bulk_replay_means_dead_letters():
    """Proves that a filter without a status does not replay the whole history."""
    delivered, dead = make_message("delivered"), make_message("dead")
    assert run(start(MessageFilters(project=PROJECT))).total == 1
    assert is_due(dead)
    assert not is_due(delivered)
    assert run(start(MessageFilters(ids=(delivered.pk,)))).started_count == 1


def test_a_message_under_lease_is_left_alone():
    """Proves that a replay never touches a message while an attempt is under way."""
    leased = lease(make_message())
    acknowledged = lease(make_message("cancelled"))
    for message in (leased, acknowledged):
        before = WebhookMessage.objects.filter(pk=message.pk).values().get()
        with pytest.raises(replay.InFlight):
            replay.replay_one(message, **BY)
        assert WebhookMessage.objects.filter(pk=message.pk).values().get() == before
    job = run(start())
    assert (job.total, job.started_count, job.skipped_count) == (2, 0, 2)
    assert ReplayJob.objects.count() == 1


def test_a_message_whose_lease_ran_out_goes_and_its_attempt_is_interrupted():
    """Proves that a replay may follow a crashed attempt, which does not stay open for ever."""
    message = lease(make_message("cancelled"), seconds=-1)
    attempt = make_delivery(message, "pending")
    replay.replay_one(message, **BY)
    assert is_due(message)
    assert message.lease_token is None
    attempt.refresh_from_db()
    assert attempt.outcome == "interrupted"


def test_a_message_waiting_for_its_retry_goes_now_and_one_that_is_due_is_not_doubled():
    """Proves that replays and the schedule share one row: sooner, never twice."""
    waiting = make_message(next_attempt_at=timezone.now() + timedelta(hours=1), retry_step=2)
    due = make_message(next_attempt_at=timezone.now() - timedelta(seconds=5))
    job = run(start())
    assert (job.started_count, job.skipped_count) == (1, 1)
    assert is_due(waiting)
    assert waiting.retry_step == 0
    due.refresh_from_db()
    assert due.replay_id is None
    again = run(start())
    assert (again.started_count, again.skipped_count) == (0, 2)


def test_a_disabled_destination_is_passed_over():
    """Proves that a replay skips messages that could never be sent."""
    make_destination(disabled_at=timezone.now())
    message = make_message("dead")
    with pytest.raises(replay.DestinationDisabled):
        replay.replay_one(message, **BY)
    assert run(start()).skipped_count == 1
    assert not is_due(message)


def test_another_url_is_one_message_more_with_its_own_destination():
    """Proves that an override is done once per event, and that the originals are linked to it."""
    event = make_event()
    originals = [
        make_message("dead", event=event),
        make_message("dead", event=event, url=URL + "2"),
    ]
    job = run(start(MessageFilters(), to_url=OTHER_URL))
    (sent,) = WebhookMessage.objects.filter(url=OTHER_URL)
    assert (sent.event_id, sent.destination.host) == (event.pk, "backup.example.org")
    assert sent.destination.scope == event.scope
    assert is_due(sent)
    assert not any(is_due(message) for message in originals)
    assert {message.status for message in originals} == {"replayed"}
    assert {message.replayed_as_id for message in originals} == {sent.pk}
    assert (job.total, job.started_count, job.skipped_count) == (1, 1, 0)
    WebhookMessage.objects.filter(pk=sent.pk).update(
        status="delivered", next_attempt_at=None, finished_at=timezone.now()
    )
    replay.replay_one(originals[0], to_url=OTHER_URL, **BY)
    assert WebhookMessage.objects.filter(url=OTHER_URL).count() == 1
    assert is_due(sent)


def test_another_url_under_lease_is_in_flight():
    """Proves that with an override the message at the other URL decides, not the original."""
    original = make_message("dead")
    twin = lease(make_message(event=original.event, url=OTHER_URL))
    with pytest.raises(replay.InFlight):
        replay.replay_one(original, to_url=OTHER_URL, **BY)
    assert run(start(MessageFilters(ids=(original.pk,)), to_url=OTHER_URL)).skipped_count == 1
    twin.refresh_from_db()
    assert twin.replay_id is None


@pytest.mark.parametrize("url", ["http://10.0.0.1/", "ftp://a.example.org/", "https://metadata/"])
def test_another_url_is_judged_by_the_egress_policy(url):
    """Proves that an override cannot reach what a callback_url cannot."""
    message = make_message("dead")
    with pytest.raises(EgressDenied):
        start(to_url=url)
    with pytest.raises(EgressDenied):
        replay.replay_one(message, to_url=url, **BY)
    assert not ReplayJob.objects.exists()


def test_every_filter_narrows():
    """Proves each filter by a message that it finds and one that it does not."""
    now = timezone.now()
    wanted = make_message(
        "dead",
        url="https://wanted.example.org/x",
        event=make_event("task.failed", scope="wanted", subject=TASK),
        created_at=now - timedelta(hours=1),
        last_error_code="timeout",
        last_status_code=None,
    )
    make_message("dead", last_status_code=503)
    make_message("delivered")
    for narrowing in (
        {"project": "wanted"},
        {"task": TASK},
        {"event": "task.failed"},
        {"host": "WANTED.example.org"},
        {"error_code": "timeout"},
        {"until": now - timedelta(minutes=30)},
        {"ids": (wanted.pk,)},
    ):
        found = preview(MessageFilters(status="dead", **narrowing))
        assert [message.pk for message in found.sample] == [wanted.pk], narrowing
    assert preview(MessageFilters(since=now - timedelta(minutes=30))).count == 1
    assert preview(MessageFilters(status_code=503)).count == 1
    assert preview(ALL, "wanted").count == 1
    assert preview(MessageFilters(project="other"), "wanted").count == 0
    assert preview(ALL).count == 3


def test_filters_survive_being_stored():
    """Proves that the filters of a job are the ones that were asked for."""
    filters = MessageFilters(
        status="any", ids=(3, 4), since=timezone.now(), host="a.example.org", status_code=500
    )
    assert MessageFilters.of(filters.as_json()) == filters
    for broken in ({"status": "deed"}, {"since": "yesterday"}):
        with pytest.raises(InvalidFilter):
            MessageFilters.of(broken)


def test_batches_resume_where_a_crash_left_them(monkeypatch):
    """Proves that a batch and its progress are stored together: none is lost or sent twice."""
    monkeypatch.setattr(replay, "BATCH", 2)
    messages = [make_message("dead") for _ in range(5)]
    job = start()
    assert replay.advance(job.pk) == 2
    with transaction.atomic():
        assert replay.advance(job.pk) == 2
        transaction.set_rollback(True)  # the process dies before its commit
    assert sum(is_due(message) for message in messages) == 2
    later = make_message("dead")
    run(job)
    assert all(is_due(message) for message in messages)
    assert (job.started_count, job.skipped_count, job.total) == (5, 0, 5)
    assert not is_due(later)


def test_a_cancelled_replay_starts_nothing_more(monkeypatch):
    """Proves that cancelling stops the rest, but not what was made due."""
    monkeypatch.setattr(replay, "BATCH", 2)
    for _ in range(5):
        make_message("dead")
    job = start()
    replay.advance(job.pk)
    replay.cancel(job, requested_by="somebody", reason="wrong receiver")
    assert replay.advance(job.pk) is None
    assert WebhookMessage.objects.filter(status="pending").count() == 2
    job.refresh_from_db()
    assert job.state == "cancelled"
    with pytest.raises(replay.NotRunning):
        replay.cancel(job, requested_by="somebody")


def test_a_rate_limits_the_messages_made_due():
    """Proves that a rate of 2 a second starts 2, then nothing until the second has passed."""
    for _ in range(5):
        make_message("dead")
    job = start(rate=2)
    assert replay.advance_running_jobs() == 2
    assert replay.advance_running_jobs() == 0
    due = timezone.now() - timedelta(milliseconds=900)
    ReplayJob.objects.update(next_batch_at=due)
    assert replay.advance_running_jobs() == 2
    job.refresh_from_db()
    # A second after it was due, not after it was looked at (but never far behind the clock).
    assert due + timedelta(seconds=1) <= job.next_batch_at
    assert job.next_batch_at <= timezone.now() + timedelta(seconds=1)
    for rate in (0, -1, 1e9, float("nan")):
        with pytest.raises(ValueError):
            start(rate=rate)


def test_progress_is_counted_from_the_messages():
    """Proves that progress reports the real outcome of each message."""
    messages = [make_message("dead") for _ in range(3)]
    job = start()
    assert replay.progress(job).left == 3
    run(job)
    now = timezone.now()
    for message, status in zip(messages, ("delivered", "dead", "pending"), strict=True):
        due = now if status == "pending" else None
        WebhookMessage.objects.filter(pk=message.pk).update(status=status, next_attempt_at=due)
    seen = replay.progress(job)
    assert (seen.left, seen.delivered, seen.dead, seen.pending) == (0, 1, 1, 1)
    assert not seen.is_settled
    WebhookMessage.objects.update(status="delivered", next_attempt_at=None)
    assert replay.progress(job).is_all_delivered


def test_who_when_and_why_are_on_record():
    """Proves that starting, replaying one and cancelling each leave a line with the reason."""
    message = make_message("dead")
    job = start(MessageFilters(host="receiver.example.org"), reason="receiver was down")
    replay.cancel(job, requested_by="another", reason="not all of them")
    replay.replay_one(message, **{**BY, "reason": "just this"})
    lines = OperatorAction.objects.order_by("id").values_list("actor", "action", "reason")
    assert list(lines) == [
        ("somebody", "replay.start", "receiver was down"),
        ("another", "replay.cancel", "not all of them"),
        ("somebody", "replay.start", "just this"),
    ]
    assert "host=receiver.example.org" in OperatorAction.objects.earliest("id").target


@pytest.mark.django_db(transaction=True)
def test_two_replays_and_several_processes_at_once_double_nothing():
    """Proves, over real connections, that each message is made due once by one of the jobs."""
    for _ in range(60):
        make_message("dead")
    jobs = [start(), start()]
    barrier = threading.Barrier(4)

    def work():
        barrier.wait()
        for job in jobs:
            replay.advance_running_jobs()
            replay.advance(job.pk)
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for job in jobs:
        run(job)
    assert sum(job.started_count for job in jobs) == 60
    assert WebhookMessage.objects.filter(status="pending").count() == 60
    assert all(job.started_count + job.skipped_count == 60 for job in jobs)
