"""Can an operator watch a task run, and look at and listen to what it made? In a real browser."""

from __future__ import annotations

import io
import math
import re
import threading
import wave
from collections.abc import Iterator
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import av
import numpy as np
import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.urls import reverse
from django.utils import timezone
from PIL import Image
from playwright.sync_api import Page, expect

from tasks_app.media import previews
from tasks_app.models import MediaFile, Task
from tests.support import factories

pytestmark = pytest.mark.django_db(transaction=True)
VIDEO_SECONDS, RATE = 8, 12


def film() -> bytes:
    """Return a film of noise, with its index at the end: a browser must ask for parts of it."""
    file, random = io.BytesIO(), np.random.default_rng(1)
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        for number in range(VIDEO_SECONDS * RATE):
            pixels = random.integers(0, 255, (180, 320, 3), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def picture() -> bytes:
    """Return a PNG of 64 x 36."""
    file = io.BytesIO()
    Image.new("RGB", (64, 36), (40, 60, 90)).save(file, "PNG")
    return file.getvalue()


def tone(seconds: float = 3.0, rate: int = 8000) -> bytes:
    """Return a WAV of 440 Hz."""
    samples = (8000 * math.sin(2764.6 * i / rate) for i in range(int(seconds * rate)))
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes(b"".join(int(s).to_bytes(2, "little", signed=True) for s in samples))
    return file.getvalue()


def stored(task: Task, name: str, media_type: str, content: bytes, role: str = "primary") -> None:
    """Store a file in the place of a finished task's files."""
    path = default_storage.save(f"results/{task.pk}/run/{name}", ContentFile(content))
    factories.make_media_file(
        task, path=path, media_type=media_type, size_bytes=len(content), role=role
    )


def open_task(page: Page, base: Any, task: Task) -> str:
    """Open a task's page, and return its address."""
    address = f"{base.url}{reverse('admin:tasks_app_task_change', args=[task.pk])}"
    page.goto(address)
    return address


def test_a_video_plays_and_seeks(page: Page, live_server: Any) -> None:
    """Shows that the film plays, and that it can jump to a part not loaded yet (by Range)."""
    task, content = factories.make_task("completed"), film()
    stored(task, "primary.mp4", "video/mp4", content)
    ranges: list[str] = []
    page.on(
        "response",
        lambda r: ranges.append(r.headers.get("content-range", "")) if r.status == 206 else None,
    )
    open_task(page, live_server, task)
    page.wait_for_function("document.querySelector('video').readyState >= 3")
    page.evaluate("() => { const v = document.querySelector('video'); v.muted = true; v.play(); }")
    page.wait_for_function("document.querySelector('video').currentTime > 0.4")
    page.evaluate("() => { document.querySelector('video').currentTime = 6.5; }")
    page.wait_for_function(
        "(() => { const v = document.querySelector('video');"
        " return !v.seeking && v.currentTime >= 6.5 && v.readyState >= 3; })()"
    )
    assert page.evaluate("document.querySelector('video').duration") == pytest.approx(8, abs=0.2)
    assert all(text.endswith(f"/{len(content)}") for text in ranges)
    assert any(re.match(r"bytes [1-9]", text) for text in ranges), ranges


def test_a_picture_is_shown_and_a_sound_can_be_heard(page: Page, live_server: Any) -> None:
    """Shows that the previews of the other types load: policy and bytes are right."""
    task = factories.make_task("completed", task_type="audio_generation")
    stored(task, "primary.wav", "audio/wav", tone())
    stored(task, "waveform.png", "image/png", picture(), "waveform")
    open_task(page, live_server, task)
    page.wait_for_function("document.querySelector('figure img').naturalWidth === 64")
    page.evaluate("() => { const a = document.querySelector('audio'); a.muted = true; a.play(); }")
    page.wait_for_function("document.querySelector('audio').currentTime > 0.2")
    assert page.evaluate("document.querySelector('audio').duration") == pytest.approx(3, abs=0.1)


class Bucket(BaseHTTPRequestHandler):
    """A remote store with one file, behind a signed URL of another origin, like S3."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        """Answer every request with the picture."""
        self.asked.append(self.path)
        content = picture()
        self.send_response(200)
        self.send_header("Content-Type", "image/png")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        """Log nothing."""


@pytest.fixture
def bucket(settings: Any) -> Iterator[str]:
    """Keep files in a bucket; the address of its server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    settings.S3_BUCKET = "films"
    names = {"bucket_name": "films", "endpoint_url": address, "region_name": "eu-west-1"}
    keys = {"access_key": "access", "secret_key": "secret"}
    storage = {"BACKEND": "tasks_app.media.s3.S3", "OPTIONS": names | keys}
    settings.STORAGES = {**settings.STORAGES, "default": storage}
    yield address
    server.shutdown()
    server.server_close()


def test_a_picture_in_a_bucket_is_shown(bucket: str, page: Page, live_server: Any) -> None:
    """Shows that the page's CSP allows media from the store's origin, and from no other."""
    task = factories.make_task("completed", task_type="image_generation")
    factories.make_media_file(task, path="results/shot.png", media_type="image/png")
    address = open_task(page, live_server, task)
    page.wait_for_function("document.querySelector('figure img').naturalWidth === 64")
    assert Bucket.asked[0].startswith("/films/results/shot.png?")
    policy = page.request.get(address).headers["content-security-policy"]
    assert f"media-src 'self' {bucket};" in policy


def test_a_running_task_moves_on_without_a_reload(page: Page, live_server: Any) -> None:
    """Shows that progress appears in the open page, and then the result."""
    task = factories.make_task("processing", progress=0.1, current_step="storyboard")
    open_task(page, live_server, task)
    text = page.locator("[data-live=text]")
    expect(text).to_have_text("storyboard")
    page.evaluate("window.isTheSamePage = true")
    rows = Task.objects.filter(pk=task.pk)
    rows.update(progress=0.62, current_step="rendering <b>frames</b>", version=9)
    page.wait_for_function("document.querySelector('[data-live=bar]').value === 62")
    expect(text).to_have_text("rendering <b>frames</b>")
    expect(page.locator("[data-live=percent]")).to_have_text("62 %")
    assert page.evaluate("window.isTheSamePage") is True
    stored(task, "primary.png", "image/png", picture())
    rows.update(
        status="completed", progress=1.0, finished_at=timezone.now(), run_token=None, version=10
    )
    page.wait_for_selector("figure img")
    expect(page.locator(".mv-head .mv-badge")).to_have_text("completed", ignore_case=True)
    assert MediaFile.objects.count() == 1


def test_a_preview_is_shown_while_its_task_runs(page: Page, live_server: Any) -> None:
    """Shows that the newest preview appears in the open page, and is gone with its job."""
    task = factories.make_task("processing", progress=0.1)
    job = factories.make_remote_job(task=task)
    open_task(page, live_server, task)
    image = page.locator("[data-live=preview]")
    expect(image).to_be_hidden()
    assert previews.keep(str(job.pk), picture())
    page.wait_for_function("document.querySelector('[data-live=preview]').naturalWidth === 64")
    expect(image).to_be_visible()
    job.state = "ready"
    job.save(update_fields=["state"])
    expect(image).to_be_hidden(timeout=20_000)


def test_the_list_of_tasks_moves_on_without_a_reload(page: Page, live_server: Any) -> None:
    """Rows show how far their tasks are and how they ended, and new tasks appear."""
    task = factories.make_task("processing", progress=0.1)
    page.goto(live_server.url + reverse("admin:tasks_app_task_changelist"))
    page.evaluate("window.isTheSamePage = true")
    other = factories.make_task("failed")
    Task.objects.filter(pk=task.pk).update(progress=0.4)
    page.wait_for_function("document.querySelector('[data-unfinished]').value === 40")
    page.locator(f"#result_list code[title='{other.pk}']").wait_for()

    Task.objects.filter(pk=task.pk).update(
        status="completed", progress=1, finished_at=timezone.now()
    )
    page.wait_for_function("!document.querySelector('[data-unfinished]')")
    row = page.locator("#result_list tr", has=page.locator(f"code[title='{task.pk}']"))
    expect(row).to_contain_text("completed", ignore_case=True)
    assert page.evaluate("window.isTheSamePage")


def test_a_task_is_cancelled_from_its_page(page: Page, live_server: Any) -> None:
    """Shows that the button ends the task, writes its event and says so."""
    task = factories.make_task("queued")
    open_task(page, live_server, task)
    page.click("[data-operation=cancel]")
    page.fill("[name=reason]", "wrong prompt")
    page.click(".mv-form button[type=submit]")
    page.wait_for_selector(".mv-head .mv-badge:has-text('cancelled')")
    task.refresh_from_db()
    assert task.status == "cancelled"
