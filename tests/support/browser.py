"""Which browser opens the admin in tests? The system's Chromium, headless; never downloaded."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

#: Milliseconds for whatever a page must come to show; only a fault takes so long.
PATIENCE = 60_000

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = (
    "no Chromium on the PATH; install one to run the tests in a browser, "
    "for example with: sudo apt-get install chromium"
)
ARGUMENTS = [
    "--no-sandbox",  # as root, which containers often are
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--in-process-gpu",
    "--renderer-process-limit=1",
    "--no-zygote",
    "--disable-extensions",
]


def find() -> str | None:
    """Return the path of the system's Chromium, None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def launched() -> Iterator[Browser]:
    """Run the browser.

    Until it ends, this thread counts as one with a running event loop, so Django's ORM needs
    DJANGO_ALLOW_ASYNC_UNSAFE in it.
    """
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find(), args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


def log_in(page: Page, base: str, name: str, password: str = "password") -> None:
    """Log in and open the dashboard."""
    page.goto(f"{base}/admin/")
    page.fill("input[name=username]", name)
    page.fill("input[name=password]", password)
    page.click("button[type=submit]")
    page.wait_for_url(f"{base}/admin/")


def text_of(locator: Locator) -> str:
    """Return the text of one element as soon as it has some.

    For a text that only the page knows; what is known beforehand is asked with `expect`.
    """
    expect(locator).not_to_have_text("")
    return locator.inner_text()


def source_of(page: Page) -> str:
    """Return the HTML of a page that has been loaded to its end, after a `goto` or `reload`."""
    page.wait_for_load_state()
    return page.content()
