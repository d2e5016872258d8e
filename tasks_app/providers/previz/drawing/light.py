"""What light falls on an outdoor set? Colours by time of day and weather, linear light."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

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


#: The fields of `Light` in their order; colours as red/green/blue.
_TABLE = """
dawn    .10/.17/.34    1.10/.52/.26 3.4/1.55/.62 .16/.20/.34   .36/.29/.34    .34  .10 .045 .55
morning .16/.32/.62    .85/.78/.62  2.9/2.1/1.25 .26/.33/.44   .38/.42/.46    -.45 .38 .030 .45
day     .10/.27/.62    .48/.66/.85  2.7/2.4/1.95 .28/.37/.50   .30/.40/.52    -.7  .72 .022 .5
dusk    .07/.09/.24    1.25/.42/.16 3.2/1.15/.38 .13/.14/.26   .33/.18/.20    -.30 .07 .042 .6
night   .006/.012/.035 .035/.06/.12 .42/.52/.72  .022/.032/.06 .040/.060/.105 .38  .42 .045 .4
"""


def _light(name: str, *fields: str) -> Light:
    values: list[Any] = [np.array(field.split("/"), np.float32) for field in fields[:5]]
    values += [*map(float, fields[5:]), name == "night"]
    return Light(*values)


TIMES = {row.split()[0]: _light(*row.split()) for row in _TABLE.strip().splitlines()}


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
        brown = light.haze * np.array((1.2, 0.9, 0.6), np.float32)
        return replace(light, density=light.density * 2, haze=brown)
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
