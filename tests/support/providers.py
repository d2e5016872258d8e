"""Which providers do tests use where the picture does not matter? Small, scripted ones."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from typing import Any

from PIL import Image

from tasks_app.providers.accepts import Accepts
from tasks_app.providers.base import (
    Cancelled,
    Context,
    FieldError,
    Job,
    MediaOutput,
    ProviderError,
    Result,
)


class StillProvider:
    """Make a real PNG after ``seconds``; the first ``failures`` attempts end in ``fail_code``."""

    name = "still"
    model = "still-1"
    is_local = True
    task_types = frozenset({"video_generation", "image_generation", "audio_generation"})
    models = ("still-1",)

    def __init__(self, seconds: float = 0.0, fail_code: str = "", failures: int = 99) -> None:
        self.seconds = seconds
        self.fail_code = fail_code
        self.failures = failures

    def accepts(self, task_type: str, model: str = "") -> Accepts:
        """Name nothing: what is refused is up to `validate`."""
        return Accepts()

    def validate(self, task_type: str, task_data: dict[str, Any]) -> list[FieldError]:
        """Accept everything."""
        return []

    def generate(self, job: Job, context: Context) -> Result:
        """Wait, then draw one picture."""
        if "die" in str(job.task_data):
            os._exit(9)
        self._wait(context)
        if self.fail_code and job.attempt <= self.failures:
            raise ProviderError(self.fail_code, "a scripted failure with secret-canary-text")
        path = job.work_dir / "still.png"
        Image.new("RGB", (64, 36), (40, 60, 90)).save(path)
        content = path.read_bytes()
        output = MediaOutput(
            role="primary",
            path=path,
            media_type="image/png",
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            width=64,
            height=36,
            codecs=("png",),
        )
        return Result(files=(output,), provider=self.name, model="still-1", seed=1)

    def _wait(self, context: Context) -> None:
        pause = threading.Event()
        end = time.monotonic() + self.seconds
        while (left := end - time.monotonic()) > 0:
            if context.cancelled():
                raise Cancelled
            if context.seconds_left() <= 0:
                raise ProviderError("timed_out")
            context.progress(1 - left / self.seconds, "waiting")
            pause.wait(min(0.05, left))


class CanaryProvider(StillProvider):
    """Crash with a text that quotes the request and the environment, which nothing may show."""

    name = "canary"

    def generate(self, job: Job, context: Context) -> Result:
        """Raise an error that is not a ProviderError."""
        raise RuntimeError(f"{job.task_data} {os.environ.get('PROVIDER_API_KEY')}")
