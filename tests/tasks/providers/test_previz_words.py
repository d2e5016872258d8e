"""Does every word that previz reports as understood change the picture (or the sound)?"""

import re
from dataclasses import replace

import numpy as np
import pytest

from tasks_app.providers.previz.camera.shot import Shot
from tasks_app.providers.previz.camera.stage import Moment
from tasks_app.providers.previz.props import figures, terrain, water
from tasks_app.providers.previz.script import lexicon
from tasks_app.providers.previz.script.breakdown import break_down
from tests import ROOT

pytestmark = pytest.mark.long
WIDTH, HEIGHT = 96, 54
SHORE, AFLOAT = ("beach", "cliffs", "island", "lighthouse", "pier"), ("boat", "ship")
FITTINGS = ("window", "blinds", "candles", "books", "door")
SKY = ("planet", "galaxy", "nebula", "asteroids")
#: A street takes seconds to build, so one plain street serves both of its details.
DETAILS = {
    "a street by day": ("a street by day, neon", "a street by day, reflections"),
    "the sea": [f"the sea, {what}" for what in (*SHORE, *AFLOAT, "waves", "gulls", "man")],
    "a forest": [f"a forest, {what}" for what in ("autumn", "a path", "people", "snow", "mist")],
    "a room": [f"a room, {what}" for what in (*FITTINGS, "table", "lamp", "woman")],
    "space": [f"space {what}" for what in (*SKY, "starship", "station", "astronaut")],
    "a starship corridor": ("a starship corridor, red alert",),
    "a lake": ("a lake, a pier", "a lake, a boat"),
    "a meadow": ("a meadow, people", "a meadow, birds", "a meadow, a campfire"),
}


@pytest.fixture(autouse=True)
def _coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute land and waves as coarsely as these small pictures show them."""
    monkeypatch.setattr(terrain, "SIZE", 256)
    monkeypatch.setattr(water, "SIZE", 128)


def drawn(prompt: str, **changes: str) -> np.ndarray:
    plan = replace(break_down(prompt), **changes)
    shot = Shot(plan, 7, WIDTH, HEIGHT, None, slice(0, HEIGHT))
    return shot.draw(Moment(1.0, 0.4, 24)).copy()


def first_words(table: dict[str, str]) -> list[str]:
    return [words.split()[0] for words in table.values()]


@pytest.mark.parametrize("kind", ["time", "weather", "setting", "role", "action"])
def test_values_of_a_kind_are_all_drawn_differently(kind):
    """Proves that each understood value of a kind gives a different picture."""
    tables = {"time": lexicon.TIMES, "weather": lexicon.WEATHER, "role": lexicon.ROLES}
    tables |= {"setting": lexicon.SETTINGS, "action": lexicon.ACTIONS}
    scene = {"role": "meadow", "action": "meadow man", "setting": "day"}.get(kind, "meadow")
    pictures = []
    for word in first_words(tables[kind]):
        is_slow = word in lexicon.SETTINGS["street"].split()
        if not is_slow and word in break_down(f"{scene} {word}").understood:
            pictures.append(drawn(f"{scene} {word}").tobytes())
    assert len(pictures) > 1
    assert len(set(pictures)) == len(pictures)


@pytest.mark.parametrize(
    ("prompt", "setting"),
    [
        ("waves on the ocean", "sea"),
        ("a lighthouse", "sea"),
        ("a noir harbour", "sea"),
        ("a ship", "sea"),
        ("a lake in the mountains", "lake"),
        ("a path through the woods", "forest"),
        ("a room", "room"),
        ("a hotel room", "bedroom"),
        ("a kitchen with a table", "kitchen"),
        ("candles in a tavern", "bar"),
        ("an office in rain", "office"),
        ("a hospital corridor at night", "hallway"),
        ("the bridge of a starship", "spaceship"),
        ("a spaceship in orbit", "space"),
        ("a ship among the stars", "space"),
    ],
)
def test_words_choose_their_set(prompt, setting):
    """Proves that a set is chosen by its words, and that all of them are then understood."""
    plan = break_down(prompt)
    assert (plan.setting, plan.ignored) == (setting, ())


@pytest.mark.parametrize("plain", DETAILS)
def test_understood_detail_changes_the_picture(plain):
    """Proves that a detail such as neon is drawn where it is listed as understood."""
    without = drawn(plain)
    for prompt in DETAILS[plain]:
        assert set(break_down(prompt).understood) - set(break_down(plain).understood)
        assert not np.array_equal(without, drawn(prompt))


@pytest.mark.parametrize(
    "prompt",
    [
        "candles",
        "birds in a street",
        "red alert",
        "neon in a meadow",
        "lighthouse in a street",
        "candle in a forest",
        "rain in space",
        "morning in a starship corridor",
        "bridge in fog",
        "walks",
        "moon by day",
    ],
)
def test_what_is_not_drawn_is_not_understood(prompt):
    """Proves that a word for which nothing is drawn is listed as ignored."""
    plan = break_down(prompt.replace("moon by day", "day moon"))
    word = prompt.split()[0].replace("red", "red-alert")
    assert word in plan.ignored
    assert word not in plan.understood


def test_page_of_places_tells_the_truth():
    """Proves that each word in the tables of docs/previz.md is understood where it says so."""
    page = (ROOT / "docs" / "previz.md").read_text()
    rows = [
        line.split("|")[2:4] for line in page.splitlines() if line.startswith("| ") and "`" in line
    ]
    assert len(rows) > 20
    for words, things in rows:
        named = re.findall("`([^`]+)`", words)
        found = re.findall("`([^`]+)`", things)
        wrong = [f"man {word}" for word in named if break_down(f"man {word}").ignored]
        wrong += [
            f"{named[0]} {thing}" for thing in found if break_down(f"{named[0]} {thing}").ignored
        ]
        assert wrong == []


@pytest.mark.parametrize("role", lexicon.ROLES)
def test_everybody_walks_and_differs_from_the_other(role):
    """Proves that a body moves from step to step, and that no two roles share an outline."""
    bodies = {
        other: [part.getBounds() for part in figures.outline(figures.BUILDS[other], 0.8, 0.2)]
        for other in lexicon.ROLES
    }
    still = [part.getBounds() for part in figures.outline(figures.BUILDS[role], -0.8, 0.2)]
    assert still != bodies[role]
    assert [other for other, body in bodies.items() if body == bodies[role]] == [role]


def test_mood_is_understood_only_where_music_plays():
    """Proves that a mood, which only the music shows, is not listed as understood for a still."""
    assert "sad" in break_down("a sad meadow").understood
    assert "sad" in break_down("a sad meadow", is_heard=False).ignored
