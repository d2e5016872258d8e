"""What is heard? Voice, score and ambience, mixed to a loudness and written to files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tasks_app.providers.previz.script import lexicon
from tasks_app.providers.previz.script.breakdown import Breakdown, break_down
from tasks_app.providers.previz.sound import ambience, loudness, score, soundfile, voice
from tasks_app.providers.previz.sound.loudness import Array

RATE = score.RATE
FILM_LUFS = -18.0
#: Gains of score and ambience, alone and under a voice.
MUSIC, AMBIENCE, DUCKED = 0.5, 0.42, 0.35
FEMALE, MALE = ("narrator_female", "lower_female"), ("male", "deep_male")


def for_film(plan: Breakdown, data: dict[str, Any], seconds: float) -> tuple[Array, dict[str, Any]]:
    """Return exactly ``seconds`` of sound, (samples, 2) at 48 kHz, and what is in it."""
    params, scene = data["audio_params"], data["scene_data"]
    mix = _mixed(plan, seconds, data["seed"], music=params["music"], place=params["ambience"])
    lines = scene["dialogue"] if params["voice_over"] else []
    spoken = [_add_line(mix, line, data["seed"]) for line in lines]
    levelled, loud = loudness.levelled(mix, RATE, FILM_LUFS)
    return levelled, {"mood": plan.mood, "voices": spoken, "loudness_lufs": _rounded(loud)}


def _rounded(loud: float) -> float | None:
    return round(loud, 1) if np.isfinite(loud) else None


def _mixed(plan: Breakdown, seconds: float, seed: int, *, music: bool, place: bool) -> Array:
    mix = np.zeros((round(seconds * RATE), 2), np.float32)
    if music:
        mix += _fitted(score.compose(plan.mood, seconds, seed), len(mix)) * MUSIC
    if place:
        mix += _fitted(ambience.make(plan, seconds, seed), len(mix)) * AMBIENCE
    return mix


def _fitted(samples: Array, count: int) -> Array:
    return np.pad(samples[:count], ((0, max(0, count - len(samples))), (0, 0)))


def _add_line(mix: Array, line: dict[str, Any], seed: int) -> dict[str, Any]:
    name = voice_for(str(line.get("character") or ""))
    speech = voice.speak(line["text"], name, RATE, seed=seed)
    first = int(float(line.get("start_s") or 0) * RATE)
    part = speech[: max(0, len(mix) - first)]
    mix[first : first + len(part)] *= DUCKED
    mix[first : first + len(part)] += part * (0.8 / max(0.05, float(np.abs(speech).max())))
    cut = round((len(speech) - len(part)) / RATE, 2)
    return {"character": line.get("character") or "", "voice": name, "seconds_cut": cut}


def voice_for(character: str) -> str:
    """Return a voice for a character: by its role if the name gives one, else by a hash of it."""
    words = [lexicon.TABLES["role"].get(word, "") for word in character.lower().split()]
    if any(word in character.lower() for word in ("old", "grand", "elder")):
        return "old"
    pool: tuple[str, ...] = (*FEMALE, *MALE)
    if "woman" in words:
        pool = FEMALE
    elif {"man", "detective"} & set(words):
        pool = MALE
    return pool[sum(character.encode()) % len(pool)] if character else FEMALE[0]


def make(
    data: dict[str, Any],
    work_dir: Path,
    report: Callable[[float, str, str], None],
    tags: Callable[[str], dict[str, str]],
) -> dict[str, Any]:
    """Make an audio task's file and its waveform; returns files and metadata."""
    audio, params = data["audio_data"], data["audio_params"]
    report(0.05, "composing", audio["kind"])
    samples, notes = _composed(data)
    rate = params["sample_rate_hz"]
    samples = _in_channels(soundfile.resampled(samples, RATE, rate), params["channels"])
    samples, loud = loudness.levelled(samples, rate, params["loudness_lufs"])
    report(0.7, "encoding", params["format"])
    name = f"primary.{params['format']}"
    title = str(audio.get("text") or audio.get("prompt") or audio["kind"])
    soundfile.write(work_dir / name, samples, rate, params["format"], tags(title))
    soundfile.draw_waveform(work_dir / "waveform.png", samples)
    metadata = {**notes, "kind": audio["kind"], "loudness_lufs": _rounded(loud), "mark": "PREVIZ"}
    return {"files": _files(name, params["format"], len(samples) / rate), "metadata": metadata}


def _files(name: str, kind: str, seconds: float) -> list[dict[str, Any]]:
    media_type, codec = soundfile.FORMATS[kind][4:]
    # Lossy codecs work in blocks of up to 60 ms, so the duration may be off by a part of one.
    expected = {"media_type": media_type, "codecs": [codec], "duration": seconds}
    width, height = soundfile.WAVEFORM_SIZE
    shape = {"media_type": "image/png", "width": width, "height": height}
    return [
        {"role": "primary", "name": name, "expected": {**expected, "tolerance": 0.06}},
        {"role": "waveform", "name": "waveform.png", "expected": shape},
    ]


def _composed(data: dict[str, Any]) -> tuple[Array, dict[str, Any]]:
    audio, params, seed = data["audio_data"], data["audio_params"], data["seed"]
    if audio["kind"] == "voice":
        text, name, pitch = str(audio["text"]), audio["voice"], params["pitch_semitones"]
        speech = voice.speak(text, name, RATE, speed=params["speed"], pitch=pitch, seed=seed)
        return speech, {"voice": audio["voice"], "language": "en"}
    plan = break_down(str(audio.get("prompt") or ""), is_seen=False)
    kind, seconds = audio["kind"], float(params["duration_s"])
    mix = _mixed(plan, seconds, seed, music=kind != "ambience", place=kind != "music")
    if kind == "scene" and audio.get("text"):
        _add_line(mix, {"text": audio["text"], "start_s": 0.6}, seed)
    return mix, plan.as_metadata()


def _in_channels(samples: Array, channels: int) -> Array:
    if samples.shape[1] == channels:
        return samples
    if channels == 1:
        return samples.mean(axis=1, keepdims=True)
    return np.repeat(samples, channels, axis=1)
