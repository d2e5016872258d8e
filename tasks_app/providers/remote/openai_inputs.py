"""What does OpenAI's protocol take, and what do OpenAI's own models?

The lists are those of OpenAI's API reference. A server of another maker may take more: the option
``values`` says so.
"""

from __future__ import annotations

from typing import Any

from tasks_app.providers.accepts import INPUTS, Accepts, Limits, Values
from tasks_app.providers.remote.inputs import ModelInputs
from tasks_app.task_types import TASK_TYPES

#: The protocol's name of an input -> ours.
FIELDS = {
    "image": {"prompt": "prompt", "n": "count", "size": "resolution", "output_format": "format"},
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
        return Accepts(found.inputs, found.parameters, {}, True, closed)

    def _files(self, media: str, free: list[str]) -> dict[str, Limits]:
        """Return the one file that the protocol takes, whatever is mapped."""
        return {"first_frame": Limits(INPUTS[media]["first_frame"])} if media == "video" else {}

    def body(self, task_type: str, task_data: Any, model: str, files: Any = None) -> dict[str, Any]:
        """Return the body of a request: values as the protocol writes them, and the model."""
        body = {**super().body(task_type, task_data, model, files), "model": model}
        if isinstance(body.get("seconds"), int | float):
            body["seconds"] = f"{body['seconds']:g}"
        if TASK_TYPES[task_type].media == "audio" and "response_format" in body:
            wanted = body["response_format"]
            body["response_format"] = SPEECH_FORMATS.get(wanted, wanted)
        return body


def _picture(model: str) -> dict[str, Values]:
    family = next(name for name in PICTURE_SIZES if model.startswith(name))
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
