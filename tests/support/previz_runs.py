"""What do tests of the built-in renderer share? A context that records, and short jobs."""

import time
from pathlib import Path

from tasks_app.providers.base import Job


class RecordingContext:
    """A runner's context that remembers progress and can be told to cancel."""

    def __init__(self, seconds: float = 60) -> None:
        self._end = time.monotonic() + seconds
        self.steps: list[tuple[float, str]] = []
        self.is_cancelled = False

    def progress(self, fraction, step, detail=""):
        self.steps.append((fraction, step))

    def cancelled(self):
        return self.is_cancelled

    def seconds_left(self):
        return self._end - time.monotonic()


def job(work_dir: Path, task_type: str, task_data: dict) -> Job:
    return Job("t1", 1, task_type, task_data, work_dir, time.monotonic() + 60)


def video(seconds: float = 1.0, resolution: str = "320x180", **params) -> dict:
    return {
        "scene_data": {"prompt": "Sunrise over misty mountains"},
        "video_params": {"resolution": resolution, "duration_s": seconds, **params},
        "options": {"quality": "draft"},
    }
