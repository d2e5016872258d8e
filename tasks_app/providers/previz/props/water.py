"""How does water look? It mirrors what stands behind it in moving waves, down to the camera.

The slopes of a repeating sea are computed for a few instants of a loop. Each pixel looks up its
slope, and then, along the mirrored ray, the picture of everything added before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tasks_app.providers.previz.camera.stage import Cycle, Stage, trimmed
from tasks_app.providers.previz.drawing.canvas import Array, premultiplied, smoothstep
from tasks_app.providers.previz.drawing.light import Light
from tasks_app.providers.previz.drawing.pencil import STYLES
from tasks_app.providers.previz.props.sky import height_of

SIZE = 512  # samples of the wave field, which repeats
PERIOD, INSTANTS = 4.2, 6  # seconds of the loop, and how many pictures it has
BANDS = (2.6, 7.0, 16.0, 48.0, 1500.0)
LENS, EYE = 0.95, 1.05
UNDERLAP = 0.8


@dataclass(frozen=True, slots=True)
class Surface:
    """Properties of the water: mean slope, side of the field in depth units, foam, deep colour."""

    slope: float
    side: float
    foam: float
    deep: tuple[float, float, float]


CALM = Surface(0.011, 7.0, 0.0, (0.010, 0.030, 0.034))
OPEN = Surface(0.075, 15.0, 0.10, (0.008, 0.038, 0.050))
ROUGH = Surface(0.17, 34.0, 1.0, (0.012, 0.036, 0.042))


def plant(stage: Stage, light: Light, surface: Surface) -> None:
    """Add the water between the horizon and the camera, far to near."""
    behind = (stage.at_rest()[..., 2::-1].astype(np.float32) / 255) ** np.float32(2.2)
    instants = 1 if stage.plan.style in STYLES else INSTANTS
    waves = list(_waves(stage.rng, surface, instants))
    for near, far in reversed(list(pairwise(BANDS))):
        depth = min(60.0, (near * far) ** 0.5)
        view = _View.of(stage, depth, near * UNDERLAP, far)
        pictures = (view.painted(wave, behind, light, surface) for wave in waves)
        plates = [trimmed(p, depth, left=view.left, top=view.top) for p in pictures]
        stage.add(Cycle([plate for plate in plates if plate], PERIOD, depth))


def _waves(rng: np.random.Generator, surface: Surface, instants: int) -> Iterator[Array]:
    """Yield slope across, slope away and height (SIZE, SIZE, 3) at equal steps of the loop."""
    k = np.fft.fftfreq(SIZE)[:, None] * SIZE
    kx = np.fft.rfftfreq(SIZE)[None, :] * SIZE
    size = np.maximum(np.hypot(k, kx), 1e-6)
    # Waves run with the wind, mostly towards the camera.
    along = 0.25 + 0.75 * np.abs(k * 0.94 + kx * 0.34) / size
    amount = np.where(size < 2.5, 0, size**-2.15) * along * np.exp(-((size / 150) ** 2))
    start = rng.random(size.shape) * 2 * np.pi
    turns = np.rint(1.15 * np.sqrt(size)) * np.sign(k + 1e-3)
    for step in range(instants):
        wave = amount * np.exp(1j * (start + turns * 2 * np.pi * step / instants))
        parts = [np.fft.irfft2(part, s=(SIZE, SIZE)) for part in (1j * kx * wave, 1j * k * wave)]
        scale = surface.slope / max(float(parts[1].std()), 1e-9)
        height = np.fft.irfft2(wave, s=(SIZE, SIZE))
        field = [parts[0] * scale, parts[1] * scale, height / height.std()]
        yield np.stack(field, axis=2).astype(np.float32)


@dataclass(frozen=True, slots=True)
class _View:
    """The painted rows of one band, and the place on the water that each pixel shows."""

    left: int
    top: int
    width: int
    below: Array
    across: Array
    z: Array
    cover: Array
    stage: Stage

    @classmethod
    def of(cls, stage: Stage, depth: float, near: float, far: float) -> _View:
        focal = LENS * max(stage.width, stage.height * 1.2)
        left, _, width, _ = stage.frame_of(depth)
        horizon = stage.camera.vanishing[1]
        bottom = stage.height + stage.camera.margins(depth)[1]
        top = int(horizon + focal * EYE / far)
        end = min(bottom, int(horizon + focal * EYE / near) + 1)
        if near <= BANDS[0]:
            end = bottom
        rows = np.arange(top, max(end, top + 2), dtype=np.float32)[:, None]
        below = np.maximum(rows - horizon + 0.5, 0.4) / focal
        across = (np.arange(width, dtype=np.float32)[None, :] + left - stage.width / 2) / focal
        z = EYE / below
        # The far edge fades, so that gaps between bands do not show when the camera moves.
        is_last = far >= BANDS[-1]
        cover = np.ones_like(z) if is_last else 1 - smoothstep(far * 0.72, far, z)
        return cls(left, top, width, below, across, z, cover, stage)

    def painted(self, wave: Array, behind: Array, light: Light, surface: Surface) -> Array:
        """Return one instant of the band as a premultiplied picture."""
        slope_x, slope_z, height = self._sampled(wave, surface.side)
        steep = self.below + slope_z
        up = np.abs(self.below + 2 * slope_z + 2 * slope_x * self.across)
        sideways = self.across - 2 * steep * slope_x
        mirrored = self._mirrored(behind, sideways, up) + self._glint(light, sideways, up)
        bright = 0.03 + 0.97 * (1 - np.clip(steep, 0, 1)) ** 5
        body = np.array(surface.deep, np.float32) * (light.ambient * 4 + light.key * 0.35)
        body = body * (1 + 0.30 * np.clip(height, -1.5, 2.5))[..., None]
        colour = mirrored * bright[..., None] + body * (1 - bright)[..., None]
        colour = self._foamed(colour, height, slope_z, light, surface)
        far = (1 - np.exp(-((self.z / 160) ** 1.5)))[..., None] * 0.75
        colour = colour * (1 - far) + self._horizon(behind) * far
        cover = np.broadcast_to(self.cover, height.shape)
        return premultiplied(np.clip(colour, 0, 1) ** np.float32(1 / 2.2), cover)

    def _sampled(self, wave: Array, side: float) -> tuple[Array, Array, Array]:
        x, z = self.across * self.z, np.broadcast_to(self.z, (len(self.z), self.width))
        u, v = (x * (SIZE / side)).astype(np.int32), (z * (SIZE / side)).astype(np.int32)
        broad = wave[v % SIZE, u % SIZE]
        # A second, finer layer, turned, so that the repeat of the field does not show.
        fine = wave[(v * 3 - u) % SIZE, (u * 3 + v) % SIZE]
        mixed = broad * 0.8 + fine * 0.5
        return mixed[..., 0], mixed[..., 1], mixed[..., 2]

    def _mirrored(self, behind: Array, sideways: Array, up: Array) -> Array:
        focal = LENS * max(self.stage.width, self.stage.height * 1.2)
        rows = self.stage.camera.vanishing[1] - 1 - up * focal
        columns = sideways * focal + self.stage.width / 2
        height, width = behind.shape[:2]
        at = np.clip(rows, 0, height - 1).astype(np.int32)
        return behind[at, np.clip(columns, 0, width - 1).astype(np.int32)]

    def _horizon(self, behind: Array) -> Array:
        row = max(0, int(self.stage.camera.vanishing[1]) - 3)
        columns = np.clip(np.arange(self.width) + self.left, 0, behind.shape[1] - 1)
        return behind[row, columns][None, :, :]

    def _glint(self, light: Light, sideways: Array, up: Array) -> Array:
        focal = LENS * max(self.stage.width, self.stage.height * 1.2)
        sun = light.azimuth * 0.5 * self.stage.width / focal
        high = height_of(light) * self.stage.camera.vanishing[1] / focal
        miss = ((sideways - sun) / 0.035) ** 2 + ((up - high) / 0.030) ** 2
        clear = 1 - 0.93 * smoothstep(0.6, 1.0, light.clouds)
        return light.key * (np.exp(-miss) * 0.9 * clear)[..., None]

    def _foamed(
        self, colour: Array, height: Array, slope: Array, light: Light, surface: Surface
    ) -> Array:
        if not surface.foam:
            return colour
        crest = smoothstep(1.7 - surface.foam, 2.9 - surface.foam, height)
        torn = smoothstep(-0.4, 1.2, slope / surface.slope) * smoothstep(2, 5, self.z)
        foam = (crest * torn * 0.8)[..., None]
        return colour * (1 - foam) + (light.ambient * 1.1 + light.key * 0.12) * foam
