"""Can an operator find, understand and repair what failed? In a real browser, with a real engine.

The web server is Django's, the engine and the receiver are the real ones, nothing is replaced.
"""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page, expect

from tests.support import factories
from tests.support.answers import Answer
from tests.support.browser import log_in, source_of, text_of
from tests.support.receiver import Receiver
from tests.support.waiting import wait_until
from webhooks_app import outbox
from webhooks_app.delivery.thread import EngineThread
from webhooks_app.models import OperatorAction, ReplayJob, WebhookEvent, WebhookMessage
from webhooks_app.signing.store import get_or_create

pytestmark = pytest.mark.django_db(transaction=True)
SCOPE = "night_shift"
EVIL = '<script>window.hacked = 1</script><img src=x onerror="window.hacked = 1">'


@pytest.fixture
def receiver(transactional_db: None) -> Iterator[Receiver]:
    """A receiver that verifies with the project's own secret."""
    with Receiver([200], secret=get_or_create(SCOPE)) as receiver:
        yield receiver


def publish(url: str, policy: Any = ()) -> WebhookMessage:
    """Publish one event to ``url``."""
    event: WebhookEvent = outbox.publish(
        scope=SCOPE,
        subject=str(factories.make_task("completed", project_id=SCOPE).pk),
        sequence=1,
        event_type="task.completed",
        body=b'{"status": "completed"}',
        is_terminal=True,
        targets=[outbox.Target(url, policy)],
    )
    return WebhookMessage.objects.get(event=event)


def dead_letter(receiver: Receiver, answer: Answer | int = 500) -> WebhookMessage:
    """Make a message die after one retry."""
    receiver.answer(answer)
    message = publish(receiver.url, [0.05])
    wait_for(message, "dead")
    return message


def wait_for(message: WebhookMessage, status: str) -> None:
    """Wait until the message has that state."""
    rows = WebhookMessage.objects.filter(pk=message.pk, status=status)
    wait_until(rows.exists, 60, f"message {message.pk} {status}")


def admin_page(base: Any, name: str, *args: Any) -> str:
    """Return the address of an admin page on the live server."""
    return str(base.url) + reverse(f"admin:{name}", args=args)


def confirm(page: Page, operation: str, reason: str, **fields: str) -> None:
    """Press an operation's button, fill in its form, send it, and wait for the page after it."""
    page.click(f"[data-operation={operation}]")
    for name, value in fields.items():
        page.fill(f"[name={name}]", value)
    page.fill("[name=reason]", reason)
    page.click(".mv-form button[type=submit]")
    expect(page.locator(".mv-form")).to_have_count(0)


def badge(page: Page, text: str) -> None:
    """Wait until the page's badge has this text; the page refreshes itself."""
    expect(page.locator(".mv-head .mv-badge")).to_have_text(re.compile(text, re.IGNORECASE))


def test_an_operator_finds_a_dead_letter_reads_why_and_replays_it(
    stranger: Page, live_server: Any, engine: EngineThread, receiver: Receiver
) -> None:
    """Shows the whole way: log in, search, read, replay, see it delivered without a reload."""
    page = stranger
    factories.make_staff("mara")
    message = dead_letter(receiver, Answer(500, body=b"the disk is full"))
    log_in(page, live_server.url, "mara")
    expect(page.locator("text=Deliveries by outcome")).to_be_visible()
    page.click("a:has-text('Messages')")
    page.fill("input[name=q]", SCOPE)
    page.press("input[name=q]", "Enter")
    page.click(f"#result_list a:has-text('{message.pk}')")
    why = page.locator("#why")
    expect(why).to_contain_text("Dead letter")
    expect(why).to_contain_text("its only retry (50 ms) was used up")
    expect(why).to_contain_text("answered 500")
    expect(page.locator("[data-role=response-body]").last).to_have_text("the disk is full")
    receiver.answer(200)
    confirm(page, "replay", "the disk was emptied")
    badge(page, "delivered")
    assert len({r.message_id for r in receiver.requests}) == 1
    assert [r.is_verified for r in receiver.requests] == [True, True, True]
    line = OperatorAction.objects.get(action="replay.start")
    assert (line.actor, line.reason) == ("mara", "the disk was emptied")


def test_a_receivers_script_is_shown_and_does_not_run(
    chromium: Any, page: Page, live_server: Any, engine: EngineThread, receiver: Receiver
) -> None:
    """Shows that escaping alone makes an answer harmless, with the page's CSP switched off."""
    message = dead_letter(receiver, Answer(500, body=EVIL.encode(), headers=[("x-evil", EVIL)]))
    cookies = page.context.cookies()
    context = chromium.new_context(bypass_csp=True, storage_state={"cookies": cookies})
    bare = context.new_page()
    bare.goto(admin_page(live_server, "webhooks_app_webhookmessage_change", message.pk))
    expect(bare.locator("[data-role=response-body]").last).to_have_text(EVIL)
    expect(bare.locator(".mv-headers td", has_text="window.hacked")).not_to_have_count(0)
    assert bare.evaluate("window.hacked") is None
    context.close()


def test_the_pages_policy_stops_a_script_that_got_in(
    page: Page, live_server: Any, complaints: list[str]
) -> None:
    """Shows that the CSP also makes the browser refuse an inline script in an admin page."""
    page.goto(admin_page(live_server, "index"))
    with page.expect_console_message(lambda said: "Content Security Policy" in said.text):
        page.evaluate(
            """() => {
            const script = document.createElement("script");
            script.textContent = "window.hacked = 1";
            document.body.append(script);
            }"""
        )
    assert page.evaluate("window.hacked") is None
    assert len(complaints) == 1
    complaints.clear()


def test_replay_with_filter_shows_first_and_replays_what_was_shown(
    page: Page, live_server: Any, engine: EngineThread, receiver: Receiver
) -> None:
    """Shows that a filter's matches are shown first, and its replay is reported to the end."""
    message = dead_letter(receiver)
    other = factories.make_message("dead", url="https://elsewhere.example.org/")
    lines = page.locator(".mv-lines li")
    line, other_line = (
        f"{each.pk}: task.completed to {each.url} (Dead)" for each in (message, other)
    )
    receiver.answer(204)
    page.goto(admin_page(live_server, "webhooks_app_webhookmessage_changelist"))
    page.click("a:has-text('Replay with filter')")
    page.fill("[name=host]", "127.0.0.1")
    page.fill("[name=since]", timezone.now().strftime("%Y-%m-%dT00:00:00"))
    page.fill("[name=reason]", "after the outage")
    page.click("button:has-text('Show what it matches')")
    expect(lines).to_have_text([line])
    page.fill("[name=host]", "elsewhere.example.org")
    page.click("button:has-text('Replay 1 message')")
    expect(lines).to_have_text([other_line])
    assert not ReplayJob.objects.exists()
    page.fill("[name=host]", "127.0.0.1")
    page.click("button:has-text('Replay 1 message')")
    expect(lines).to_have_text([line])  # else the next click may meet the page before
    page.click("button:has-text('Replay 1 message')")
    expect(page.locator("[data-live=delivered]")).to_have_text("1")
    badge(page, "finished")
    expect(page.locator("[data-live=pending]")).to_have_text("0")
    expect(page.locator("[data-live=dead]")).to_have_text("0")
    wait_for(message, "delivered")
    other.refresh_from_db()
    assert other.status == "dead"


def test_ticked_messages_are_replayed(
    page: Page, live_server: Any, engine: EngineThread, receiver: Receiver
) -> None:
    """Shows that a selection in the list is replayed after one question, and nothing else."""
    first, second, third = (dead_letter(receiver) for _ in range(3))
    receiver.answer(200)
    page.goto(admin_page(live_server, "webhooks_app_webhookmessage_changelist"))
    for message in (first, third):
        page.check(f"input.action-select[value='{message.pk}']")
    page.select_option("select[name=action]", "replay_selected")
    page.click("#changelist-form button[name=index]")
    page.fill("[name=reason]", "only these two")
    page.click("button:has-text('Replay 2 messages')")
    wait_for(first, "delivered")
    wait_for(third, "delivered")
    second.refresh_from_db()
    assert second.status == "dead"


def test_a_destination_is_held_freed_pinged_and_stopped(
    page: Page, live_server: Any, engine: EngineThread, receiver: Receiver
) -> None:
    """Shows the effect of each button of a destination at the receiver."""
    first = publish(receiver.url)
    wait_for(first, "delivered")
    address = admin_page(
        live_server, "webhooks_app_webhookdestination_change", first.destination_id
    )
    page.goto(address)
    confirm(page, "pause", "they asked for it", minutes="5")
    badge(page, "paused")
    held = publish(receiver.url)
    page.goto(admin_page(live_server, "webhooks_app_webhookmessage_change", held.pk))
    expect(page.locator("#why")).to_contain_text("Waiting for its destination")
    expect(page.locator("#why")).to_contain_text("an operator paused it")
    page.goto(address)
    confirm(page, "resume", "they are back")
    badge(page, "healthy")
    wait_for(held, "delivered")
    confirm(page, "ping", "to be sure")
    page.click("a:has-text('see what comes back')")
    badge(page, "delivered")
    assert receiver.requests[-1].headers["webhook-event"] == "webhook.ping"
    count = len(receiver.requests)
    page.goto(address)
    confirm(page, "disable", "they are gone for good")
    badge(page, "disabled")
    wait_for(publish(receiver.url), "dead")
    confirm(page, "enable", "they came back")
    badge(page, "healthy")
    assert len(receiver.requests) == count
    done = OperatorAction.objects.order_by("id").values_list("action", flat=True)
    assert [action.partition(".")[2] for action in done] == [
        "pause", "resume", "ping", "disable", "enable",
    ]  # fmt: skip


def status_with(base: Any, key: str) -> int:
    """Return the API's answer to a request with that key."""
    request = urllib.request.Request(f"{base.url}/api/v1/tasks", headers={"X-API-Key": key})
    try:
        with urllib.request.urlopen(request) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_a_key_is_made_shown_once_used_and_revoked(page: Page, live_server: Any) -> None:
    """Shows that the key works, is copied by keyboard on a phone, not shown again, and revoked."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(admin_page(live_server, "tasks_app_apikey_add"))
    page.fill("[name=name]", "the night shift")
    page.fill("[name=project_id]", SCOPE)
    page.fill("[name=reason]", "the night needs one")
    page.click("button[name=_continue]")
    key = text_of(page.locator("code.mv-key"))
    assert status_with(live_server, key) == 200
    copy = page.locator(".mv-copy")
    box = copy.bounding_box()
    assert box
    assert box["x"] + box["width"] <= 390
    copy.focus()
    page.keyboard.press("Enter")
    expect(copy).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == key
    page.reload()
    assert key not in source_of(page)
    assert key.partition(".")[2] not in source_of(page)
    confirm(page, "revoke", "the shift is over")
    badge(page, "revoked")
    assert status_with(live_server, key) == 401
