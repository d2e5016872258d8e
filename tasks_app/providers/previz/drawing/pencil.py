"""How is a set redrawn as a storyboard panel? Graphite on paper, plate by plate."""

from __future__ import annotations

import numpy as np

from tasks_app.providers.previz.camera.stage import Stage
from tasks_app.providers.previz.drawing.canvas import Array, blurred, image, noise, smoothstep

STYLES = frozenset({"storyboard", "pencil"})
PAPER = 0.93
MIDDLE = 0.42


def redraw(stage: Stage) -> None:
    """Replace every plate of ``stage`` by its pencil drawing; the parallax stays."""
    lift = _lift(stage.at_rest())
    for plate in stage.plates():
        drawn = _drawn(plate.picture.toarray(), stage, lift)
        plate.picture = image(drawn, opaque=plate.is_opaque)


def _lift(pixels: Array) -> float:
    """Return the power that brings a picture to middle grey: nobody hatches a whole night."""
    mean = float(np.clip(pixels[..., :3].mean() / 255, 0.02, 0.9))
    return float(np.clip(np.log(MIDDLE) / np.log(mean), 0.3, 1.0))


def _drawn(pixels: Array, stage: Stage, lift: float) -> Array:
    """Redraw an unpremultiplied RGBA or BGRA array; returns premultiplied BGRA."""
    alpha = pixels[..., 3].astype(np.float32) / 255
    tone = (pixels[..., :3].astype(np.float32).mean(axis=2) / 255) ** np.float32(lift)
    height, width = tone.shape
    graphite = noise(stage.rng, width, height, 3.0, 2)
    value = PAPER - _hatching(tone, graphite) - _outline(tone, alpha) * (0.5 + 0.5 * graphite)
    out = np.empty((height, width, 4), np.uint8)
    out[..., 3] = pixels[..., 3]
    out[..., :3] = (np.clip(value, 0.08, PAPER) * alpha * 255)[..., None]
    return out


def _hatching(tone: Array, graphite: Array) -> Array:
    rows, columns = np.indices(tone.shape, dtype=np.float32)
    wobble = graphite * 2.2
    strokes = 0.5 + 0.5 * np.sin((columns * 0.8 + rows * 0.62) * 0.55 + wobble)
    across = 0.5 + 0.5 * np.sin((columns * 0.7 - rows * 0.8) * 0.5 + wobble)
    dark = 1 - smoothstep(0.05, 0.78, tone)
    light = smoothstep(0.25, 0.9, dark) * strokes * 0.30
    deep = smoothstep(0.62, 1.0, dark) * across * 0.26
    return (dark * 0.30 + light + deep) * (0.72 + 0.56 * graphite)


def _outline(tone: Array, alpha: Array) -> Array:
    if min(tone.shape) < 2:
        return np.zeros_like(tone)  # a plate trimmed to one line has no slope across it
    flat = tone * alpha + PAPER * (1 - alpha)
    soft = blurred(flat, 2.0) if min(flat.shape) > 8 else flat
    dy, dx = np.gradient(soft)
    ady, adx = np.gradient(alpha)
    edge = np.hypot(dx, dy) * 5.5 + np.hypot(adx, ady) * 0.8
    return smoothstep(0.12, 0.7, edge) * 0.75
