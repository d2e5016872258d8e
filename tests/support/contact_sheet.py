"""What does previz draw? `python -m tests.support.contact_sheet` makes docs/previz.md's picture."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from tasks_app.providers.previz.camera.shot import Shot
from tasks_app.providers.previz.camera.stage import Moment
from tasks_app.providers.previz.drawing import overlay
from tasks_app.providers.previz.output import stills
from tasks_app.providers.previz.script.breakdown import break_down
from tasks_app.providers.previz.script.defaults import seed_of
from tests import ROOT

TARGET = ROOT / "docs" / "images" / "previz.jpg"
MOST_BYTES = 250_000
WIDTH, HEIGHT, CAPTION, COLUMNS = 480, 202, 18, 3
SCALE = 2  # drawn larger: thin lines then look as they do on film
PROMPTS = (
    "Sunrise over misty mountains",
    "a ship at sea, sunset",
    "a lighthouse on a coast at night",
    "a lake at dawn, a boat",
    "a woman walks through a forest at dawn",
    "a path through an autumn forest",
    "a living room in the morning",
    "a detective in a tavern at night",
    "a hospital corridor at night",
    "a spaceship above a planet",
    "red alert, corridor of a starship, an astronaut",
    "an alley at night, rain, neon, a detective walks, storyboard",
)


def main() -> None:
    """Draw all frames on one sheet."""
    rows = -(-len(PROMPTS) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * WIDTH, rows * (HEIGHT + CAPTION)), (16, 17, 20))
    pen = ImageDraw.Draw(sheet)
    for index, prompt in enumerate(PROMPTS):
        x, y = index % COLUMNS * WIDTH, index // COLUMNS * (HEIGHT + CAPTION)
        sheet.paste(_frame(prompt), (x, y))
        pen.text((x + 6, y + HEIGHT + 3), prompt, fill=(170, 174, 182))
    sheet.save(TARGET, "JPEG", quality=80, progressive=True, optimize=True)
    size = TARGET.stat().st_size
    assert size <= MOST_BYTES, f"{TARGET} has {size} bytes"
    print(f"{TARGET}: {size // 1024} kB")


def _frame(prompt: str) -> Image.Image:
    plan = break_down(prompt, is_heard=False)
    tall = HEIGHT * SCALE
    shot = Shot(plan, seed_of(prompt), WIDTH * SCALE, tall, None, slice(0, tall))
    pixels = np.ascontiguousarray(shot.draw(Moment(2.4, 0.35, 58)))
    overlay.mark(pixels)
    return stills.as_picture(pixels, plan.style).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main()
