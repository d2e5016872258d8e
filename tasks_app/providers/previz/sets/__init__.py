"""Which builder makes which set? One function per kind of place."""

from __future__ import annotations

from collections.abc import Callable

from tasks_app.providers.previz.sets import landscape
from tasks_app.providers.previz.stage import Stage

BUILDERS: dict[str, Callable[[Stage], None]] = {
    "mountains": landscape.build,
    "meadow": landscape.build,
    "desert": landscape.build,
    "snowfield": landscape.build,
}
#: Height of the horizon (vanishing point), 0 top to 1 bottom; reach of camera moves.
REACH: dict[str, float] = {}
HORIZONS = {"mountains": 0.58, "meadow": 0.5, "desert": 0.5, "snowfield": 0.55, "sea": 0.56}


def build(stage: Stage) -> None:
    """Build the set that the stage's plan names."""
    BUILDERS.get(stage.plan.setting, landscape.build)(stage)
