"""Which small things does a prompt name besides its set? Birds in the sky, a fire on the ground."""

from __future__ import annotations

import math

import skia

from tasks_app.providers.previz.camera.camera import Camera
from tasks_app.providers.previz.camera.stage import Moment, Stage

BIRDS = 17
BIRD_DEPTH, FIRE_DEPTH = 60.0, 4.4


def plant(stage: Stage) -> None:
    """Add what lives in front of the set."""
    if "birds" in stage.plan.details:
        stage.add(Flock(stage))
    if "fire" in stage.plan.details:
        stage.add(Fire(stage))


def _soft(
    middle: tuple[float, float], reach: float, rgb: tuple[int, int, int], alpha: int
) -> skia.Shader:
    """Return light that fades like a bell, so that no edge shows where it ends."""
    parts = [index / 8 for index in range(9)]
    fades = [math.exp(-5 * part * part) - math.exp(-5) * part for part in parts]
    stops = [skia.Color(*rgb, int(alpha * max(0.0, fade))) for fade in fades]
    return skia.GradientShader.MakeRadial(middle, reach, stops, parts)


class Flock:
    """Birds that cross the sky, each with its own wing beat."""

    depth = BIRD_DEPTH

    def __init__(self, stage: Stage) -> None:
        self._unit, self._width = stage.unit, stage.width
        self._y = stage.camera.vanishing[1] * 0.55
        self._birds = stage.rng.random((BIRDS, 4))

    def draw(self, canvas: skia.Canvas, camera: Camera, at: Moment) -> None:
        """Draw each bird as two bent wings."""
        paint = skia.Paint(AntiAlias=True, Color=skia.Color(16, 18, 24, 225))
        paint.setStyle(skia.Paint.kStroke_Style)
        paint.setStrokeCap(skia.Paint.kRound_Cap)
        for across, up, size, beat in self._birds:
            span = self._unit * (0.9 + 1.1 * size)
            paint.setStrokeWidth(max(1.0, span * 0.16))
            x = self._width * (0.30 + 0.34 * across) + self._unit * 4.5 * at.time
            y = self._y + self._unit * 15 * (up - 0.5)
            lift = math.sin(2 * math.pi * (at.time * (2.1 + 0.6 * beat) + beat)) * 0.45 + 0.15
            canvas.drawPath(_wings(x, y, span, lift), paint)


def _wings(x: float, y: float, span: float, lift: float) -> skia.Path:
    path = skia.Path()
    path.moveTo(x - span, y - span * lift)
    path.quadTo(x - span * 0.45, y - span * (lift * 0.9 + 0.25), x, y)
    path.quadTo(x + span * 0.45, y - span * (lift * 0.9 + 0.25), x + span, y - span * lift)
    return path


class Fire:
    """A camp fire: logs, three tongues of flame and the light they throw."""

    depth = FIRE_DEPTH

    def __init__(self, stage: Stage) -> None:
        self._x, self._y = stage.width * 0.66, stage.height * 0.90
        self._unit = stage.unit

    def draw(self, canvas: skia.Canvas, camera: Camera, at: Moment) -> None:
        """Draw glow, flames and logs where the camera sees them."""
        view = camera.view(self.depth, at.fraction)
        flicker = 0.9 + 0.1 * math.sin(at.time * 17) * math.sin(at.time * 7.3 + 1)
        canvas.save()
        canvas.translate(view.x + self._x * view.scale, view.y + self._y * view.scale)
        canvas.scale(self._unit * view.scale, self._unit * view.scale)
        glow = skia.Paint(BlendMode=skia.BlendMode.kScreen)
        glow.setShader(_soft((0, -3), 34 * flicker, (255, 140, 50), 150))
        canvas.drawCircle(0, -3, 34 * flicker, glow)
        for size, colour in ((1.0, (226, 84, 18)), (0.70, (255, 152, 40)), (0.40, (255, 226, 140))):
            self._flames(canvas, at.time, size, skia.Color(*colour, 235))
        for lean in (-1, 1):
            log = skia.Paint(AntiAlias=True, Color=skia.Color(26, 17, 12))
            log.setStrokeWidth(0.9)
            log.setStrokeCap(skia.Paint.kRound_Cap)
            canvas.drawLine(-3.4 * lean, 0.7, 3.0 * lean, -0.5, log)
        canvas.restore()

    @staticmethod
    def _flames(canvas: skia.Canvas, time: float, size: float, colour: int) -> None:
        paint = skia.Paint(AntiAlias=True, Color=colour)
        for index, (x, tall) in enumerate(((-1.5, 6.0), (0.1, 9.0), (1.6, 5.2))):
            top = -tall * size * (0.85 + 0.15 * math.sin(time * (11 + index * 2.7) + index))
            sway = math.sin(time * 6 + index * 2) * 0.7 * size
            path = skia.Path()
            path.moveTo(x * size - 1.7 * size, 0)
            path.cubicTo(x - 2.2 * size, top * 0.45, x + sway * 0.4, top * 0.6, x + sway, top)
            path.cubicTo(x + 0.6 * size, top * 0.6, x + 2.3 * size, top * 0.4, x + 1.7 * size, 0)
            path.close()
            canvas.drawPath(path, paint)
