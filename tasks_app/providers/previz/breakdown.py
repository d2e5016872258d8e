"""What does a prompt ask to be seen? The script breakdown: words in, a plain plan out."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from tasks_app.providers.previz import lexicon

INTERIORS = frozenset({"kitchen", "living_room", "bedroom", "office", "hallway", "spaceship"})
DEFAULT_TIME = {
    "mountains": "dawn",
    "alley": "night",
    "street": "dusk",
    "desert": "dusk",
    "sea": "dusk",
    "forest": "morning",
    "kitchen": "morning",
    "space": "night",
    "spaceship": "night",
    "hallway": "night",
}
DEFAULT_CAMERA = {
    "mountains": "push_in",
    "alley": "push_in",
    "spaceship": "push_in",
    "hallway": "push_in",
    "kitchen": "push_in",
    "sea": "pan_right",
    "desert": "pan_left",
    "space": "pan_right",
}
WORD = re.compile(r"[a-z][a-z'-]*")


@dataclass(frozen=True, slots=True)
class Breakdown:
    """The plan of one shot. ``roles``: who is in it; ``details``: marks such as neon."""

    prompt: str
    setting: str
    time: str
    weather: str
    mood: str
    camera: str
    style: str
    roles: tuple[str, ...]
    action: str
    details: frozenset[str]
    understood: tuple[str, ...]
    ignored: tuple[str, ...]

    @property
    def is_interior(self) -> bool:
        """Tell whether the shot is inside, so that no weather falls in it."""
        return self.setting in INTERIORS

    def as_metadata(self) -> dict[str, Any]:
        """Return the plan as JSON for the result's metadata."""
        plan = asdict(self)
        plan["details"] = sorted(self.details)
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in plan.items()
        }


def break_down(
    prompt: str, *, camera: str = "auto", style: str = "auto", is_seen: bool = True
) -> Breakdown:
    """Read ``prompt`` word by word; explicit ``camera`` and ``style`` win over words.

    For a picture (``is_seen``), words that name a set which cannot be drawn count as ignored.
    """
    found: dict[str, list[str]] = {kind: [] for kind in lexicon.TABLES}
    understood, ignored = _sort_words(prompt, found, is_seen=is_seen)
    setting = _setting(found)
    time = _first(found["time"], DEFAULT_TIME.get(setting, "day"))
    return Breakdown(
        prompt=prompt,
        setting=setting,
        time=time,
        weather=_first(found["weather"], "clear"),
        mood=_first(found["mood"], _mood(setting, time)),
        camera=camera if camera != "auto" else _camera(found, setting),
        style=style if style != "auto" else _first(found["style"], "color"),
        roles=tuple(dict.fromkeys(found["role"]))[:3],
        action=_first(found["action"], "stand"),
        details=frozenset(found["detail"]),
        understood=tuple(understood),
        ignored=tuple(ignored),
    )


def _words(prompt: str) -> list[str]:
    text = prompt.lower()
    for phrase, word in lexicon.PHRASES.items():
        text = re.sub(rf"\b{phrase}\b".replace(" ", "[ -]+"), word, text)
    return WORD.findall(text)


def _sort_words(
    prompt: str, found: dict[str, list[str]], *, is_seen: bool
) -> tuple[list[str], list[str]]:
    understood: dict[str, None] = {}
    ignored: dict[str, None] = {}
    for word in _words(prompt):
        kinds = [kind for kind in _meanings(word) if not is_seen or _is_drawn(*kind)]
        for kind, value in kinds:
            found[kind].append(value)
        if kinds:
            understood[word] = None
        elif word not in lexicon.SILENT and len(word) > 1:
            ignored[word] = None
    return list(understood), list(ignored)


def _meanings(word: str) -> list[tuple[str, str]]:
    for form in (word, word.removesuffix("'s"), word.removesuffix("s")):
        kinds = [(kind, table[form]) for kind, table in lexicon.TABLES.items() if form in table]
        if kinds:
            return kinds
    return []


def _is_drawn(kind: str, value: str) -> bool:
    return kind != "setting" or value in lexicon.DRAWN


def _first(values: list[str], default: str) -> str:
    return values[0] if values else default


def _setting(found: dict[str, list[str]]) -> str:
    named = set(found["setting"])
    if "hallway" in named and "spaceship" in named:
        return "spaceship"
    if "neon" in found["detail"] and not named:
        return "alley"
    return next((name for name in lexicon.SETTING_ORDER if name in named), "mountains")


def _camera(found: dict[str, list[str]], setting: str) -> str:
    if found["camera"]:
        return found["camera"][0]
    return DEFAULT_CAMERA.get(setting, "push_in")


def _mood(setting: str, time: str) -> str:
    if setting in ("alley", "hallway", "spaceship"):
        return "tense" if setting == "spaceship" else "eerie"
    return {"dawn": "epic", "night": "eerie", "dusk": "sad"}.get(time, "calm")
