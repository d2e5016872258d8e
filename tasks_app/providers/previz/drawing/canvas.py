"""How are pixels made and stored? Arrays, noise, the film curve and skia images.

Pictures under construction are float arrays of shape (height, width, 3) in linear
light or (height, width) masks in 0..1; finished ones are premultiplied BGRA skia
images, because a premultiplied raster image draws ten times faster than any other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import skia
from PIL import Image

Array = np.ndarray[Any, Any]
Color = tuple[float, float, float]

NEAREST = skia.SamplingOptions()
LINEAR = skia.SamplingOptions(skia.FilterMode.kLinear)


def surface(width: int, height: int) -> tuple[Array, skia.Surface]:
    """Return a transparent buffer (height, width, 4) BGRA and a surface that draws into it."""
    buffer = np.zeros((height, width, 4), np.uint8)
    return buffer, surface_on(buffer)


def surface_on(buffer: Array) -> skia.Surface:
    """Return a surface over ``buffer``; the caller keeps the array alive."""
    height, width = buffer.shape[:2]
    kinds = skia.ColorType.kBGRA_8888_ColorType, skia.AlphaType.kPremul_AlphaType
    info = skia.ImageInfo.Make(width, height, *kinds)
    made = skia.Surface.MakeRasterDirect(info, buffer, buffer.strides[0])
    assert made is not None
    return made


def image(buffer: Array, *, opaque: bool = False) -> skia.Image:
    """Return a raster image of a premultiplied BGRA ``buffer`` (copied)."""
    alpha = skia.AlphaType.kOpaque_AlphaType if opaque else skia.AlphaType.kPremul_AlphaType
    kind = skia.ColorType.kBGRA_8888_ColorType
    return skia.Image.fromarray(np.ascontiguousarray(buffer), kind, alpha, copy=True)


def polygon(*corners: tuple[float, float]) -> skia.Path:
    """Return a closed path along ``corners``."""
    return skia.Path.Polygon([skia.Point(*corner) for corner in corners], True)


def premultiplied(rgb: Array, alpha: Array | None = None) -> Array:
    """Pack display colours (0..1) and alpha (0..1) into a BGRA buffer."""
    out = np.empty((*rgb.shape[:2], 4), np.uint8)
    cover = np.ones(rgb.shape[:2], np.float32) if alpha is None else np.clip(alpha, 0, 1)
    out[..., 3] = cover * 255 + 0.5
    scaled = np.clip(rgb, 0, 1) * cover[..., None] * 255 + _dither(rgb.shape[:2])[..., None]
    out[..., :3] = np.minimum(scaled, out[..., 3:])[..., ::-1]
    return out


def _dither(shape: tuple[int, int]) -> Array:
    """Return fixed noise below one brightness step, which prevents banding in skies."""
    rng = np.random.default_rng(7)
    tile = rng.random((128, 128), dtype=np.float32)
    repeat = (shape[0] // 128 + 1, shape[1] // 128 + 1)
    return np.tile(tile, repeat)[: shape[0], : shape[1]]


def film(linear: Array) -> Array:
    """Map linear light to display values with a film-like shoulder (Narkowicz's ACES fit)."""
    x = np.maximum(linear, 0) * 0.8
    curve = (x * (2.51 * x + 0.03)) / (x * (2.43 * x + 0.59) + 0.14)
    return np.clip(curve, 0, 1) ** np.float32(1 / 2.2)


def linear(display: Color) -> Array:
    """Turn a display colour (0..1) into linear light."""
    return np.array(display, np.float32) ** np.float32(2.2)


def skia_color(rgb: Color | Array, alpha: float = 1.0) -> int:
    """Return a skia colour of display values 0..1."""
    red, green, blue = (int(min(1.0, max(0.0, float(part))) * 255 + 0.5) for part in rgb)
    return int(skia.Color(red, green, blue, int(alpha * 255 + 0.5)))


def resized(values: Array, width: int, height: int) -> Array:
    """Resample a float mask (height, width) with a bicubic filter."""
    picture = Image.fromarray(np.ascontiguousarray(values, np.float32), "F")
    size = (width, height)
    return np.asarray(picture.resize(size, Image.Resampling.BICUBIC), np.float32)


def noise(
    rng: np.random.Generator, width: int, height: int, cell: float, octaves: int = 4
) -> Array:
    """Return fractal noise (height, width), mean 0.5; ``cell`` is the largest lump in pixels."""
    total = np.zeros((height, width), np.float32)
    weight, norm = 1.0, 0.0
    for _ in range(octaves):
        columns, rows = int(width / cell) + 3, int(height / cell) + 3
        grid = rng.random((rows, columns), dtype=np.float32)
        total += weight * resized(grid, width, height)
        norm += weight
        weight, cell = weight * 0.5, max(cell * 0.5, 1.0)
    return np.clip((total / norm - 0.5) * 1.9 + 0.5, 0, 1)


def spectral(rng: np.random.Generator, size: int, power: float, lowest: float = 1.0) -> Array:
    """Return tileable noise (size, size), mean 0 and deviation 1, of a power-law spectrum."""
    fy, fx = np.fft.fftfreq(size)[:, None] * size, np.fft.rfftfreq(size)[None, :] * size
    radius = np.maximum(np.hypot(fx, fy), lowest)
    phase = rng.random(radius.shape) * 2 * np.pi
    spread = rng.normal(1.0, 0.25, radius.shape)
    field = np.fft.irfft2(radius**-power * spread * np.exp(1j * phase), s=(size, size))
    return ((field - field.mean()) / field.std()).astype(np.float32)


def sampled(field: Array, u: Array, v: Array) -> Array:
    """Sample a repeating field (size, size) between its points, by their columns and rows."""
    iu, iv = np.floor(u).astype(np.int32), np.floor(v).astype(np.int32)
    fu, fv = u - iu, v - iv
    size = len(field)
    iu, iv = iu % size, iv % size
    ju, jv = (iu + 1) % size, (iv + 1) % size
    top = field[iv, iu] * (1 - fu) + field[iv, ju] * fu
    low = field[jv, iu] * (1 - fu) + field[jv, ju] * fu
    return top * (1 - fv) + low * fv


def blurred(values: Array, radius: float) -> Array:
    """Blur a float mask roughly, by resampling it down and up again."""
    height, width = values.shape
    small = (max(2, int(width / radius)), max(2, int(height / radius)))
    picture = Image.fromarray(np.ascontiguousarray(values, np.float32), "F")
    down = picture.resize(small, Image.Resampling.BOX)
    return np.asarray(down.resize((width, height), Image.Resampling.BICUBIC), np.float32)


def smoothstep(low: Any, high: Any, values: Any) -> Any:
    """Hermite step from 0 at ``low`` to 1 at ``high``."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def alpha_box(buffer: Array) -> tuple[int, int, int, int] | None:
    """Return left, top, right, bottom of what is not transparent, or None."""
    cover = buffer[..., 3]
    rows, columns = np.flatnonzero(cover.any(axis=1)), np.flatnonzero(cover.any(axis=0))
    if not rows.size:
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
