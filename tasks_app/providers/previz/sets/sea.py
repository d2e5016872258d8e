"""Water to the horizon: the open sea, a coast, a beach, a harbour, a lake between mountains."""

from __future__ import annotations

import numpy as np

from tasks_app.providers.previz.camera.stage import Stage
from tasks_app.providers.previz.drawing.canvas import Array, smoothstep
from tasks_app.providers.previz.drawing.light import Light, light_of
from tasks_app.providers.previz.props import shore, terrain, vessels, water
from tasks_app.providers.previz.sets.landscape import plant_pines, plant_sky

CLIFFS = terrain.Ground("ridged", 3.4, (0.055, 0.07, 0.03), (0.10, 0.088, 0.075), mist=0.5, eye=0.1)
ISLE = terrain.Ground("ridged", 2.3, (0.045, 0.075, 0.025), (0.09, 0.08, 0.06), mist=0.4, eye=0.1)
FAR = (24.0, 60.0)


def build(stage: Stage) -> None:
    """Build sky, far land, water that mirrors both, and what floats or stands in it."""
    light = light_of(stage.plan)
    plant_sky(stage, light, stage.camera.vanishing[1])
    _far_land(stage, light)
    water.plant(stage, light, _surface(stage))
    if "lighthouse" in stage.plan.details:
        shore.plant_lighthouse(stage, light)
    vessels.plant(stage, light)
    _foreground(stage, light)


def _surface(stage: Stage) -> water.Surface:
    if stage.plan.setting == "lake":
        return water.CALM
    is_rough = "swell" in stage.plan.details or stage.plan.weather == "storm"
    return water.ROUGH if is_rough else water.OPEN


def _far_land(stage: Stage, light: Light) -> None:
    details, horizon = stage.plan.details, stage.camera.vanishing[1]
    if stage.plan.setting == "lake":
        FarShore(terrain.GROUNDS["mountains"], light, stage.rng).plant(stage, horizon, FAR)
        shore.plant_mist(stage, light, horizon)
    elif "island" in details:
        Coast(ISLE, light, stage.rng, middle=0.07, reach=0.15).plant(stage, horizon, FAR)
    else:
        reach = 0.52 if "rocks" in details else 0.34
        Coast(CLIFFS, light, stage.rng, middle=-0.62, reach=reach).plant(stage, horizon, FAR)


def _foreground(stage: Stage, light: Light) -> None:
    details = stage.plan.details
    if stage.plan.setting == "lake":
        shore.plant_bank(stage, light)
        plant_pines(stage, light, with_far=False)
    if "pier" in details:
        shore.plant_pier(stage, light)
    # People and a fire need ground under them.
    if "beach" in details or stage.plan.roles or details & {"crowd", "fire"}:
        shore.plant_sand(stage, light)
    elif "rocks" in details or "lighthouse" in details:
        shore.plant_rocks(stage, light)


class FarShore(terrain.Terrain):
    """Land that rises from the far side of the water."""

    def _profile(self, base: Array, x: Array, z: Array) -> Array:
        # It rises with distance: land that begins at full height would be a wall of stripes.
        climb: Array = super()._profile(base, x, z) * smoothstep(24, 33, z)
        return climb


class Coast(terrain.Terrain):
    """Land that rises from the water on one part of the horizon."""

    def __init__(
        self,
        ground: terrain.Ground,
        light: Light,
        rng: np.random.Generator,
        *,
        middle: float,
        reach: float,
    ) -> None:
        super().__init__(ground, light, rng)
        self._middle, self._reach = middle, reach

    def _profile(self, base: Array, x: Array, z: Array) -> Array:
        away = np.abs(x / z - self._middle + 0.02 * np.sin(z * 0.4)) / self._reach
        rise = 1 - smoothstep(0.35, 1.0, away + 0.12 * (base - 0.5))
        climb = smoothstep(25, 42, z) * (0.30 + 0.70 * base)
        height: Array = climb * self.ground.height * rise * 1.35 - 0.12
        return height
