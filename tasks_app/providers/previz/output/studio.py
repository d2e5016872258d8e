"""What is made for a job? Directs one render inside the child, from plan to files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from tasks_app.providers.previz.drawing.canvas import Array
from tasks_app.providers.previz.output import stills
from tasks_app.providers.previz.script.breakdown import Breakdown, break_down
from tasks_app.providers.previz.sound import soundtrack

Report = Callable[[float, str, str], None]
MARK = "PREVIZ: drawn and synthesised from the prompt's words by a program; a temporary version"


def make(request: dict[str, Any], work_dir: Path, report: Report) -> dict[str, Any]:
    """Render the request's files into ``work_dir``.

    Returns:
        ``{"files": [{"role", "name", "expected"}], "metadata": {...}}``.
    """
    task_type, data = request["task_type"], request["task_data"]
    if task_type == "audio_generation":
        return soundtrack.make(data, work_dir, report, tags)
    return (_video if task_type == "video_generation" else _images)(data, work_dir, report)


def tags(title: str) -> dict[str, str]:
    """Return the marks written into every file that can hold them."""
    return {"title": title[:200], "comment": MARK}


def _video(data: dict[str, Any], work_dir: Path, report: Report) -> dict[str, Any]:
    from tasks_app.providers.previz.camera.shot import moments

    scene, params = data["scene_data"], data["video_params"]
    plan = break_down(
        scene["prompt"],
        camera=params["camera"],
        style=params["style"],
        is_heard=data["audio_params"]["music"],
    )
    report(0.01, "breaking down", plan.setting)
    instants = moments(params["duration_s"], params["fps"])
    seconds = len(instants) / params["fps"]
    # In parallel with the set, which takes as long to build as three soundtracks.
    with ThreadPoolExecutor(1) as beside:
        sound = beside.submit(soundtrack.for_film, plan, data, seconds)
        _shoot(data, plan, sound, instants, work_dir=work_dir, report=report)
    _, notes = sound.result()
    width, height = stills.size_of(params["resolution"])
    expected = {"duration": seconds, "tolerance": 1 / params["fps"], "codecs": ["h264", "aac"]}
    film = {"media_type": "video/mp4", "width": width, "height": height, **expected}
    files = [
        {"role": "primary", "name": "primary.mp4", "expected": film},
        _picture("thumbnail", "thumbnail.jpg", "image/jpeg", stills.within(width, height, 640)),
        _picture("poster", "poster.jpg", "image/jpeg", (width, height)),
    ]
    if params["last_frame"]:
        stills.save_last_frame(work_dir / "primary.mp4", work_dir / "last_frame.png")
        files.append(_picture("last_frame", "last_frame.png", "image/png", (width, height)))
    names = {"scene": scene["scene"], "shot": scene["shot"]}
    metadata = {**plan.as_metadata(), **names, "sound": notes, "mark": MARK}
    return {"files": files, "metadata": metadata}


def _picture(role: str, name: str, media_type: str, size: tuple[int, int]) -> dict[str, Any]:
    expected = {"media_type": media_type, "width": size[0], "height": size[1]}
    return {"role": role, "name": name, "expected": expected}


def _shoot(
    data: dict[str, Any],
    plan: Breakdown,
    sound: Future[Any],
    instants: list[Any],
    *,
    work_dir: Path,
    report: Report,
) -> None:
    from tasks_app.providers.previz.camera import shot
    from tasks_app.providers.previz.drawing import grade
    from tasks_app.providers.previz.drawing.overlay import Slate
    from tasks_app.providers.previz.output import film

    params, scene, quality = data["video_params"], data["scene_data"], data["options"]["quality"]
    width, height = stills.size_of(params["resolution"])
    rows = shot.picture_rows(width, height, with_bars=params["overlay"])
    # A draft is drawn at half the size and enlarged, since drawing takes most of the time.
    part = 2 if quality == "draft" else 1
    drawn = slice(rows.start // part, rows.stop // part)
    slate = None
    if params["overlay"]:
        slate = Slate(scene, params["fps"], width // part, height // part, drawn.start)
    staged = shot.Shot(plan, data["seed"], width // part, height // part, slate, drawn)
    report(0.2, "set built", plan.setting)
    look = grade.Grade(plan.style, width, rows, np.random.default_rng(data["seed"]))
    poster = len(instants) // 2

    def frames() -> Iterator[Array]:
        for at in instants:
            pixels = staged.draw(at, _caption(scene["dialogue"], at.time))
            if at.frame == poster:
                stills.save_posters(pixels, plan.style, work_dir, (width, height))
            report(0.2 + 0.78 * at.frame / len(instants), "rendering", f"frame {at.frame + 1}")
            yield pixels

    film.write_film(
        work_dir / "primary.mp4",
        frames(),
        look.apply,
        sound.result()[0],
        size=(width, height),
        fps=params["fps"],
        quality=quality,
        tags=tags(scene["prompt"]),
    )


def _caption(dialogue: list[dict[str, Any]], time: float) -> str:
    for line in reversed(dialogue):
        start = float(line.get("start_s") or 0)
        if start <= time < start + 1.2 + len(line["text"]) / 15:
            name = line.get("character") or ""
            return f"{name}: {line['text']}" if name else str(line["text"])
    return ""


def _images(data: dict[str, Any], work_dir: Path, report: Report) -> dict[str, Any]:
    from tasks_app.providers.previz.output import gallery

    pictures, plan = gallery.make(data, work_dir, report)
    files = [_picture(Path(name).stem, name, kind, size) for name, kind, size in pictures]
    return {"files": files, "metadata": {**plan.as_metadata(), "mark": MARK}}
