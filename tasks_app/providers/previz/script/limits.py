"""Which valid requests can previz not make? Its own limits, narrower than the schemas'."""

from __future__ import annotations

from typing import Any

from tasks_app.providers.base import FieldError

LONG_SIDE, SHORT_SIDE = 1920, 1080
MIN_SECONDS, MAX_SECONDS = 1, 15
VOICES = ("narrator_female", "lower_female", "male", "deep_male", "old")


def problems(task_type: str, task_data: dict[str, Any]) -> list[FieldError]:
    """Return every limit that ``task_data`` breaks; pointers start at ``/task_data``."""
    found = [*_common(task_data)]
    if task_type == "video_generation":
        found += _video(task_data.get("video_params") or {}, task_data.get("scene_data") or {})
    if task_type == "audio_generation":
        found += _audio(task_data.get("audio_data") or {})
    return found


def _common(data: dict[str, Any]) -> list[FieldError]:
    quality = (data.get("options") or {}).get("quality", "final")
    if quality in ("final", "draft"):
        return []
    return [_error("/options/quality", "not_allowed", "Use final or draft.")]


def _error(path: str, code: str, message: str) -> FieldError:
    return FieldError(f"/task_data{path}", code, message)


def _video(params: dict[str, Any], scene: dict[str, Any]) -> list[FieldError]:
    found = []
    if not _fits(str(params.get("resolution", "1920x1080"))):
        text = "Previz renders up to 1920x1080 (or 1080x1920)."
        found.append(_error("/video_params/resolution", "unsupported_by_provider", text))
    if not MIN_SECONDS <= float(params.get("duration_s", 7)) <= MAX_SECONDS:
        text = f"Previz renders {MIN_SECONDS} to {MAX_SECONDS} seconds."
        found.append(_error("/video_params/duration_s", "unsupported_by_provider", text))
    if scene.get("reference_images"):
        text = "Previz draws from words and cannot use reference images."
        found.append(_error("/scene_data/reference_images", "unsupported_by_provider", text))
    return found


def _fits(resolution: str) -> bool:
    width, _, height = resolution.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        return True  # the schema reports a malformed size with a better text
    sides = sorted((int(width), int(height)))
    return sides[0] <= SHORT_SIDE and sides[1] <= LONG_SIDE


def _audio(audio: dict[str, Any]) -> list[FieldError]:
    found = []
    language = str(audio.get("language") or "en")
    if language.replace("_", "-").split("-")[0].lower() != "en":
        text = f"Previz speaks English only, not {language}."
        found.append(_error("/audio_data/language", "unsupported_language", text))
    if audio.get("voice", VOICES[0]) not in VOICES:
        text = f"Use one of {', '.join(VOICES)}."
        found.append(_error("/audio_data/voice", "unsupported_by_provider", text))
    return found
