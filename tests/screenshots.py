"""How does the admin look? `python -m tests.screenshots [folder]` takes the pictures of the docs.

It fills a database of its own (in `var/screenshots`) with a believable day, starts a web server
on it, and photographs the pages in the system's Chromium, light and dark. A running service is
not touched. By default the pictures go to `docs/images`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
VAR = ROOT / "var" / "screenshots"
SIZE = {"width": 1440, "height": 900}
CHROMIUM = "/usr/bin/chromium"
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

if TYPE_CHECKING:
    from playwright.sync_api import Page


def _environment() -> None:
    for name in ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "PUBLIC_URL", "ALLOWED_HOSTS"):
        os.environ.pop(name, None)
    os.environ |= {
        "VAR_DIR": str(VAR),
        "ENVIRONMENT": "development",
        "DJANGO_SETTINGS_MODULE": "moviesvc.settings",
        "DJANGO_ALLOW_ASYNC_UNSAFE": "1",  # playwright runs an event loop in this thread
        "LOG_LEVEL": "ERROR",
    }


def _prepare() -> None:
    import django

    django.setup()
    from django.core.management import call_command

    from tests import believable, factories

    call_command("migrate", verbosity=0)
    call_command("flush", verbosity=0, interactive=False)
    factories.make_staff("mara")
    _media()
    believable.fill()


def _media() -> None:
    """Make one real task of each type with the built-in renderer."""
    from tasks_app import runner
    from tasks_app.lifecycle import Submit, submit

    inputs = {
        "video_generation": {
            "scene_data": {"prompt": "A lighthouse at dusk, waves below, slow push in"},
            "video_params": {"resolution": "1280x720", "duration": 4},
        },
        "image_generation": {"prompt": "A lighthouse at dusk"},
        "audio_generation": {"text": "The night was calm, and then the sea began to sing."},
    }
    for task_type, task_data in inputs.items():
        submit(Submit(project_id="screenshots", task_type=task_type, task_data=task_data))
        runner.run_next(task_type)


@contextmanager
def _server() -> Iterator[str]:
    from django.contrib.staticfiles.handlers import StaticFilesHandler
    from django.test.testcases import LiveServerThread

    thread = LiveServerThread("127.0.0.1", StaticFilesHandler)
    thread.daemon = True
    thread.start()
    thread.is_ready.wait()
    if thread.error:
        raise thread.error
    try:
        yield f"http://127.0.0.1:{thread.port}"
    finally:
        thread.terminate()


def _pages() -> dict[str, str]:
    """Return name -> address of what is photographed."""
    from tasks_app.models import ApiKey, Task
    from webhooks_app.models import (
        ReplayJob,
        WebhookDestination,
        WebhookEndpoint,
        WebhookMessage,
    )

    admin = "/admin/"
    hooks, tasks = f"{admin}webhooks_app/", f"{admin}tasks_app/"
    dead = WebhookMessage.objects.filter(status="dead", last_status_code=500).order_by("-id")
    pages = {
        "dashboard": f"{admin}?range=6h",
        "tasks": f"{tasks}task/",
        "messages": f"{hooks}webhookmessage/",
        "messages-dead": f"{hooks}webhookmessage/?status=dead",
        "message": f"{hooks}webhookmessage/{dead[0].pk}/change/",
        "replay-one": f"{hooks}webhookmessage/{dead[0].pk}/do/replay/",
        "replay-filter": f"{hooks}webhookmessage/replay/",
        "deliveries": f"{hooks}webhookdelivery/",
        "destinations": f"{hooks}webhookdestination/",
        "endpoints": f"{hooks}webhookendpoint/",
        "replays": f"{hooks}replayjob/",
        "api-keys": f"{tasks}apikey/",
        "api-key-add": f"{tasks}apikey/add/",
        "record": f"{hooks}operatoraction/",
    }
    running = Task.objects.filter(status="processing").first()
    for name, path, row in (
        ("task-running", f"{tasks}task", running),
        ("destination", f"{hooks}webhookdestination", _held(WebhookDestination)),
        ("endpoint", f"{hooks}webhookendpoint", WebhookEndpoint.objects.first()),
        ("replay", f"{hooks}replayjob", ReplayJob.objects.filter(state="running").first()),
        ("api-key", f"{tasks}apikey", ApiKey.objects.filter(revoked=False).first()),
    ):
        if row is not None:
            pages[name] = f"{path}/{row.pk}/change/"
    for task in Task.objects.filter(project_id="screenshots"):
        kind = task.task_type.partition("_")[0]
        pages[f"task-{kind}"] = f"{tasks}task/{task.pk}/change/"
    return pages


def _held(model: type) -> object:
    return model.objects.filter(breaker_state="open").first()  # type: ignore[attr-defined]


def _log_in(page: Page, base: str) -> None:
    page.goto(f"{base}/admin/login/?next=/admin/")
    page.fill("input[name=username]", "mara")
    page.fill("input[name=password]", "password")
    page.click("button[type=submit]")
    page.wait_for_url(f"{base}/admin/")


def _photograph(base: str, folder: Path, theme: str, only: set[str]) -> list[str]:
    from playwright.sync_api import sync_playwright

    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        context = browser.new_context(viewport=SIZE, color_scheme=theme)  # type: ignore[arg-type]
        page = context.new_page()
        page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: complaints.append(str(e)))
        _log_in(page, base)
        for name, address in _pages().items():
            if only and name not in only:
                continue
            page.goto(base + address)
            page.wait_for_timeout(700 if name.startswith("task-") else 250)
            suffix = "" if theme == "light" else "-dark"
            path = folder / f"{name}{suffix}.png"
            page.screenshot(path=path, full_page=name in FULL_PAGES)
            print(path)
        browser.close()
    return complaints


FULL_PAGES = {"message", "dashboard", "task-video", "replay-filter", "destination"}
DARK = {"dashboard", "message"}


def main() -> int:
    """Take the pictures; exit 1 when the browser's console complained."""
    _environment()
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    only = set(sys.argv[2:])
    _prepare()
    with _server() as base:
        complaints = _photograph(base, folder, "light", only)
        complaints += _photograph(base, folder, "dark", only & DARK if only else DARK)
    for complaint in sorted(set(complaints)):
        print("console:", complaint, file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
