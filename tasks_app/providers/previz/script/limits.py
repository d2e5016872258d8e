"""What can previz make of a request? Its own limits, narrower than the schemas'."""

from __future__ import annotations

from typing import Any

from tasks_app.providers.accepts import CODE, ROOT, Accepts, Values, model_faults, refusals
from tasks_app.providers.base import FieldError
from tasks_app.providers.previz import MODEL
from tasks_app.providers.previz.script import defaults

LONG_SIDE, SHORT_SIDE = 1920, 1080
MIN_SECONDS, MAX_SECONDS = 1, 15
VOICES = ("narrator_female", "lower_female", "male", "deep_male", "old")
WHO = "Previz"
_FILM = defaults.VIDEO_PARAMS
_SOUND = defaults.AUDIO_PARAMS
_PICTURE = defaults.IMAGE_PARAMS
_VOICE_ONLY = ("kind", ("voice",))
_SEED = Values(note="by default made from the prompt")

VIDEO = Accepts(
    parameters={
        "prompt": Values(),
        "scene": Values(default="SC01"),
        "shot": Values(default="SH010"),
        "dialogue": Values(note="spoken with voice_over, written with overlay"),
        "resolution": Values(sides=(LONG_SIDE, SHORT_SIDE), default=_FILM["resolution"]),
        "duration_s": Values(least=MIN_SECONDS, most=MAX_SECONDS, default=_FILM["duration_s"]),
        **{name: Values(default=_FILM[name]) for name in ("fps", "camera", "style", "format")},
        "overlay": Values(default=_FILM["overlay"]),
        "last_frame": Values(default=_FILM["last_frame"]),
        "voice_over": Values(note="by default where there is dialogue; speaks nothing else"),
        "music": Values(default=True),
        "ambience": Values(default=True),
        "seed": _SEED,
    },
    options={"quality": Values(choices=("final", "draft"))},
)
IMAGE = Accepts(
    parameters={
        "prompt": Values(),
        "purpose": Values(default="concept_art"),
        "character.name": Values(note="written into the file's title"),
        "character.description": Values(),
        "resolution": Values(note="by default 1024x1536 for a character_design, else 1920x1080"),
        "count": Values(default=_PICTURE["count"]),
        "panels": Values(note="as many pictures, in place of count"),
        "format": Values(default=_PICTURE["format"]),
        "quality": Values(default=_PICTURE["quality"], only_with=("format", ("jpeg", "webp"))),
        "style": Values(choices=("auto", "color", "noir", "pencil"), default=_PICTURE["style"]),
        "seed": _SEED,
    },
)
AUDIO = Accepts(
    parameters={
        "kind": Values(note="by default voice where there is a text, else scene"),
        "text": Values(),
        "prompt": Values(),
        "voice": Values(choices=VOICES, default=VOICES[0], only_with=_VOICE_ONLY),
        "language": Values(languages=("en",), default="en", only_with=_VOICE_ONLY),
        "speed": Values(default=_SOUND["speed"], only_with=_VOICE_ONLY),
        "pitch_semitones": Values(default=_SOUND["pitch_semitones"], only_with=_VOICE_ONLY),
        "duration_s": Values(
            default=_SOUND["duration_s"], note="a voice takes as long as its text"
        ),
        **{
            name: Values(default=_SOUND[name])
            for name in ("format", "sample_rate_hz", "loudness_lufs")
        },
        "channels": Values(note="by default 1 for a voice, else 2"),
        "seed": _SEED,
    },
)
BY_TYPE = {"video_generation": VIDEO, "image_generation": IMAGE, "audio_generation": AUDIO}


def problems(task_type: str, task_data: dict[str, Any]) -> list[FieldError]:
    """Return every limit that ``task_data`` breaks; pointers start at ``/task_data``."""
    found = [
        *model_faults(WHO, (MODEL,), task_data),
        *refusals(WHO, BY_TYPE[task_type], task_type, task_data),
    ]
    if task_type == "video_generation":
        found += _dialogue(task_data)
    if task_type == "image_generation":
        found += _panels(task_data.get("image_params") or {})
    return found


def _dialogue(data: dict[str, Any]) -> list[FieldError]:
    """Return the lines that nobody would hear or read."""
    lines = (data.get("scene_data") or {}).get("dialogue") or []
    params, sound = data.get("video_params") or {}, data.get("audio_params") or {}
    pointer = f"{ROOT}/scene_data/dialogue"
    if lines and sound.get("voice_over") is False and params.get("overlay") is False:
        text = "Without voice_over and overlay no line is heard or read."
        return [FieldError(pointer, CODE, text)]
    seconds = params.get("duration_s", _FILM["duration_s"])
    return [
        FieldError(f"{pointer}/{place}/start_s", "out_of_range", "Must lie within the clip.")
        for place, line in enumerate(lines)
        if (line.get("start_s") or 0) > seconds
    ]


def _panels(params: dict[str, Any]) -> list[FieldError]:
    if "panels" in params and "count" in params:
        return [FieldError(f"{ROOT}/image_params/count", CODE, "Give count or panels, not both.")]
    return []
