"""Does every page of the admin fit its screen, and stay up to date by itself? In a real browser."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page, expect

from tests.admin.test_browser_tasks import picture, stored
from tests.support import factories
from webhooks_app.models import ReplayJob

pytestmark = [pytest.mark.long, pytest.mark.django_db(transaction=True)]
#: A phone, a tablet, a laptop; the theme changes its layout in between.
WIDTHS = (390, 820, 1440)
LONG_URL = "https://a-receiver-with-quite-a-long-name.example.org:8443/v1/projects/hooks/done"
#: What sticks out of the window, or out of its card; what scrolls inside its own box does not.
STICKS_OUT = """() => {
  const found = [];
  if (document.documentElement.scrollWidth > innerWidth + 1) found.push("the page");
  const isBox = (e) => getComputedStyle(e).overflowX !== "visible";
  const scrolls = (e) => e && e !== document.body && (isBox(e) || scrolls(e.parentElement));
  for (const e of document.querySelectorAll(".mv-page *, #result_list *")) {
    const box = e.closest(".mv-card");
    const edge = Math.min(innerWidth, box ? box.getBoundingClientRect().right : innerWidth);
    const text = document.createRange();
    text.selectNodeContents(e);
    const isShort = getComputedStyle(e).textOverflow === "ellipsis"; // on purpose, and it shows
    const inside = e.children.length || isShort ? 0 : text.getBoundingClientRect().right;
    const right = Math.max(e.getBoundingClientRect().right, inside);
    const isRow = e.closest("#result_list") !== null; // a list is there to be seen whole
    if (right > edge + 1 && (isRow || !scrolls(e))) found.push(`${e.tagName} ${e.innerText}`);
  }
  for (const e of document.querySelectorAll(".mv-field select")) {
    const around = e.parentElement.getBoundingClientRect(); // the arrow is in its middle
    if (e.parentElement.tagName === "DIV" && around.height > e.offsetHeight + 4)
      found.push(`the arrow of ${e.name} is not in it`);
  }
  return found;
}"""

#: Words that are broken where no hyphen or sign invites it, though they would fit a line of their
#: own, and what is cut off below. A list's labels on a phone are made by the stylesheet.
BROKEN = r"""() => {
  const found = [];
  const isSeen = (e) => e.checkVisibility() && !e.closest("pre, script, style, svg, option");
  const pen = document.createElement("canvas").getContext("2d");
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode()); ) {
    const e = node.parentElement;
    if (!e || !isSeen(e) || e.closest(".material-symbols-outlined")) continue;
    for (const word of node.data.matchAll(/[\p{L}\p{N}_]{2,24}/gu)) {
      const range = document.createRange();
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      const lines = new Set([...range.getClientRects()].map((line) => Math.round(line.top)));
      const around = node.data.slice(Math.max(0, word.index - 80), word.index + 80);
      const isOfLonger = /[^\s]{25}/.test(around);
      if (lines.size > 1 && !isOfLonger) found.push(`${word[0]} is broken`);
    }
  }
  for (const e of document.querySelectorAll("#result_list td[data-label]")) {
    const label = getComputedStyle(e, "::before");
    if (!isSeen(e) || label.display === "none") continue;
    pen.font = label.font;
    const longest = Math.max(...e.dataset.label.split(" ").map((w) => pen.measureText(w).width));
    if (parseFloat(label.width) < longest - 1) found.push(`the label ${e.dataset.label} is broken`);
    if (e.scrollHeight > e.clientHeight + 1) found.push(`${e.innerText} is cut off`);
  }
  return [...new Set(found)];
}"""


def fill() -> None:
    """Make rows with long names and values of every kind."""
    now = timezone.now()
    place = factories.make_destination(
        LONG_URL,
        held_until=now + timedelta(hours=3),
        hold_reason="breaker",
        breaker_state="half_open",
        failing_messages=123_456,
        last_success_at=now - timedelta(days=40),
    )
    event = factories.make_event()
    replay = factories.make_replay(
        total=1_234_567, started_count=1_000_000, filters={"host": place.host, "status": "dead"}
    )
    factories.make_message(event=event, url=LONG_URL, replay=replay)
    factories.make_dead_letter(url=LONG_URL, replay=replay)
    factories.make_endpoint(LONG_URL, event_types=["task.completed", "task.failed"])
    factories.make_api_key("a key with a name that is long, too", project_id="p" * 40)
    factories.make_operator_action(target=f"{LONG_URL} (project)", reason="because of the " * 9)
    factories.make_task("processing", current_step="rendering frames 120 of 240, shot 3 of 7")
    failed = factories.make_task(
        "failed", callback_url=LONG_URL, metadata='{"a": "' + "x" * 200 + '"}', traceback="y" * 300
    )
    words = "upstream connect error or disconnect/reset before headers. reset: " + "z" * 90
    factories.make_remote_server(
        "comfyui", "gpu-rack-2-left", last_error=words, busy_until=now + timedelta(hours=2)
    )
    gpu: dict[str, Any] = {"provider": "comfyui", "server": "gpu-rack-2-left", "note": words}
    factories.make_remote_job(
        "stopping", task=failed, stop_owed_at=now - timedelta(hours=3), seen_at=None, **gpu
    )
    factories.make_remote_job("ended", task=failed, outcome="unclear", **gpu)
    factories.make_remote_job("running", **gpu)
    stored(failed, "primary.png", "image/png", picture())


def addresses() -> list[str]:
    """Return every page: lists, rows, questions."""
    from django.contrib import admin

    found = [
        "admin:index",
        "admin:webhooks_app_webhookmessage_replay_with_filter_form",
        "admin:tasks_app_apikey_add",
        "admin:password_change",
        "admin:webhooks_app_webhookdestination_change_many_form",
        "admin:webhooks_app_webhookendpoint_rotate_of_project_form",
    ]
    pages = ["/", *(reverse(name) for name in found)]
    for model, page in admin.site._registry.items():
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        pages.append(reverse(f"{name}_changelist"))
        for row in model._default_manager.all()[:3]:
            pages.append(reverse(f"{name}_change", args=[row.pk]))
            pages += [
                reverse(f"{name}_{operation.name}", args=[row.pk])
                for operation in getattr(page, "operations", ())
            ]
    return pages


def test_every_page_fits_its_screen(page: Page, live_server: Any) -> None:
    """Shows that nothing overflows, is cut off or broken into letters, on a phone and a desktop."""
    cache.clear()
    fill()
    faults = {}
    for address in addresses():
        page.goto(live_server.url + address)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            found = page.evaluate(STICKS_OUT)
            if width == WIDTHS[0]:
                found += page.evaluate(BROKEN)
            if found:
                faults[width, address] = [text[:90] for text in found[:3]]
    page.goto(live_server.url + "/api/v1/docs")
    page.locator("#operations-tasks-submitTask").wait_for()
    page.set_viewport_size({"width": WIDTHS[0], "height": 900})
    if found := [*page.evaluate(STICKS_OUT), *page.evaluate(BROKEN)]:
        faults[WIDTHS[0], "docs"] = found[:3]
    assert faults == {}


def test_the_url_of_a_tasks_webhook_can_be_read_on_a_phone(page: Page, live_server: Any) -> None:
    """Shows that the URL has a line of its own; beside the rest it took six."""
    task = factories.make_task("completed")
    event = factories.make_event(subject=str(task.pk))
    factories.make_message(event=event, url="https://hooks.aurora-studio.com/v1/done")
    page.set_viewport_size({"width": WIDTHS[0], "height": 900})
    page.goto(live_server.url + reverse("admin:tasks_app_task_change", args=[task.pk]))
    lines = page.locator(".mv-table td.mv-break").evaluate(
        """(cell) => {
          const text = document.createRange();
          text.selectNodeContents(cell);
          return text.getClientRects().length;
        }"""
    )
    assert lines == 1


def test_the_dashboard_moves_on_without_a_reload(page: Page, live_server: Any) -> None:
    """Shows that an open dashboard refreshes itself."""
    cache.clear()
    page.clock.install()
    page.goto(live_server.url + reverse("admin:index"))
    expect(page.locator(".mv-page")).to_contain_text("No delivery in this time")
    page.evaluate("window.isTheSamePage = true")
    factories.make_delivery()
    cache.clear()
    page.clock.run_for(21_000)
    page.locator(".mv-legend", has_text="interrupted").wait_for()
    expect(page.locator(".mv-kpis")).to_contain_text("Delivered")
    assert page.evaluate("window.isTheSamePage") is True


def test_the_list_of_replays_moves_on_without_a_reload(page: Page, live_server: Any) -> None:
    """Shows that a replay's bar moves in the list, up to its end."""
    job = factories.make_replay(total=10, started_count=1)
    page.goto(live_server.url + reverse("admin:webhooks_app_replayjob_changelist"))
    page.evaluate("window.isTheSamePage = true")
    ReplayJob.objects.filter(pk=job.pk).update(started_count=6)
    page.wait_for_function("document.querySelector('[data-unfinished]').value === 60")
    ReplayJob.objects.filter(pk=job.pk).update(started_count=10, state="finished")
    page.locator("#result_list", has_text="finished").wait_for()
    assert page.evaluate("window.isTheSamePage") is True
