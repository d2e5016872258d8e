"""Does a message's page say what happens next, and why?"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.test import Client, override_settings
from django.urls import reverse
from django.utils import timezone

from tests.support import factories
from tests.support.factories import (
    make_dead_letter,
    make_delivery,
    make_destination,
    make_event,
    make_message,
)
from tests.support.receiver import Receiver
from webhooks_app import outbox
from webhooks_app.admin.endpoints import as_text
from webhooks_app.operators.explain import attempts, curl, explain, planned

pytestmark = pytest.mark.django_db


def test_what_comes_next_follows_the_policy() -> None:
    """Shows that after one failure the page names the time of the next try and the waits after."""
    now = timezone.now()
    due = now + timedelta(seconds=90)
    message = make_message(
        attempt_count=1,
        retry_step=1,
        next_attempt_at=due,
        last_error_code="http_status",
        last_status_code=503,
    )
    plan = planned(message, now)
    assert [p.number for p in plan] == [2, 3, 4]
    assert plan[0].when == f"{due:%Y-%m-%d %H:%M:%S} UTC, in 90 s"
    assert [p.when for p in plan[1:]] == [
        "2 s after it, if it fails",
        "4 s after it, if it fails",
    ]
    said = explain(message, now)
    assert said.headline == "Attempt 2 in 90 s"
    assert "the receiver answered 503" in said.text
    assert "Retries left after it: 2 of 3" in said.text


def test_an_attempt_under_way_is_not_planned_again() -> None:
    """Shows that the planned attempts start after the one in flight."""
    now = timezone.now()
    end = now + timedelta(seconds=40)
    message = make_message(
        attempt_count=1,
        lease_token=uuid.uuid4(),
        lease_expires_at=end,
        next_attempt_at=end,
    )
    assert [p.number for p in planned(message, now)] == [2, 3, 4]
    assert explain(message, now).headline == "An attempt is under way"


@pytest.mark.parametrize("status", ["delivered", "dead", "superseded", "cancelled"])
def test_nothing_is_planned_for_what_has_ended(status: str) -> None:
    """Shows that only a pending message has planned attempts."""
    assert planned(make_message(status), timezone.now()) == []


@pytest.mark.parametrize(
    ("reason", "words"),
    [("breaker", "its breaker is open"), ("paused", "an operator paused it"), ("x\x1b", "x␛")],
)
def test_a_hold_is_explained(reason: str, words: str) -> None:
    """Shows that a held message names the reason of the hold and its time."""
    now = timezone.now()
    make_destination(held_until=now + timedelta(minutes=5), hold_reason=reason)
    said = explain(make_message(), now)
    assert said.headline == "Waiting for its destination"
    assert words in said.text
    assert "5 min" in said.text


def test_the_longest_wait_is_the_one_in_force(admin_client: Client) -> None:
    """Shows that the page and the pause name what MESSAGE_MAX_WAIT says, not its default."""
    now = timezone.now()
    place = make_destination(held_until=now + timedelta(minutes=5), hold_reason="paused")
    pause = reverse("admin:webhooks_app_webhookdestination_pause", args=[place.pk])
    with override_settings(WEBHOOKS={**settings.WEBHOOKS, "MESSAGE_MAX_WAIT": 10_800}):
        assert "after 3 h of it" in explain(make_message(), now).text
        assert "after 3 h they are dead letters" in admin_client.get(pause).content.decode()


def test_behind_a_hold_the_plan_waits_for_its_end() -> None:
    """Shows that a planned time is not before the end of the hold."""
    now = timezone.now()
    held_until = now + timedelta(minutes=5)
    make_destination(held_until=held_until, hold_reason="paused")
    plan = planned(make_message(), now)
    assert plan[0].when.endswith(f"not before {held_until:%Y-%m-%d %H:%M:%S} UTC")
    assert plan[1].when == "1 s after it, if it fails"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"last_status_code": 410}, "nothing sent there again"),
        ({"last_error_code": "blocked_address"}, "egress policy"),
        ({"last_error_code": "expired"}, "longer than is allowed"),
        ({"policy": []}, "its policy has no retries"),
        ({"last_error_code": "tls", "last_status_code": None}, "the TLS handshake"),
        ({}, "all 3 retries (1 s, 2 s, 4 s) were used up"),
    ],
)
def test_a_dead_letter_says_why_it_is_not_retried(fields: dict[str, object], words: str) -> None:
    """Shows that each reason for a dead letter has its sentence."""
    assert words in explain(make_message("dead", **fields), timezone.now()).text


def test_the_waterfall_lays_the_phases_end_to_end() -> None:
    """Shows that phases follow each other, scaled to the longest attempt, and add up to it."""
    message = make_dead_letter(attempts=1)
    make_delivery(
        message,
        "failed",
        duration_ms=200.0,
        phases={"dns_ms": 20.0, "connect_ms": 60.0, "first_byte_ms": 100.0},
    )
    shown = attempts(list(message.deliveries.order_by("attempt_number")))[1]
    assert [(p.name, round(p.start), round(p.width)) for p in shown.phases] == [
        ("DNS", 0, 10),
        ("connect", 10, 30),
        ("first byte", 40, 50),
        ("reading", 90, 10),
    ]


def test_a_request_without_an_answer_was_waiting() -> None:
    """Shows that the time after connecting is not called reading if nothing came."""
    message = make_message("dead")
    phases = {"dns_ms": 3.0, "connect_ms": 20.0}
    make_delivery(message, "failed", duration_ms=30_000.0, phases=phases, response_status=None)
    (shown,) = attempts(list(message.deliveries.all()))
    assert [p.text for p in shown.phases] == ["DNS 3.0 ms", "connect 20.0 ms", "waiting 30 s"]


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed here")
def test_the_curl_of_a_message_sends_its_bytes_and_no_usable_signature() -> None:
    """Shows that the command can be pasted into a shell, whatever the body holds."""
    body = '{"text": "it\'s $HOME `id` \\\\ \\"quoted\\" ü 🎬 !!\\n"}'.encode()
    with Receiver([200]) as receiver:
        message = make_message("dead", url=receiver.url, event=make_event(body=body))
        subprocess.run(["sh", "-c", curl(message)], check=True, capture_output=True, timeout=30)
        (request,) = receiver.requests
        Receiver.unchecked.remove(request)
    assert request.body == body
    assert (request.method, request.message_id) == ("POST", message.event.event_id)
    assert request.headers["webhook-signature"] == "v1,MASKED"
    assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 60


def test_a_message_behind_another_one_says_so(admin_client: Client) -> None:
    """Shows what it waits for, in place of a due time in the year 9999, with a link to it."""
    factories.make_endpoint(ordered=True)
    first, second = (
        outbox.publish(
            scope=factories.PROJECT, subject="t", sequence=n, event_type="task.started", body=b"{}"
        )
        for n in (1, 2)
    )
    waiting = second.messages.get()
    assert planned(waiting, timezone.now())[0].when.startswith("when message ")
    page = reverse("admin:webhooks_app_webhookmessage_change", args=[waiting.pk])
    shown = admin_client.get(page).content.decode()
    assert f"It waits for {first.event_id}," in shown
    before = reverse("admin:webhooks_app_webhookmessage_change", args=[first.messages.get().pk])
    assert f'href="{before}"' in shown
    assert "9999" not in shown


@pytest.mark.parametrize("given", [None, 7, {"a": [1]}, {"all": 3, "x": 1}, {"not": {"any": [{}]}}])
def test_any_stored_filter_is_written_as_the_json_it_is(given: Any) -> None:
    """Shows each condition in one line, members in the order of the docs, and what is no filter."""
    assert json.loads(as_text(given)) == given
    condition = {"op": "eq", "value": "é", "path": "/a"}
    line = '{"path": "/a", "op": "eq", "value": "é"}'
    told = as_text({"all": [condition, {"not": {"any": [condition]}}]})
    inner = f'{{"not": {{"any": [\n    {line}\n  ]}}}}'
    assert told == f'{{"all": [\n  {line},\n  {inner}\n]}}'


def test_a_filter_is_tried_and_stored_in_the_admin(admin_client: Client) -> None:
    """Shows the verdicts of a dry run, faults with their places, and what was stored."""
    endpoint = factories.make_endpoint()
    event = factories.make_event(body=b'{"metadata": {"userId": "<b>7"}}')
    dry_run = reverse("admin:webhooks_app_webhookendpoint_dry_run", args=[endpoint.pk])
    own = '{"path": "/metadata/userId", "op": "prefix", "value": "8"}'

    def ask(**given: str) -> str:
        return admin_client.post(dry_run, given).content.decode()

    assert "Sent: the endpoint has no filter." in ask(meant=event.event_id)
    told = ask(meant=event.subject, filter=own)
    assert "Not sent: /metadata/userId is &quot;&lt;b&gt;7&quot; (not prefix &quot;8&quot;)" in told
    assert "Not sent: /metadata/userId is missing" in ask(body="{}", filter=own)
    assert "This project has no such event" in ask(meant="msg_0")
    assert "one of them" in ask()
    assert "This is not JSON" in ask(body="{", filter=own)
    store = reverse("admin:webhooks_app_webhookendpoint_filter", args=[endpoint.pk])
    wrong = {"filter": '{"all": [{"path": "x", "op": "eq", "value": 1}]}', "reason": "x"}
    assert "/all/0/path: Use a JSON pointer" in admin_client.post(store, wrong).content.decode()
    assert admin_client.post(store, {"filter": own, "reason": "x"}).status_code == 302
    order = reverse("admin:webhooks_app_webhookendpoint_order", args=[endpoint.pk])
    assert admin_client.post(order, {"reason": "x"}).status_code == 302
    endpoint.refresh_from_db()
    assert (endpoint.filter, endpoint.ordered) == (json.loads(own), True)
    page = reverse("admin:webhooks_app_webhookendpoint_change", args=[endpoint.pk])
    assert "/metadata/userId" in admin_client.get(page).content.decode()
    listed = admin_client.get(reverse("admin:webhooks_app_webhookendpoint_changelist"))
    assert "all · filtered · in order" in listed.content.decode()
