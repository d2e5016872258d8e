"""What does a prompt ask to be seen? The script breakdown: words in, a plain plan out."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from tasks_app.providers.previz.script import lexicon

INTERIORS = lexicon.ROOMS | {"hallway", "spaceship"}
DEFAULT_TIME = lexicon.index(
    {
        "dawn": "mountains lake",
        "morning": "forest kitchen living_room room bedroom",
        "dusk": "street desert sea",
        "night": "alley bar space spaceship hallway",
    }
)
#: The same for rain, which does not go with a low sun.
WET_TIME = {"sea": "day", "lake": "day", "forest": "day"}
DEFAULT_CAMERA = {"sea": "pan_right", "desert": "pan_left", "space": "pan_right"}
MOST_ROLES = 3
#: The roles that are used when a prompt mentions several people.
CROWD = ("man", "woman", "robed", "woman")
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
        """Say whether the shot is inside, where no weather shows."""
        return self.setting in INTERIORS

    def as_metadata(self) -> dict[str, Any]:
        """Return the plan as JSON for the result's metadata."""
        plan = asdict(self)
        plan["details"] = sorted(self.details)
        return {k: list(value) if isinstance(value, tuple) else value for k, value in plan.items()}


def break_down(
    prompt: str,
    *,
    camera: str = "auto",
    style: str = "auto",
    is_seen: bool = True,
    is_heard: bool = True,
) -> Breakdown:
    """Read ``prompt`` word by word; explicit ``camera`` and ``style`` win over words.

    A word counts as understood only if it changes the result: in a picture (``is_seen``) or in the
    sound (``is_heard``). Of two words that contradict each other, one is ignored.
    """
    found: dict[str, list[str]] = {kind: [] for kind in lexicon.TABLES}
    text = prompt.lower()
    for phrase, word in lexicon.PHRASES.items():
        text = re.sub(rf"\b{phrase}\b".replace(" ", "[ -]+"), word, text)
    words = dict.fromkeys(WORD.findall(text))
    for kind, value in (meaning for word in words for meaning in _meanings(word)):
        if not is_seen or kind != "setting" or value in lexicon.DRAWN:
            found[kind].append(value)
    plan = _plan(prompt, found, camera, style)
    is_used = _seen(plan, is_heard) if is_seen else _heard(plan)
    understood = [word for word in words if any(is_used(*m) for m in _meanings(word))]
    ignored = [w for w in words if w not in {*understood, *lexicon.SILENT} and len(w) > 1]
    return replace(plan, understood=tuple(understood), ignored=tuple(ignored))


def _plan(prompt: str, found: dict[str, list[str]], camera: str, style: str) -> Breakdown:
    setting = _setting(found)
    weather = _first(found["weather"], "clear")
    usual = WET_TIME if weather in ("rain", "storm") and setting in WET_TIME else DEFAULT_TIME
    time = _first(found["time"], usual.get(setting, "day"))
    usual_move = DEFAULT_CAMERA.get(setting, "push_in")
    return Breakdown(
        prompt=prompt,
        setting=setting,
        time=time,
        weather=weather,
        mood=_first(found["mood"], _mood(setting, time)),
        camera=camera if camera != "auto" else _first(found["camera"], usual_move),
        style=style if style != "auto" else _first(found["style"], "color"),
        roles=_cast(found),
        action=_first(found["action"], "stand"),
        details=frozenset(found["detail"]),
        understood=(),
        ignored=(),
    )


def _cast(found: dict[str, list[str]]) -> tuple[str, ...]:
    roles = tuple(dict.fromkeys(found["role"]))[:MOST_ROLES]
    return roles + CROWD if "crowd" in found["detail"] else roles


def _seen(plan: Breakdown, is_heard: bool) -> Callable[[str, str], bool]:
    """Return a function that says whether a meaning shows in the picture or its music."""

    def is_used(kind: str, value: str) -> bool:
        if kind == "detail":
            places = lexicon.DRAWN_DETAILS.get(value, frozenset())
            return places is None or plan.setting in places
        if kind == "setting" and value not in lexicon.DRAWN:
            return False
        if kind in lexicon.UNSEEN.get(plan.setting, ()):
            return False
        return _is_in(plan, kind, value) and (kind != "mood" or is_heard)

    return is_used


def _heard(plan: Breakdown) -> Callable[[str, str], bool]:
    """Return a function that says whether a meaning is heard in sound without a picture."""

    def is_used(kind: str, value: str) -> bool:
        if kind == "detail":
            return value in lexicon.HEARD_DETAILS
        if kind in ("camera", "style") or (
            kind == "weather" and value not in lexicon.HEARD_WEATHER
        ):
            return False
        return _is_in(plan, kind, value)

    return is_used


def _is_in(plan: Breakdown, kind: str, value: str) -> bool:
    if kind == "role":
        return value in plan.roles
    if kind == "setting":
        return value in {plan.setting, *lexicon.INCLUDED.get(plan.setting, ())}
    return bool(value == getattr(plan, kind)) and (kind != "action" or bool(plan.roles))


def _meanings(word: str) -> list[tuple[str, str]]:
    for form in (word, word.removesuffix("'s"), word.removesuffix("s")):
        kinds = [(kind, table[form]) for kind, table in lexicon.TABLES.items() if form in table]
        if kinds:
            return kinds
    return []


def _first(values: list[str], default: str) -> str:
    return values[0] if values else default


def _setting(found: dict[str, list[str]]) -> str:
    named = set(found["setting"])
    if named & {"hallway", "bridge"} and set(found["detail"]) & {"starship", "station"}:
        return "spaceship"
    if not named:
        named = {lexicon.IMPLIED.get(value, "") for value in found["detail"] + found["style"]}
    return next((name for name in lexicon.SETTING_ORDER if name in named), "mountains")


def _mood(setting: str, time: str) -> str:
    if setting in ("alley", "hallway", "spaceship"):
        return "tense" if setting == "spaceship" else "eerie"
    return {"dawn": "epic", "night": "eerie", "dusk": "sad"}.get(time, "calm")
