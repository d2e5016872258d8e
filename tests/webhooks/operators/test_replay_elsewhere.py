"""Replays to another URL: whose events go there, and what becomes of the originals."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from tests.support.factories import URL, make_destination, make_event, make_message
from webhooks_app import outbox
from webhooks_app.models import Credential, ReplayJob, WebhookMessage
from webhooks_app.operators import replay, replay_preview, replay_progress
from webhooks_app.outbox import MessageFilters

pytestmark = pytest.mark.django_db
BY = {"requested_by": "somebody", "source": "command", "reason": "they moved"}
THERE, ELSEWHERE = "https://backup.example.org/hooks", "https://third.example.org/in"
DEAD = MessageFilters()


def dead(scope: str = "film", **fields) -> WebhookMessage:
    return make_message(
        "dead", event=fields.pop("event", None) or make_event(scope=scope), **fields
    )


def run(filters: MessageFilters = DEAD, to_url: str = THERE, **options) -> ReplayJob:
    job = replay.start(filters, to_url=to_url, **{**BY, **options})
    while replay.advance(job.pk) is not None:
        pass
    job.refresh_from_db()
    return job


def ended(message: WebhookMessage, status: str) -> WebhookMessage:
    """Stand in for the engine: the message has ended like this."""
    message.refresh_from_db()
    message.status, message.next_attempt_at, message.finished_at = status, None, timezone.now()
    message.save()
    return message


def copy_of(message: WebhookMessage) -> WebhookMessage:
    message.refresh_from_db()
    assert message.replayed_as is not None
    return message.replayed_as


def test_a_preview_says_whose_messages_go_from_where_to_where():
    """Proves each member: projects, times, errors, the receivers now, and the target."""
    old = timezone.now() - timedelta(hours=3)
    dead(created_at=old, last_error_code="timeout")
    dead("studio"), dead("studio", url="http://other.example.org:8080/x?token=secret")
    make_message("delivered", event=make_event(scope="studio"))
    seen = replay_preview.preview(DEAD, to_url=THERE)
    assert (seen.count, seen.is_exact, len(seen.sample)) == (3, True, 3)
    assert seen.projects == {"studio": 2, "film": 1}
    assert seen.error_codes == {"http_status": 2, "timeout": 1}
    assert seen.origins == {"https://receiver.example.org": 2, "http://other.example.org:8080": 1}
    assert (seen.oldest_at, seen.to_url) == (old, THERE)
    assert seen.newest_at > old
    assert seen.mixes_projects
    assert not replay_preview.preview(DEAD).mixes_projects
    assert not replay_preview.preview(MessageFilters(project="film"), to_url=THERE).mixes_projects
    nothing = replay_preview.preview(MessageFilters(host="nobody.example.org"), to_url=THERE)
    assert (nothing.count, nothing.projects, nothing.oldest_at) == (0, {}, None)


def test_a_preview_says_how_many_events_would_go():
    """Proves that one event in two messages is announced as one, which is what is sent."""
    first = dead()
    dead(event=first.event, url=ELSEWHERE)
    seen = replay_preview.preview(DEAD, to_url=THERE)
    assert ("to", f"{THERE} (1 event, once each)") in seen.lines()
    assert (seen.meant, replay_preview.preview(DEAD).meant) == (
        "1 event of 2 messages",
        "2 messages",
    )
    assert (seen.count, seen.events, run().total) == (2, 1, 1)
    dead()
    alone = replay_preview.preview(MessageFilters(host="receiver.example.org"), to_url=THERE)
    assert ("to", THERE) in alone.lines()


def test_a_preview_of_many_is_bounded_and_says_so(monkeypatch):
    """Proves that counting stops, while the range of times is that of all."""
    now = timezone.now()
    made = [dead(created_at=now - timedelta(minutes=5 - n)) for n in range(5)]
    monkeypatch.setattr(replay_preview, "COUNT_LIMIT", 3)
    seen = replay_preview.preview(DEAD)
    assert (seen.count, seen.is_exact) == (3, False)
    assert (seen.oldest_at, seen.newest_at) == (made[0].created_at, made[-1].created_at)


def test_several_projects_need_a_second_yes():
    """Proves that one URL gets the events of several projects only if that was said."""
    dead("film"), dead("studio")
    with pytest.raises(replay.SeveralProjects, match=r"2 projects \(film, studio\)"):
        run()
    assert not ReplayJob.objects.exists()
    assert not WebhookMessage.objects.filter(url=THERE).exists()
    assert run(MessageFilters(project="film")).started_count == 1
    assert run(to_url="").total == 1  # each to its own receiver: nobody else sees it
    dead("film")
    ended(WebhookMessage.objects.filter(event__scope="studio").latest("id"), "dead")
    assert run(all_projects=True).started_count == 2


def test_what_was_not_shown_is_not_sent():
    """Proves that a project that came in after the preview is refused, also after a yes."""
    dead("film")
    shown = replay_preview.preview(DEAD, to_url=THERE)
    dead("studio")
    with pytest.raises(replay.SeveralProjects):
        run(shown=shown)
    with pytest.raises(replay.SeveralProjects, match=r"1 project \(studio\) came to match"):
        run(shown=shown, all_projects=True)
    WebhookMessage.objects.filter(event__scope="film").delete()
    with pytest.raises(replay.SeveralProjects, match="look again"):
        run(shown=shown)
    assert not ReplayJob.objects.exists()


@pytest.mark.parametrize("projects", [["film"], ["film", "studio"]])
def test_a_running_replay_keeps_to_its_projects(projects):
    """Proves that another project's message that dies while it runs does not go to that URL."""
    late = make_message(event=make_event(scope="late"))
    for project in projects:
        dead(project)
    job = replay.start(DEAD, to_url=THERE, rate=1, all_projects=len(projects) > 1, **BY)
    ended(late, "dead")
    ReplayJob.objects.update(rate_per_second=None)
    while replay.advance(job.pk) is not None:
        pass
    sent = WebhookMessage.objects.filter(url=THERE).values_list("event__scope", flat=True)
    assert sorted(sent) == projects


def test_reasons_are_asked_for_where_harm_can_be_done():
    """Proves it for another URL and for several messages; one to its own receiver needs none."""
    message = dead()
    for options in ({"reason": ""}, {"reason": "  "}):
        with pytest.raises(replay.ReasonMissing):
            run(**options)
        with pytest.raises(replay.ReasonMissing):
            replay.replay_one(message, to_url=THERE, **{**BY, **options})
    assert run(to_url="", reason="").started_count == 1
    dead(), dead()
    with pytest.raises(replay.ReasonMissing):
        run(to_url="", reason="")


def test_the_original_is_replayed_and_no_dead_letter_any_more():
    """Proves the state, the link, and that only who asks for it gets it sent again."""
    message = dead()
    first = run()
    copy = copy_of(message)
    assert (message.status, copy.url, copy.status) == ("replayed", THERE, "pending")
    assert message.finished_at is not None
    assert [*copy.replay_of.all()] == [message]
    assert run().total == 0
    ended(copy, "dead")
    assert [m.pk for m in replay_preview.preview(DEAD).sample] == [copy.pk]
    progress = replay_progress.progress(first)
    assert (progress.total, progress.started, progress.dead) == (1, 1, 1)
    asked = run(MessageFilters(status="replayed"), to_url="")
    message.refresh_from_db()
    assert (asked.started_count, message.status, message.replayed_as_id) == (1, "pending", copy.pk)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("dead", "replayed"),
        ("set_aside", "replayed"),
        ("delivered", "delivered"),
        ("superseded", "superseded"),
        ("cancelled", "cancelled"),
        ("pending", "pending"),
    ],
)
def test_only_what_was_given_up_changes_its_state(before, after):
    """Proves that each state is linked to its copy, and which of them it ends."""
    message = make_message(before)
    replay.replay_one(message, to_url=THERE, **BY)
    assert copy_of(message).url == THERE
    assert message.status == after


def test_two_originals_have_one_copy_also_in_two_batches(monkeypatch):
    """Proves that the second message of an event is linked to the copy that the first one made."""
    monkeypatch.setattr(replay, "BATCH", 1)
    event = make_event()
    originals = [dead(event=event), dead(event=event, url=URL + "2")]
    job = run()
    assert {copy_of(message).pk for message in originals} == {
        WebhookMessage.objects.latest("id").pk
    }
    assert {message.status for message in originals} == {"replayed"}
    assert (job.total, job.started_count, job.skipped_count) == (1, 1, 0)


def test_links_lead_to_what_is_owed_and_in_no_circle():
    """Proves that a copy that died and went back to the first URL ends the first one's link."""
    first = dead()
    run()
    second = ended(copy_of(first), "dead")
    run(to_url=first.url)
    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.status, first.replayed_as_id) == ("pending", None)
    assert (second.status, second.replayed_as_id) == ("replayed", first.pk)
    ended(first, "dead")
    run(MessageFilters(ids=(first.pk,)), to_url=first.url)
    first.refresh_from_db()
    assert (first.status, first.replayed_as_id) == ("pending", None)


def test_what_another_replay_took_is_left_to_it():
    """Proves that of two replays to two URLs that chose one dead letter only one sends it."""
    message = dead()
    jobs = [replay.start(DEAD, to_url=url, **BY) for url in (THERE, ELSEWHERE)]
    assert outbox.replay_messages_to(jobs[0].pk, [message.pk], THERE, "dead")
    assert not outbox.replay_messages_to(jobs[1].pk, [message.pk], ELSEWHERE, "dead")
    assert not WebhookMessage.objects.filter(url=ELSEWHERE).exists()


def test_where_nothing_may_go_the_dead_letter_stays():
    """Proves that a message is not taken for replayed while nothing was sent anywhere."""
    make_destination(THERE, scope="film", disabled_at=timezone.now())
    message = dead()
    job = run()
    message.refresh_from_db()
    assert (message.status, message.replayed_as_id) == ("dead", None)
    assert (job.started_count, job.skipped_count) == (0, 1)


def test_what_is_due_there_already_is_not_taken_for_its_copy():
    """Proves that a replay links only to what it sent itself."""
    message = dead()
    due = timezone.now() - timedelta(seconds=3)
    make_message(event=message.event, url=THERE, next_attempt_at=due)
    job = run()
    message.refresh_from_db()
    assert (message.status, message.replayed_as_id, job.skipped_count) == ("dead", None, 1)


def test_copies_links_and_progress_are_one_transaction(monkeypatch):
    """Proves that a process that dies before its commit leaves neither a copy nor a link."""
    monkeypatch.setattr(replay, "BATCH", 2)
    messages = [dead() for _ in range(5)]
    job = replay.start(DEAD, to_url=THERE, **BY)
    replay.advance(job.pk)
    with transaction.atomic():
        assert replay.advance(job.pk) == 2
        transaction.set_rollback(True)  # the process dies
    assert WebhookMessage.objects.filter(status="replayed").count() == 2
    assert WebhookMessage.objects.filter(url=THERE).count() == 2
    while replay.advance(job.pk) is not None:
        pass
    job.refresh_from_db()
    assert len({copy_of(message).pk for message in messages}) == 5
    assert (job.started_count, job.skipped_count, job.total) == (5, 0, 5)


def test_pruning_a_copy_leaves_its_original():
    """Proves that a copy can be deleted before its original, which then has no link."""
    then = timezone.now() - timedelta(days=40)
    message = dead()
    run()
    copy = ended(copy_of(message), "delivered")
    WebhookMessage.objects.filter(pk=copy.pk).update(created_at=then, finished_at=then)
    assert outbox.prune(30).messages == 1
    message.refresh_from_db()
    assert (message.status, message.replayed_as_id) == ("replayed", None)


@pytest.mark.parametrize("to_url", ["", THERE])
def test_a_credential_that_was_left_off_is_taken_up_once_it_is_bound(to_url):
    """Proves that a copy gets it when it is replayed after the operator allowed its origin."""
    door = Credential(scope="film", name="door", kind="bearer", origins=[])
    door.save()
    message = dead(callback_auth="door")
    run()
    copy = copy_of(message)
    assert copy.callback_auth == "-door"
    ended(copy, "dead")
    run(MessageFilters(status="any"), to_url=to_url)
    copy.refresh_from_db()
    assert (copy.status, copy.callback_auth) == ("pending", "-door")
    ended(copy, "dead")
    Credential.objects.update(origins=["https://backup.example.org"])
    run(MessageFilters(status="any"), to_url=to_url)
    copy.refresh_from_db()
    assert (copy.status, copy.callback_auth) == ("pending", "door")
