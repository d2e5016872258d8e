"""Which builder makes which set? One function per kind of place."""

from __future__ import annotations

from collections.abc import Callable

from tasks_app.providers.previz.camera.stage import Stage
from tasks_app.providers.previz.props import walkers, weather
from tasks_app.providers.previz.script import lexicon
from tasks_app.providers.previz.sets import corridor, forest, landscape, room, sea, space, street
from tasks_app.providers.previz.sound import accents

#: The sets that are not open land.
BUILDERS: dict[str, Callable[[Stage], None]] = {
    "forest": forest.build,
    "sea": sea.build,
    "lake": sea.build,
    "hallway": corridor.build,
    "spaceship": corridor.build,
    "space": space.build,
    "alley": street.build,
    "street": street.build,
    **dict.fromkeys(lexicon.ROOMS, room.build),
}
#: Height of the horizon (vanishing point), 0 top to 1 bottom; reach of camera moves.
REACH = {"forest": 0.7, "alley": 0.85, "street": 0.85, **dict.fromkeys(lexicon.ROOMS, 0.45)}
HORIZONS = {
    "mountains": 0.58,
    "snowfield": 0.55,
    "forest": 0.54,
    **dict.fromkeys(lexicon.ROOMS, 0.45),
    "sea": 0.56,
    "lake": 0.6,
}


def build(stage: Stage) -> None:
    """Build the set that the stage's plan names."""
    BUILDERS.get(stage.plan.setting, landscape.build)(stage)
    accents.plant(stage)
    walkers.plant(stage)
    weather.plant(stage)
