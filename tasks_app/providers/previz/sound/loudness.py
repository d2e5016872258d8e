"""How loud is it? Programme loudness by ITU-R BS.1770-4, gain to a target, and a limiter."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

ABSOLUTE_GATE, RELATIVE_GATE = -70.0, -10.0  # LUFS, LU (BS.1770-4 annex 1)
CEILING = 10 ** (-1.2 / 20)  # of the loudest sample


def measured(samples: Array, rate: int) -> float:
    """Return integrated loudness in LUFS of (n,) or (n, channels); -inf for silence."""
    if samples.ndim == 1:
        samples = samples[:, None]
    weighted = np.stack([_weighted(samples[:, c], rate) for c in range(samples.shape[1])])
    power = _block_power(weighted, rate)
    loud = _lufs(power)
    kept = power[loud > ABSOLUTE_GATE]
    if not kept.size:
        return float("-inf")
    gate = _lufs(kept.mean()) + RELATIVE_GATE
    return float(_lufs(kept[_lufs(kept) > gate].mean()))


def _lufs(power: Any) -> Any:
    return -0.691 + 10 * np.log10(np.maximum(power, 1e-12))


def _block_power(weighted: Array, rate: int) -> Array:
    block, hop = int(0.4 * rate), int(0.1 * rate)
    power = (weighted**2).sum(axis=0)
    total = np.concatenate(([0.0], np.cumsum(power)))
    if len(power) <= block:
        return np.array([total[-1] / max(1, len(power))])
    starts = np.arange(0, len(power) - block, hop)
    return (total[starts + block] - total[starts]) / block


def _weighted(channel: Array, rate: int) -> Array:
    """Apply the K curve by multiplying the spectrum with its two filters' responses."""
    size = len(channel) + rate // 10  # room for the filters' ringing
    z = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)
    response = _biquad(z, *_shelf(rate)) * _biquad(z, *_high_pass(rate))
    return np.fft.irfft(np.fft.rfft(channel, size) * response, size)[: len(channel)]


def _biquad(z: Array, b: tuple[float, ...], a: tuple[float, ...]) -> Array:
    top = b[0] + b[1] * z + b[2] * z * z
    low = a[0] + a[1] * z + a[2] * z * z
    return top / low


def _shelf(rate: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    # BS.1770's 48 kHz coefficients re-derived for any rate (De Man, 2014).
    k, q = np.tan(np.pi * 1681.974450955533 / rate), 0.7071752369554196
    vh = 10 ** (3.999843853973347 / 20)
    vb = vh**0.4996667741545416
    a0 = 1 + k / q + k * k
    b = ((vh + vb * k / q + k * k) / a0, 2 * (k * k - vh) / a0, (vh - vb * k / q + k * k) / a0)
    return b, (1.0, 2 * (k * k - 1) / a0, (1 - k / q + k * k) / a0)


def _high_pass(rate: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    k, q = np.tan(np.pi * 38.13547087602444 / rate), 0.5003270373238773
    a0 = 1 + k / q + k * k
    return (1.0, -2.0, 1.0), (1.0, 2 * (k * k - 1) / a0, (1 - k / q + k * k) / a0)


def levelled(samples: Array, rate: int, target: float) -> tuple[Array, float]:
    """Bring ``samples`` (n, channels) to ``target`` LUFS without clipping.

    Returns:
        The samples, and their real loudness, which is lower where the limiter was active.
    """
    result = samples
    for _ in range(2):  # the limiter lowers the loudness; a second pass makes up for most of it
        loud = measured(result, rate)
        if not np.isfinite(loud):
            break
        result = _limited(result * 10 ** ((target - loud) / 20), rate)
    return result.astype(np.float32), measured(result, rate)


def _limited(samples: Array, rate: int) -> Array:
    """Turn the level down around peaks, 5 ms ahead, so that nothing passes the ceiling."""
    peaks = np.abs(samples).max(axis=1)
    if peaks.max() <= CEILING:
        return samples
    reach = max(2, rate // 200)
    blocks = -(-len(peaks) // reach)
    padded = np.pad(peaks, (0, blocks * reach - len(peaks)))
    highest = padded.reshape(blocks, reach).max(axis=1)
    around = np.maximum.reduce([np.roll(highest, shift) for shift in (-1, 0, 1)])
    gain = np.minimum(1.0, CEILING / np.maximum(around, 1e-9))
    middle = (np.arange(blocks) + 0.5) * reach
    smooth = np.interp(np.arange(len(peaks)), middle, gain)
    return np.clip(samples * smooth[:, None], -CEILING, CEILING)
