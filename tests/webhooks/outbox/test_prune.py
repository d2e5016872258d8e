"""Retention: what is deleted, what stays, and that it delays no other work."""

from __future__ import annotations

import threading
from datetime import timedelta
from importlib import import_module

import pytest
from django.db import connection, transaction
from django.utils import timezone

from tests.support.factories import make_delivery, make_event, make_message, make_replay
from tests.support.waiting import wait_until
from webhooks_app import outbox
from webhooks_app.models import (
    ReplayJob,
    SigningSecret,
    WebhookDelivery,
    WebhookEvent,
    WebhookMessage,
)
from webhooks_app.operators import replay
from webhooks_app.signing import store

pytestmark = pytest.mark.django_db
LONG_AGO = timedelta(days=31)


def old(status="delivered", **fields):
    then = timezone.now() - LONG_AGO
    event = fields.pop("event", None) or make_event(created_at=then)
    finished = None if status == "pending" else then
    return make_message(status, event=event, created_at=then, finished_at=finished, **fields)


def test_what_was_finished_long_ago_goes_with_its_attempts_and_event():
    """Proves that a delivered message, its attempts and its event leave together."""
    for status in ("delivered", "dead", "superseded", "cancelled"):
        make_delivery(old(status), "failed")
    kept = make_delivery(make_message("delivered")).message
    pruned = outbox.prune()
    assert (pruned.messages, pruned.deliveries, pruned.events) == (4, 4, 4)
    assert list(WebhookMessage.objects.all()) == [kept]
    assert WebhookDelivery.objects.count() == WebhookEvent.objects.count() == 1


def test_the_setting_says_how_long_a_finished_message_and_its_payload_stay(settings):
    """Proves that RETENTION_DAYS counts from the end of the message."""
    message = old()
    settings.WEBHOOKS = {**settings.WEBHOOKS, "RETENTION_DAYS": 32}
    assert outbox.prune().messages == 0
    assert bytes(WebhookMessage.objects.get(pk=message.pk).event.body)
    settings.WEBHOOKS = {**settings.WEBHOOKS, "RETENTION_DAYS": 30}
    assert outbox.prune().messages == 1
    assert not WebhookEvent.objects.exists()


def test_pending_and_replayed_messages_stay_however_old():
    """Proves that pending and recently replayed messages are kept."""
    owed, replayed = old("pending"), old("dead")
    replay.replay_one(replayed, requested_by="me", source="command")
    just_delivered = old("delivered")
    WebhookMessage.objects.filter(pk=just_delivered.pk).update(finished_at=timezone.now())
    assert outbox.prune().messages == 0
    assert set(WebhookMessage.objects.all()) == {owed, replayed, just_delivered}


def test_an_event_stays_as_long_as_one_of_its_messages():
    """Proves that a body is kept while somebody may still need it."""
    event = make_event(created_at=timezone.now() - LONG_AGO)
    old("delivered", event=event)
    kept = make_message("pending", event=event, url="https://second.example.org/")
    pruned = outbox.prune()
    assert (pruned.messages, pruned.events) == (1, 0)
    kept.refresh_from_db()


def test_events_owed_to_nobody_go_too_and_expired_secrets_and_ended_replays():
    """Proves that events of tasks without a callback_url are deleted, too."""
    make_event(created_at=timezone.now() - LONG_AGO)
    recent = make_event()
    make_replay(state="finished", finished_at=timezone.now() - LONG_AGO)
    running = make_replay()
    store.get_or_create("film")
    store.rotate("film")
    SigningSecret.objects.exclude(expires_at=None).update(expires_at=timezone.now() - LONG_AGO)
    pruned = outbox.prune()
    assert (pruned.events, pruned.replays, pruned.secrets) == (1, 1, 1)
    assert WebhookEvent.objects.get() == recent
    assert ReplayJob.objects.get() == running
    assert SigningSecret.objects.get().expires_at is None


def test_batches_add_up_and_a_budget_leaves_the_rest(monkeypatch):
    """Proves that any number of messages is deleted in small transactions, with a time limit."""
    monkeypatch.setattr(import_module("webhooks_app.outbox.prune"), "BATCH", 2)
    for _ in range(5):
        old()
    first = outbox.prune(budget_seconds=0)
    assert (first.messages, first.is_complete) == (2, False)
    seen = []
    rest = outbox.prune(on_batch=lambda pruned: seen.append(pruned.messages))
    assert (rest.messages, rest.is_complete) == (3, True)
    assert seen[:2] == [2, 3]
    assert outbox.count_prunable() == 0


@pytest.mark.django_db(transaction=True)
def test_a_row_that_somebody_holds_is_skipped_not_waited_for():
    """Proves that pruning never waits for a lock, and takes the skipped row the next time."""
    held, free = old(), old()
    is_held, may_go = threading.Event(), threading.Event()

    def hold():
        with transaction.atomic():
            WebhookMessage.objects.select_for_update().get(pk=held.pk)
            is_held.set()
            may_go.wait(10)
        connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    assert wait_until(is_held.is_set)
    try:
        assert outbox.prune().messages == 1
        assert WebhookMessage.objects.get() == held
    finally:
        may_go.set()
        holder.join()
    assert outbox.prune().messages == 1
    assert free.pk != held.pk
