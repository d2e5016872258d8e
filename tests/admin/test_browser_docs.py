"""Can a visitor find the API docs from ``/``, read them, and try a call? In a real browser."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.support import factories

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_call_can_be_tried_from_the_page(
    stranger: Page, live_server: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shows the way from `/` to an answer, with nothing but files of our own."""
    from tasks_app.api.openapi import hooks

    settings.PUBLIC_URL = live_server.url
    hooks.schema_bytes.cache_clear()
    key = factories.make_api_key()[1]
    task = factories.make_task("completed")
    stranger.goto(live_server.url)
    stranger.click("a[href='/api/v1/docs']")
    stranger.locator("#operations-tasks-submitTask").wait_for()
    first = stranger.locator(".opblock-summary-path").first
    expect(first).to_have_text("/api/v1/tasks/submit")
    stranger.click("button.authorize")
    stranger.fill(".auth-container input", key)
    stranger.click(".auth-btn-wrapper button.authorize")
    stranger.click(".auth-btn-wrapper button.btn-done")
    stranger.click("#operations-tasks-getTask .opblock-summary-control")
    stranger.click("#operations-tasks-getTask .try-out__btn")
    stranger.fill("#operations-tasks-getTask input", str(task.pk))
    stranger.click("#operations-tasks-getTask .execute")
    answer = stranger.locator("#operations-tasks-getTask .live-responses-table")
    expect(answer).to_contain_text("200")
    expect(answer).to_contain_text(str(task.pk))
    hooks.schema_bytes.cache_clear()
