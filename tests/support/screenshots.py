"""How does the admin look? `python -m tests.support.screenshots` takes the pictures of the docs.

It fills a database of its own (in `var/screenshots`) with a day's data, starts a web server on it,
and photographs the pages in the system's Chromium. A running service is not touched. The pictures
go to `docs/images`; if a folder is given, every page goes there, light and dark.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from tests import ROOT
from tests.support import browser

VAR = ROOT / "var" / "screenshots"
SIZE = {"width": 1440, "height": 900}
#: The pages that the docs show; each picture is to be read at the width of a page.
IN_THE_DOCS = {"dashboard", "message", "task", "destination", "replay"}
MOST_BYTES = 250_000

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from webhooks_app.models import WebhookMessage


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

    from tests.support import believable, factories

    call_command("migrate", verbosity=0)
    call_command("flush", verbosity=0, interactive=False)
    factories.make_staff("mara")
    _media()
    believable.fill()


def _media() -> None:
    """Make one real task of each type with the built-in renderer."""
    from tasks_app.state.submit import Submit, submit
    from tasks_app.work import run
    from tests.support import believable, factories
    from webhooks_app.models import WebhookMessage

    inputs = {
        "video_generation": {
            "scene_data": {"prompt": "Mountains at dusk, mist in the valley, slow push in"},
            "video_params": {"resolution": "1280x720", "duration_s": 4},
        },
        "image_generation": {"prompt": "A lighthouse at dusk"},
        "audio_generation": {"prompt": "The night was calm, and then the sea began to sing."},
    }
    receiver = believable.RECEIVERS[0]
    key, _ = factories.make_api_key("storyboard tool", project_id=receiver.project)
    for task_type, task_data in inputs.items():
        submit(
            Submit(
                project_id=receiver.project,
                task_type=task_type,
                task_data=believable.checked(task_type, task_data),
                metadata='{"userId": "user-123", "shot": "SH010"}',
                callback_url=receiver.url,
                api_key=key,
                request_id="f3b1c9d24e6a4b0f9d7a52c81e0b6a34",
            )
        )
        run.run_next(task_type)
    for message in WebhookMessage.objects.all():
        _deliver(message)


def _deliver(message: WebhookMessage) -> None:
    """Mark its messages as delivered."""
    from django.utils import timezone

    from tests.support import factories

    factories.make_delivery(message)
    now = timezone.now()
    message.status, message.last_status_code = "delivered", 200
    message.next_attempt_at, message.delivered_at, message.finished_at = None, now, now
    message.save()


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
    """Return name -> URL of the pages to photograph."""
    from tasks_app.models import ApiKey, Task
    from webhooks_app.models import ReplayJob, WebhookDestination, WebhookEndpoint, WebhookMessage

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
    for task in Task.objects.filter(files__role="primary"):
        kind = task.task_type.partition("_")[0]
        pages["task" if kind == "video" else f"task-{kind}"] = f"{tasks}task/{task.pk}/change/"
    return pages


def _held(model: type) -> object:
    return model.objects.filter(breaker_state="open").first()  # type: ignore[attr-defined]


def _complaining(page: Page) -> list[str]:
    """Return a list to which the browser's complaints about a page are added."""
    complaints: list[str] = []
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: complaints.append(str(e)))
    return complaints


def _photograph(base: str, folder: Path, theme: str, only: set[str]) -> list[str]:
    """Take a picture of each page; return the browser's complaints."""
    with browser.launched() as running:
        context = running.new_context(viewport=SIZE, color_scheme=theme)  # type: ignore[arg-type]
        page = context.new_page()
        complaints = _complaining(page)
        browser.log_in(page, base, "mara")
        for name, address in _pages().items():
            if not only or name in only:
                suffix = "" if theme == "light" else "-dark"
                _take(page, base + address, folder / f"{name}{suffix}.png")
    return complaints


#: Played for a moment, since a player that only jumps there shows its loading sign.
TO_THE_MIDDLE = """async (player) => {
  player.muted = true;
  player.currentTime = player.duration / 2;
  await player.play();
  await new Promise((resolve) => player.addEventListener("timeupdate", resolve, { once: true }));
  player.pause();
}"""


def _take(page: Page, address: str, path: Path) -> None:
    page.set_viewport_size(SIZE)
    page.goto(address)
    for player in page.query_selector_all("video, audio"):
        player.evaluate(TO_THE_MIDDLE)
    page.wait_for_timeout(300)  # fonts and the bars' transitions
    if path.stem.removesuffix("-dark") in WHOLE:
        # A taller window, not a picture of the whole page: the sidebar is as high as the window.
        height = page.evaluate(
            "Math.max(...[...document.querySelectorAll('.mv-page')]"
            ".map(part => part.getBoundingClientRect().bottom + scrollY))"
        )
        page.set_viewport_size({**SIZE, "height": max(SIZE["height"], int(height) + 10)})
        page.wait_for_timeout(200)
    page.screenshot(path=path)
    _shrink(path)
    print(path, f"{path.stat().st_size // 1000} KB")


def _shrink(path: Path) -> None:
    """Reduce a picture that is too big to 256 colours, with dithering for smooth skies."""
    if path.stat().st_size <= MOST_BYTES:
        return
    with Image.open(path) as taken:
        full = taken.convert("RGB")
    palette = full.quantize(256, Image.Quantize.MAXCOVERAGE)
    colours = list(palette.getpalette() or ())
    brightest = max(range(0, len(colours), 3), key=lambda at: sum(colours[at : at + 3]))
    colours[brightest : brightest + 3] = [255, 255, 255]  # paper stays white
    palette.putpalette(colours)
    dotted = full.quantize(256, palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    dotted.save(path, optimize=True)


WHOLE = {"message", "dashboard", "replay-filter", "destination"}
DARK = {"dashboard", "message"}


def main() -> int:
    """Take the pictures; exit 1 when the browser complained, or a picture is too big."""
    if browser.find() is None:
        print(browser.MISSING, file=sys.stderr)
        return 1
    _environment()
    is_for_docs = len(sys.argv) == 1
    folder = ROOT / "docs" / "images" if is_for_docs else Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    only = IN_THE_DOCS if is_for_docs else set(sys.argv[2:])
    _prepare()
    with _server() as base:
        complaints = _photograph(base, folder, "light", only)
        if not is_for_docs:
            complaints += _photograph(base, folder, "dark", only & DARK or DARK)
    sizes = {name: (folder / f"{name}.png").stat().st_size for name in only & IN_THE_DOCS}
    complaints += [f"{name}.png has {n} bytes" for name, n in sizes.items() if n > MOST_BYTES]
    for complaint in sorted(set(complaints)):
        print("complaint:", complaint, file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
