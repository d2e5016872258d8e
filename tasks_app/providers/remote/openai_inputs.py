"""What does OpenAI's protocol take, and what do OpenAI's own models?

The lists are those of OpenAI's API reference. A server of another maker may take more: the option
``values`` says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tasks_app.providers.accepts import CODE, INPUTS, ROOT, Accepts, Limits, Values
from tasks_app.providers.base import FieldError
from tasks_app.providers.remote.inputs import ModelInputs
from tasks_app.task_types import TASK_TYPES

#: The protocol's name of an input -> ours.
FIELDS = {
    "image": {"prompt": "prompt", "n": "count", "size": "resolution", "output_format": "format"}
    | {"image": "inputs.image", "mask": "inputs.mask"},
    "video": {"prompt": "prompt", "seconds": "duration_s", "size": "resolution"}
    | {"input_reference": "inputs.first_frame"},
    "audio": {
        "input": "text",
        "voice": "voice",
        "response_format": "format",
        "speed": "speed",
    },
}
#: Our name of a sound format -> the protocol's. Its aac is a bare stream, not an m4a.
SPEECH_FORMATS = {"mp3": "mp3", "wav": "wav", "flac": "flac", "ogg": "opus"}
SQUARE = "1024x1024"
#: Sizes of pictures by the start of a model's name; the newest family for any other.
PICTURE_SIZES = {
    "dall-e-2": ("256x256", "512x512", SQUARE),
    "dall-e-3": (SQUARE, "1024x1792", "1792x1024"),
    "": (SQUARE, "1024x1536", "1536x1024"),
}
FILM_SIZES = ("1280x720", "720x1280")
LARGE_FILM_SIZES = (*FILM_SIZES, "1792x1024", "1024x1792")
SECONDS = (4, 8, 12)
VOICES = ("alloy", "ash", "coral", "echo", "fable", "nova", "onyx", "sage", "shimmer")
#: Voices that the models before gpt-4o-mini-tts do not have.
NEWER_VOICES = ("ballad", "cedar", "marin", "verse")
#: A request for speech must name a voice.
DEFAULT_VOICE = "alloy"
LONGEST_TEXT = 4096
#: The largest picture that is edited, and the largest mask, in bytes, by the start of a model's
#: name; dall-e-3 edits nothing.
EDITED_BYTES = {"dall-e-2": (4 << 20, 4 << 20), "dall-e-3": None, "": (50 << 20, 4 << 20)}
LONGEST_PROMPTS = {"dall-e-2": 1000}


class OpenAIInputs(ModelInputs):
    """The inputs of models behind OpenAI's protocol: its own, and those that are mapped."""

    def own_fields(self, task_type: str, model: str) -> dict[str, str]:
        """Return the protocol's fields, and the operator's beside them."""
        fields = {**FIELDS[TASK_TYPES[task_type].media], **(self._fields or {})}
        if model.startswith("dall-e-"):
            fields.pop("output_format", None)
        return fields

    def own_defaults(self, task_type: str) -> dict[str, Any]:
        """Return the operator's defaults, and a voice for speech."""
        is_speech = TASK_TYPES[task_type].media == "audio"
        return ({"voice": DEFAULT_VOICE} if is_speech else {}) | self._defaults

    def known_values(self, task_type: str, model: str) -> dict[str, Values]:
        """Return what OpenAI's models take."""
        return {"image": _picture, "video": _film, "audio": self._spoken}[
            TASK_TYPES[task_type].media
        ](model)

    def _spoken(self, model: str) -> dict[str, Values]:
        voices = VOICES if model.startswith("tts-1") else tuple(sorted(VOICES + NEWER_VOICES))
        default = self.own_defaults("audio_generation")["voice"]
        return {
            "text": Values(longest=LONGEST_TEXT),
            "voice": Values(choices=voices, default=default),
            "format": Values(choices=tuple(SPEECH_FORMATS)),
        }

    def accepts(self, task_type: str, model: str = "") -> Accepts:
        """Return what the model takes; its name is no option."""
        found = super().accepts(task_type, model)
        closed = {**found.closed_options, "model": "name the model in task_data.model."}
        return Accepts(_files_of(task_type, model), found.parameters, {}, True, closed)

    def _files(self, media: str, free: list[str]) -> dict[str, Limits]:
        """Return nothing: what the protocol takes is the same, whatever is mapped."""
        return {}

    def validate(self, task_type: str, task_data: dict[str, Any]) -> list[FieldError]:
        """Report everything in a task that the model does not take."""
        found = super().validate(task_type, task_data)
        given = task_data.get("inputs") or {}
        if not found and "mask" in given and "image" not in given:
            text = f"The provider {self.name} takes mask only beside image."
            return [FieldError(f"{ROOT}/inputs/mask", CODE, text)]
        return found

    def body(self, task_type: str, task_data: Any, model: str, files: Any = None) -> dict[str, Any]:
        """Return the body of a request: values as the protocol writes them, and the model."""
        body = {**super().body(task_type, task_data, model, files), "model": model}
        if isinstance(body.get("seconds"), int | float):
            body["seconds"] = f"{body['seconds']:g}"
        if TASK_TYPES[task_type].media == "audio" and "response_format" in body:
            wanted = body["response_format"]
            body["response_format"] = SPEECH_FORMATS.get(wanted, wanted)
        return body


def _files_of(task_type: str, model: str) -> dict[str, Limits]:
    """Return the files that the protocol takes, whatever is mapped."""
    media = TASK_TYPES[task_type].media
    if media == "video":
        return {"first_frame": Limits(INPUTS[media]["first_frame"])}
    most = EDITED_BYTES[_family(EDITED_BYTES, model)] if media == "image" else None
    names = ("image", "mask") if most else ()
    return {
        name: Limits(INPUTS[media][name], max_bytes=bytes_)
        for name, bytes_ in zip(names, most or (), strict=True)
    }


def _family(families: Iterable[str], model: str) -> str:
    return next(name for name in families if model.startswith(name))


def _picture(model: str) -> dict[str, Values]:
    family = _family(PICTURE_SIZES, model)
    found = {"resolution": Values(choices=PICTURE_SIZES[family])}
    if family in LONGEST_PROMPTS:
        found["prompt"] = Values(longest=LONGEST_PROMPTS[family])
    if family == "dall-e-3":
        found["count"] = Values(choices=(1,))
    return found


def _film(model: str) -> dict[str, Values]:
    return {
        "resolution": Values(choices=FILM_SIZES if model == "sora-2" else LARGE_FILM_SIZES),
        "duration_s": Values(choices=SECONDS),
        "format": Values(choices=("mp4",), note="it makes nothing else"),
    }
