"""Which browser and operator do tests use? A logged-in page that reports script errors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings
from django.test import Client

from tests.support import browser, factories
from webhooks_app.delivery.thread import EngineThread

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The system's Chromium, per module, since it leaves an event loop in the thread."""
    if browser.find() is None:
        pytest.skip(browser.MISSING)
    before = os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE")
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    with browser.launched() as running:
        yield running
    if before is None:
        del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    """A browser without a session."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(browser.PATIENCE)
    yield context
    context.close()


@pytest.fixture
def complaints() -> list[str]:
    """Errors that the browser's console and scripts reported; a test may clear the list."""
    return []


@pytest.fixture
def stranger(context: BrowserContext, complaints: list[str]) -> Iterator[Page]:
    """A page without a login; the test fails if the browser's console reports an error."""
    page = context.new_page()
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    assert complaints == []


@pytest.fixture
def page(stranger: Page, live_server: Any) -> Page:
    """A page of the operator mara, who may do everything."""
    client = Client()
    client.force_login(factories.make_staff("mara"))
    cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
    stranger.context.add_cookies(
        [{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": live_server.url}]
    )
    return stranger


@pytest.fixture
def engine(transactional_db: None) -> Iterator[EngineThread]:
    """A delivery engine, as a worker process hosts it."""
    thread = EngineThread()
    thread.start()
    yield thread
    thread.stop()
