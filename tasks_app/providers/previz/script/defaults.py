"""What does a request mean where it says nothing? Defaults of generation task data.

The schemas fill these in before a provider sees the data, but a provider also gets data that did
not pass them (a flat ``prompt``, a stored task of an older release).
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from typing import Any

VIDEO_PARAMS = {
    "resolution": "1920x1080",
    "duration_s": 7,
    "fps": 24,
    "camera": "auto",
    "style": "auto",
    "format": "mp4",
    "overlay": True,
    "last_frame": False,
}
IMAGE_PARAMS = {"count": 1, "format": "png", "quality": 90, "style": "auto"}
AUDIO_PARAMS = {
    "speed": 1.0,
    "pitch_semitones": 0,
    "duration_s": 10,
    "format": "wav",
    "sample_rate_hz": 48000,
    "loudness_lufs": -16,
}


def filled(task_type: str, task_data: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of ``task_data`` in its long form, with every default and a seed."""
    data = copy.deepcopy(task_data)
    text = FILLED_BY[task_type](data, data.pop("prompt", None))
    data["options"] = data.get("options") or {}
    if data.get("seed") is None:
        data["seed"] = seed_of(text)
    return data


def seed_of(prompt: str) -> int:
    """Return the seed that a prompt has when none was given: 0..2^32-1."""
    return int.from_bytes(hashlib.sha256(prompt.encode()).digest()) % 2**32


def _merge(data: dict[str, Any], key: str, values: dict[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in (data.get(key) or {}).items() if value is not None}
    merged = {**values, **given}
    data[key] = merged
    return merged


def _video(data: dict[str, Any], prompt: str | None) -> str:
    empty = {"prompt": prompt or "", "negative_prompt": "", "scene": "SC01", "shot": "SH010"}
    scene = _merge(data, "scene_data", {**empty, "dialogue": [], "reference_images": []})
    _merge(data, "video_params", VIDEO_PARAMS)
    spoken = bool(scene["dialogue"])
    _merge(data, "audio_params", {"voice_over": spoken, "music": True, "ambience": True})
    return str(scene["prompt"])


def _image(data: dict[str, Any], prompt: str | None) -> str:
    image = _merge(data, "image_data", {"prompt": prompt or "", "purpose": "concept_art"})
    portrait = image["purpose"] == "character_design"
    size = "1024x1536" if portrait else "1920x1080"
    _merge(data, "image_params", {**IMAGE_PARAMS, "resolution": size})
    return str(image["prompt"])


def _audio(data: dict[str, Any], prompt: str | None) -> str:
    audio = _merge(data, "audio_data", {"voice": "narrator_female", "language": "en"})
    if prompt and not audio.get("text") and not audio.get("prompt"):
        audio["text" if audio.get("kind") == "voice" else "prompt"] = prompt
    audio.setdefault("kind", "voice" if audio.get("text") else "scene")
    channels = 1 if audio["kind"] == "voice" else 2
    _merge(data, "audio_params", {**AUDIO_PARAMS, "channels": channels})
    return str(audio.get("text") or audio.get("prompt") or "")


#: The task types that previz can make, and what fills in the task data of each.
FILLED_BY: dict[str, Callable[[dict[str, Any], str | None], str]] = {
    "video_generation": _video,
    "image_generation": _image,
    "audio_generation": _audio,
}
