"""What light falls on an outdoor set? Colours by time of day and weather, linear light."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from tasks_app.providers.previz.drawing.canvas import Array
from tasks_app.providers.previz.script.breakdown import Breakdown


@dataclass(frozen=True, slots=True)
class Light:
    """``zenith``, ``low``: sky; ``key``: sun or moon; ``haze``: the air between.

    ``azimuth``: of the key light on the picture, -1 left edge to 1 right edge;
    ``elevation``: radians; ``density``: haze per unit of depth; ``clouds``: 0..1.
    """

    zenith: Array
    low: Array
    key: Array
    ambient: Array
    haze: Array
    azimuth: float
    elevation: float
    density: float
    clouds: float
    is_night: bool = False

    @property
    def direction(self) -> tuple[float, float, float]:
        """Return the unit vector towards the key light: x right, y up, z away."""
        x, y, z = self.azimuth * 0.8, math.tan(self.elevation), 1.0
        length = math.sqrt(x * x + y * y + z * z)
        return x / length, y / length, z / length


def _c(red: float, green: float, blue: float) -> Array:
    return np.array((red, green, blue), np.float32)


TIMES = {
    "dawn": Light(
        _c(0.10, 0.17, 0.34),
        _c(1.10, 0.52, 0.26),
        _c(3.4, 1.55, 0.62),
        _c(0.16, 0.20, 0.34),
        _c(0.36, 0.29, 0.34),
        0.34,
        0.10,
        0.045,
        0.55,
    ),
    "morning": Light(
        _c(0.16, 0.32, 0.62),
        _c(0.85, 0.78, 0.62),
        _c(2.9, 2.1, 1.25),
        _c(0.26, 0.33, 0.44),
        _c(0.38, 0.42, 0.46),
        -0.45,
        0.38,
        0.030,
        0.45,
    ),
    "day": Light(
        _c(0.10, 0.27, 0.62),
        _c(0.48, 0.66, 0.85),
        _c(2.7, 2.4, 1.95),
        _c(0.28, 0.37, 0.50),
        _c(0.30, 0.40, 0.52),
        -0.7,
        0.72,
        0.022,
        0.5,
    ),
    "dusk": Light(
        _c(0.07, 0.09, 0.24),
        _c(1.25, 0.42, 0.16),
        _c(3.2, 1.15, 0.38),
        _c(0.13, 0.14, 0.26),
        _c(0.33, 0.18, 0.20),
        -0.30,
        0.07,
        0.042,
        0.6,
    ),
    "night": Light(
        _c(0.006, 0.012, 0.035),
        _c(0.035, 0.06, 0.12),
        _c(0.42, 0.52, 0.72),
        _c(0.022, 0.032, 0.06),
        _c(0.040, 0.060, 0.105),
        0.38,
        0.42,
        0.045,
        0.4,
        is_night=True,
    ),
}


def light_of(plan: Breakdown) -> Light:
    """Return the light of a plan: its time of day as its weather lets it through."""
    light = TIMES[plan.time]
    if plan.weather in ("rain", "storm"):
        return _overcast(light, 0.75 if plan.weather == "rain" else 0.5)
    if plan.weather == "snow":
        return replace(_overcast(light, 0.9), haze=light.haze * 0.5 + light.ambient)
    if plan.weather == "mist":
        return replace(light, density=light.density * 1.7, clouds=light.clouds * 0.7)
    if plan.weather == "dust":
        return replace(light, density=light.density * 2, haze=light.haze * _c(1.2, 0.9, 0.6))
    return light


def _overcast(light: Light, exposure: float) -> Light:
    grey = (light.ambient + light.haze) * 0.5 * exposure
    return replace(
        light,
        zenith=light.zenith * 0.3 + grey * 0.5,
        low=light.low * 0.25 + grey,
        key=light.key * 0.22 * exposure,
        ambient=light.ambient * exposure * 1.1,
        haze=grey,
        density=light.density * 1.6,
        clouds=1.0,
    )
