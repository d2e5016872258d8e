"""Which kinds of task are there, and what does each one need?

To add a type: one entry here, one schema in `schemas`, one actor in `actors`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TaskType:
    """A kind of task.

    ``schema``: the class in `schemas` that validates its task_data. ``timeout_seconds``: the
    default time limit; ``max_timeout_seconds``: the longest that a client may ask for.
    ``typical_seconds``: used as ``estimated_duration`` until five tasks were measured.
    """

    name: str
    schema: str
    queue: str
    timeout_seconds: int
    max_timeout_seconds: int
    typical_seconds: int


TASK_TYPES: dict[str, TaskType] = {
    task_type.name: task_type
    for task_type in (
        TaskType("video_generation", "VideoTaskData", "video", 1800, 7200, 20),
        TaskType("image_generation", "ImageTaskData", "image", 600, 3600, 5),
        TaskType("audio_generation", "AudioTaskData", "audio", 600, 3600, 5),
    )
}


def choices() -> list[tuple[str, str]]:
    """Return the types as choices of a form field."""
    return [(name, name.replace("_", " ")) for name in TASK_TYPES]
