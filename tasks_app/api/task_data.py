"""What may stand in ``task_data``? One class per task type; the docs and the API page show them.

A flat ``prompt`` is short for the type's own place for it. What is valid comes back as the client
said it, without defaults: those are the provider's, and so are narrower limits
(`Provider.validate`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import orjson
from django.utils.module_loading import import_string
from rest_framework.exceptions import ErrorDetail

from tasks_app.api.task_fields import Reference, Resolution
from tasks_app.api.task_inputs import AudioInputs, ImageInputs, VideoInputs
from tasks_app.task_types import TASK_TYPES
from webhooks_app.api.fields import Choice, Flag, FreeObject, Items, Number, Text, Whole
from webhooks_app.api.read import Given, Members, StrictObject

MAX_OPTIONS_BYTES = 8_192
_OPTIONS_SIZE = f"at most {MAX_OPTIONS_BYTES // 1024} KiB"
MAX_DIALOGUE_CHARACTERS = 1_000
_SLATE = r"[A-Za-z0-9_.-]{1,32}"
_SLATE_SHAPE = "Use 1 to 32 letters, digits, '_', '.' or '-'."
#: A language tag as far as anybody uses them: language, script, region.
_LANGUAGE = r"[A-Za-z]{2,3}(-[A-Za-z]{4})?(-([A-Za-z]{2}|[0-9]{3}))?"


def _missing(errors: Members, *path: str) -> None:
    """Report a required field, unless something else is wrong on the way to it."""
    for name in path[:-1]:
        inner = errors.setdefault(name, {})
        if not isinstance(inner, dict):
            return
        errors = inner
    errors.setdefault(path[-1], [ErrorDetail("This field is required.", "required")])


def _not_here(errors: Members, name: str, message: str) -> None:
    errors.setdefault(name, [ErrorDetail(message, "not_allowed")])


class CommonTaskData(StrictObject):
    """What every type takes."""

    prompt = Text(
        max_length=4000, is_long=True, required=False, help_text="Short for the prompt below."
    )
    provider = Text(
        max_length=100, required=False, help_text="The provider; the configured one if left out."
    )
    model = Text(max_length=200, required=False, help_text="One of the provider's models.")
    seed = Whole(0, 2**32 - 1, required=False, help_text="For the same result again.")
    options = FreeObject(required=False, help_text=f"Passed to the provider; {_OPTIONS_SIZE}.")

    def check(self, values: Members, data: Given, errors: Members) -> None:
        """Bound the options."""
        if len(orjson.dumps(values.get("options", {}))) > MAX_OPTIONS_BYTES:
            errors["options"] = [ErrorDetail(f"A{_OPTIONS_SIZE[1:]}.", "too_long")]

    def place_prompt(self, section: str, values: Members, data: Given, errors: Members) -> None:
        """Move the flat prompt to its place, or report that there is none."""
        inner = values.get(section)
        flat = values.pop("prompt", None)
        has_flat = isinstance(data, Mapping) and "prompt" in data
        given = data.get(section) if isinstance(data.get(section), Mapping) else {}
        if has_flat and given and "prompt" in given:
            _not_here(errors, "prompt", f"Give the prompt once: here or in {section}.")
        elif flat is not None:
            values[section] = {"prompt": flat, **(inner or {})}
        elif not has_flat and not (given and "prompt" in given):
            _missing(errors, section, "prompt")


class DialogueLine(StrictObject):
    """One spoken line of a scene."""

    character = Text(max_length=80)
    text = Text(max_length=500, is_long=True)
    start_s = Number(0, 30, unit="seconds", required=False)


class SceneData(StrictObject):
    """What happens in the shot."""

    prompt = Text(max_length=4000, is_long=True, required=False)
    negative_prompt = Text(max_length=2000, is_long=True, allow_blank=True, required=False)
    scene = Text(max_length=32, pattern=_SLATE, shape=_SLATE_SHAPE, required=False)
    shot = Text(max_length=32, pattern=_SLATE, shape=_SLATE_SHAPE, required=False)
    dialogue = Items(child=DialogueLine(), most=10, required=False)
    reference_images = Items(
        child=Reference(), most=4, required=False, help_text="Short for inputs.reference_images."
    )

    def check(self, values: Members, data: Given, errors: Members) -> None:
        """Bound all lines together."""
        spoken = sum(len(line["text"]) for line in values.get("dialogue", []))
        if spoken > MAX_DIALOGUE_CHARACTERS:
            message = f"At most {MAX_DIALOGUE_CHARACTERS} characters in all lines together."
            errors["dialogue"] = [ErrorDetail(message, "too_long")]


class VideoParams(StrictObject):
    """How the clip is made."""

    resolution = Resolution(width=(256, 3840), height=(144, 2160), required=False)
    duration_s = Number(1, 30, unit="seconds", required=False)
    fps = Choice([12, 24, 25, 30], required=False)
    camera = Choice(
        ["auto", "static", "push_in", "pull_out", "pan_left", "pan_right", "crane_up"],
        required=False,
    )
    style = Choice(["auto", "noir", "color", "storyboard"], required=False)  # type: ignore[assignment]
    format = Choice(["mp4"], required=False, help_text="H.264 and AAC, ready for streaming.")
    overlay = Flag(required=False, help_text="Slate, timecode and the mark of the previz.")
    last_frame = Flag(required=False, help_text="Also keep the last frame, as a picture.")


class SceneAudioParams(StrictObject):
    """What is heard in the clip."""

    voice_over = Flag(required=False, help_text="Whether dialogue is spoken.")
    music = Flag(required=False)
    ambience = Flag(required=False)


class VideoTaskData(CommonTaskData):
    """``task_data`` of a video_generation; the prompt stands here or in `scene_data`."""

    inputs = VideoInputs(required=False)
    scene_data = SceneData(required=False)
    video_params = VideoParams(required=False)
    audio_params = SceneAudioParams(required=False)

    def check(self, values: Members, data: Given, errors: Members) -> None:
        """Place the prompt, and date the dialogue of a clip whose length is given."""
        super().check(values, data, errors)
        self.place_prompt("scene_data", values, data, errors)
        if errors:
            return
        if values["scene_data"].get("reference_images") and (
            "reference_images" in values.get("inputs", {})
        ):
            message = "Give them once: here or in inputs."
            errors["scene_data"] = {"reference_images": [ErrorDetail(message, "not_allowed")]}
            return
        seconds = values.get("video_params", {}).get("duration_s", float("inf"))
        late = [
            {"start_s": [ErrorDetail("Must lie within the clip.", "out_of_range")]}
            if line.get("start_s", 0) > seconds
            else {}
            for line in values["scene_data"].get("dialogue", [])
        ]
        if any(late):
            errors["scene_data"] = {"dialogue": late}


class ImageCharacter(StrictObject):
    """Whom a character design shows."""

    name = Text(max_length=80, required=False)
    description = Text(max_length=1000, is_long=True, required=False)


class ImageData(StrictObject):
    """What the picture shows."""

    prompt = Text(max_length=4000, is_long=True, required=False)
    purpose = Choice(["character_design", "concept_art", "storyboard_frame"], required=False)
    character = ImageCharacter(required=False)


class ImageParams(StrictObject):
    """How the picture is made."""

    resolution = Resolution(width=(256, 4096), height=(256, 4096), is_even=False, required=False)
    count = Whole(1, 4, required=False)
    panels = Whole(1, 12, required=False, help_text="For storyboard frames.")
    format = Choice(["png", "jpeg", "webp"], required=False)
    quality = Whole(1, 100, required=False)
    style = Choice(["auto", "color", "noir", "pencil", "painted"], required=False)  # type: ignore[assignment]


class ImageTaskData(CommonTaskData):
    """``task_data`` of an image_generation; the prompt stands here or in `image_data`."""

    inputs = ImageInputs(required=False)
    image_data = ImageData(required=False)
    image_params = ImageParams(required=False)

    def check(self, values: Members, data: Given, errors: Members) -> None:
        """Place the prompt, and refuse panels of what has none."""
        super().check(values, data, errors)
        self.place_prompt("image_data", values, data, errors)
        if errors:
            return
        purpose = values["image_data"].get("purpose")
        if purpose != "storyboard_frame" and "panels" in values.get("image_params", {}):
            message = "Only a storyboard_frame has panels."
            errors["image_params"] = {"panels": [ErrorDetail(message, "not_allowed")]}


class AudioData(StrictObject):
    """What is heard."""

    kind = Choice(["voice", "music", "ambience", "scene"], required=False)
    text = Text(max_length=5000, is_long=True, required=False, help_text="What a voice says.")
    prompt = Text(max_length=2000, is_long=True, required=False)
    voice = Text(
        max_length=100,
        required=False,
        help_text="narrator_female, lower_female, male, deep_male, old, or one of the provider's.",
    )
    language = Text(
        max_length=11,
        pattern=_LANGUAGE,
        shape="Use a language tag, for example en or en-GB.",
        required=False,
    )


class AudioParams(StrictObject):
    """How the sound is made."""

    speed = Number(0.5, 2.0, required=False)
    pitch_semitones = Number(-12, 12, required=False)
    duration_s = Number(1, 120, unit="seconds", required=False)
    format = Choice(["wav", "mp3", "m4a", "ogg", "flac"], required=False)
    sample_rate_hz = Choice([22050, 24000, 44100, 48000], required=False)
    channels = Choice([1, 2], required=False)
    loudness_lufs = Number(-31, -9, required=False)


class AudioTaskData(CommonTaskData):
    """``task_data`` of an audio_generation."""

    prompt = Text(
        max_length=2000, is_long=True, required=False, help_text="Short for the prompt below."
    )
    inputs = AudioInputs(required=False)
    audio_data = AudioData(required=False)
    audio_params = AudioParams(required=False)

    def check(self, values: Members, data: Given, errors: Members) -> None:
        """Tell a voice, which has a text, from sound, which has a prompt and a length."""
        super().check(values, data, errors)
        given = data.get("audio_data")
        given = given if isinstance(given, Mapping) else {}
        kind = given.get("kind") or ("voice" if "text" in given else "scene")
        if kind == "voice":
            self._check_voice(values, given, data, errors)
        else:
            self.place_prompt("audio_data", values, data, errors)
            if "text" in given:
                _not_here(errors.setdefault("audio_data", {}), "text", "Only a voice has a text.")

    @staticmethod
    def _check_voice(
        values: Members,
        given: Given,
        data: Given,
        errors: Members,
    ) -> None:
        if "prompt" in data:
            _not_here(errors, "prompt", "A voice takes audio_data.text.")
        if "text" not in given:
            _missing(errors, "audio_data", "text")
        if "duration_s" in values.get("audio_params", {}):
            inner = errors.setdefault("audio_params", {})
            _not_here(inner, "duration_s", "A voice takes as long as its text.")


@cache
def serializer_for(schema: str) -> StrictObject:
    """Return the one instance of a schema, by the dotted path of its class."""
    found = import_string(schema)()
    assert isinstance(found, StrictObject)
    return found


def parameters(task_type: str) -> dict[str, tuple[str, Any]]:
    """Return the pointer and the field of everything that a task can say, by its provider's name.

    The names are those of `providers.accepts`; a list of objects is one parameter.
    """
    form = serializer_for(TASK_TYPES[task_type].schema)
    found: dict[str, tuple[str, Any]] = {}
    for name, field in form.fields.items():
        if isinstance(field, StrictObject) and name != "inputs":
            found |= dict(_inner(field, f"/task_data/{name}", ""))
    seed = form.fields["seed"]
    return {**found, "seed": ("/task_data/seed", seed)}


def _inner(form: StrictObject, pointer: str, prefix: str) -> Iterator[tuple[str, tuple[str, Any]]]:
    for name, field in form.fields.items():
        if isinstance(field, StrictObject):
            yield from _inner(field, f"{pointer}/{name}", f"{prefix}{name}.")
        else:
            yield prefix + name, (f"{pointer}/{name}", field)
