"""Which fields can a task have? One sample for each, with the task around it that it needs.

The fields come from the schemas: a new one without a sample makes a test red.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple

from tasks_app.api.task_data import serializer_for
from tasks_app.api.task_inputs import InputReference
from tasks_app.task_types import TASK_TYPES
from webhooks_app.api.fields import Items
from webhooks_app.api.read import StrictObject


class Sample(NamedTuple):
    """A field, as a path below task_data, a value that says something, and the task around it."""

    task_type: str
    path: str
    value: Any
    around: dict[str, Any]

    def task(self) -> dict[str, Any]:
        """Return the task that says it."""
        data = copy.deepcopy(self.around)
        *way, last = self.path.split("/")
        place: Any = data
        for step in way:
            place = place[int(step)] if isinstance(place, list) else place.setdefault(step, {})
        place[last] = self.value
        return data


VIDEO: dict[str, Any] = {
    "scene_data": {"prompt": "empty space"},
    "video_params": {"resolution": "256x144", "duration_s": 1, "fps": 12},
}
LINE = {"character": "Old Tom", "text": "Go.", "start_s": 0.1}
TALK = {**VIDEO, "scene_data": {**VIDEO["scene_data"], "dialogue": [LINE]}}
IMAGE: dict[str, Any] = {
    "image_data": {"prompt": "empty space"},
    "image_params": {"resolution": "256x256"},
}
PANELS = {**IMAGE, "image_data": {**IMAGE["image_data"], "purpose": "storyboard_frame"}}
JPEG = {**IMAGE, "image_params": {**IMAGE["image_params"], "format": "jpeg"}}
SOUND: dict[str, Any] = {"audio_data": {"prompt": "rain"}, "audio_params": {"duration_s": 1}}
VOICE: dict[str, Any] = {"audio_data": {"text": "Go."}}
FILE = {"asset": "0123456789abcdef"}


def _files(*names: str, with_references: bool = True) -> dict[str, Any]:
    found: dict[str, Any] = {f"inputs/{name}": FILE for name in names}
    return {**found, **({"inputs/reference_images": [FILE]} if with_references else {})}


_COMMON = {"seed": 77, "options": {"steps": 7}, "model": "other", "provider": "other"}
_SAMPLES: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {
    "video_generation": [
        (
            VIDEO,
            {
                "prompt": "a red planet",
                **_COMMON,
                "scene_data/prompt": "a red planet",
                "scene_data/negative_prompt": "fog",
                "scene_data/scene": "SC77",
                "scene_data/shot": "SH777",
                "scene_data/dialogue": [LINE],
                "scene_data/reference_images": ["0123456789abcdef"],
                "video_params/resolution": "320x180",
                "video_params/duration_s": 2,
                "video_params/fps": 30,
                "video_params/camera": "crane_up",
                "video_params/style": "noir",
                "video_params/format": "mp4",
                "video_params/overlay": False,
                "video_params/last_frame": True,
                **_files("first_frame", "last_frame", "source_video", "audio"),
                "audio_params/music": False,
                "audio_params/ambience": False,
            },
        ),
        (
            TALK,
            {
                "audio_params/voice_over": False,
                "scene_data/dialogue/0/character": "Ana",
                "scene_data/dialogue/0/text": "Stay.",
                "scene_data/dialogue/0/start_s": 0.3,
            },
        ),
    ],
    "image_generation": [
        (
            IMAGE,
            {
                "prompt": "a red planet",
                **_COMMON,
                "image_data/prompt": "a red planet",
                "image_data/purpose": "character_design",
                "image_data/character/name": "Ana",
                "image_data/character/description": "a space station",
                "image_params/resolution": "300x256",
                **_files("image", "mask"),
                "image_params/count": 2,
                "image_params/format": "webp",
                "image_params/style": "noir",
            },
        ),
        (PANELS, {"image_params/panels": 3}),
        (JPEG, {"image_params/quality": 20}),
    ],
    "audio_generation": [
        (
            SOUND,
            {
                "prompt": "wind",
                **_COMMON,
                "audio_data/prompt": "wind",
                **_files("voice_sample", "source_video", with_references=False),
                "audio_data/kind": "music",
                "audio_params/duration_s": 2,
                "audio_params/format": "mp3",
                "audio_params/sample_rate_hz": 22050,
                "audio_params/channels": 1,
                "audio_params/loudness_lufs": -30,
            },
        ),
        (
            VOICE,
            {
                "audio_data/text": "Stay.",
                "audio_data/voice": "old",
                "audio_data/language": "de",
                "audio_params/speed": 1.5,
                "audio_params/pitch_semitones": 3,
            },
        ),
    ],
}


def samples() -> list[Sample]:
    """Return a sample of every field of every task type."""
    return [
        Sample(task_type, path, value, _without(around, path))
        for task_type, groups in _SAMPLES.items()
        for around, values in groups
        for path, value in values.items()
    ]


def _without(around: dict[str, Any], path: str) -> dict[str, Any]:
    """Return a task without the prompt, where the sample is a flat one."""
    if path != "prompt":
        return around
    return {
        name: {member: value for member, value in section.items() if member != "prompt"}
        for name, section in around.items()
    }


def fields(task_type: str) -> set[str]:
    """Return the paths of all fields of a task type, in the form that samples have."""
    return set(_paths(serializer_for(TASK_TYPES[task_type].schema)))


def _paths(form: StrictObject) -> Iterator[str]:
    for name, field in form.fields.items():
        child = field.child if isinstance(field, Items) else field
        is_file = isinstance(child, InputReference)
        if isinstance(field, Items) or is_file or not isinstance(child, StrictObject):
            yield name
        if isinstance(child, StrictObject) and not is_file:
            below = f"{name}/0" if isinstance(field, Items) else name
            yield from (f"{below}/{path}" for path in _paths(child))
