"""Which kinds of task are there, and what does each one need?

To add a type: one entry here and one schema in `api.task_data`; its actor, its queue, its place in
the API page, the filters, the metrics and the providers elsewhere follow from the entry.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass


@dataclass(frozen=True)
class TaskType:
    """A kind of task.

    ``schema``: dotted path of the class that validates its task_data; loaded when it is needed,
    since the settings read this module. ``sections``: the members of task_data whose fields a
    provider elsewhere gets. ``media``: what it makes, the first half of a media type.
    ``timeout_seconds``: the default time limit; ``max_timeout_seconds``: the longest that a client
    may ask for. ``typical_seconds``: used as ``estimated_duration`` until five tasks were measured.
    """

    name: str
    _: KW_ONLY
    schema: str
    sections: tuple[str, ...]
    media: str
    queue: str
    timeout_seconds: int
    max_timeout_seconds: int
    typical_seconds: int


TASK_TYPES: dict[str, TaskType] = {
    task_type.name: task_type
    for task_type in (
        TaskType(
            "video_generation",
            schema="tasks_app.api.task_data.VideoTaskData",
            sections=("scene_data", "video_params", "audio_params"),
            media="video",
            queue="video",
            timeout_seconds=1800,
            max_timeout_seconds=7200,
            typical_seconds=20,
        ),
        TaskType(
            "image_generation",
            schema="tasks_app.api.task_data.ImageTaskData",
            sections=("image_data", "image_params"),
            media="image",
            queue="image",
            timeout_seconds=600,
            max_timeout_seconds=3600,
            typical_seconds=5,
        ),
        TaskType(
            "audio_generation",
            schema="tasks_app.api.task_data.AudioTaskData",
            sections=("audio_data", "audio_params"),
            media="audio",
            queue="audio",
            timeout_seconds=600,
            max_timeout_seconds=3600,
            typical_seconds=5,
        ),
    )
}


def choices() -> list[tuple[str, str]]:
    """Return the types as choices of a form field."""
    return [(name, name.replace("_", " ")) for name in TASK_TYPES]
