"""What does an image task show? Concept art, character sheets and storyboard panels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from tasks_app.providers.previz.camera import shot
from tasks_app.providers.previz.camera.stage import Moment
from tasks_app.providers.previz.drawing import overlay
from tasks_app.providers.previz.output import stills
from tasks_app.providers.previz.script.breakdown import Breakdown, break_down

Made = tuple[str, str, tuple[int, int]]  # name, media type, size
#: Moves whose frames make a sequence of panels differ.
PANEL_MOVES = ("pull_out", "push_in", "pan_left", "pan_right", "crane_up", "static")


def make(
    data: dict[str, Any], work_dir: Path, report: Callable[[float, str, str], None]
) -> tuple[list[Made], Breakdown]:
    """Draw an image task's pictures; returns them in order, and the plan."""
    image, params = data["image_data"], data["image_params"]
    plan = _plan(image, params)
    count = int(params.get("panels") or params["count"])
    made = []
    for index in range(count):
        report(index / count, "drawing", f"picture {index + 1}")
        picture = _drawn(data, plan, index)
        made.append(_saved(picture, data, work_dir, index))
    return made, plan


def _plan(image: dict[str, Any], params: dict[str, Any]) -> Breakdown:
    character = image.get("character") or {}
    words = " ".join(filter(None, (image["prompt"], character.get("description"))))
    style = "color" if params["style"] == "painted" else params["style"]
    plan = break_down(words, style=style, is_heard=False)
    if params["style"] == "auto" and image["purpose"] == "storyboard_frame":
        plan = replace(plan, style="pencil")
    if image["purpose"] == "character_design" and not plan.roles:
        plan = replace(plan, roles=("man",))
    return plan


def _drawn(data: dict[str, Any], plan: Breakdown, index: int) -> Image.Image:
    width, height = stills.size_of(data["image_params"]["resolution"])
    plan = replace(plan, camera=PANEL_MOVES[index % len(PANEL_MOVES)] if index else plan.camera)
    seed = (data["seed"] + index * 7919) % 2**32
    staged = shot.Shot(plan, seed, width, height, None, slice(0, height))
    pixels = staged.draw(Moment(1.0 + index, 0.4, index))
    overlay.mark(pixels)
    return stills.as_picture(pixels, plan.style)


def _saved(picture: Image.Image, data: dict[str, Any], work_dir: Path, index: int) -> Made:
    params = data["image_params"]
    kind = params["format"]
    name = f"primary{'' if index == 0 else f'_{index + 1}'}.{'jpg' if kind == 'jpeg' else kind}"
    image = data["image_data"]
    name_shown = (image.get("character") or {}).get("name")
    title = f"{name_shown}: {image['prompt']}" if name_shown else str(image["prompt"])
    stills.save(picture, work_dir / name, kind, int(params["quality"]), title)
    return name, stills.MEDIA_TYPES[kind], picture.size
