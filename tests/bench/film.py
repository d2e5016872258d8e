"""P11: how long does previz take for seven seconds of film?"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from tests.bench import place
from tests.bench.report import Figure

PROMPTS = {
    "mountains": "Sunrise over misty mountains",
    "alley in rain": "A narrow alley at night, heavy rain, neon signs",
}
SECONDS = 7.0


def p11(scale: place.Scale) -> list[Figure]:
    """Render clips of 1080p24 with every feature, and relate the time to the clip's length."""
    rounds = 1 if scale.rounds < 5 else 3
    return [_rendered(name, prompt, rounds) for name, prompt in PROMPTS.items()]


def _rendered(name: str, prompt: str, rounds: int) -> Figure:
    what = f"previz, 7 s of 1080p24, {name}"
    figure = Figure("P11", what, "times real time", 1.5, is_less_better=True)
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(dir=place.var_directory()) as directory:
            figure.add(_seconds(Path(directory), prompt) / SECONDS)
    return figure


def _seconds(work_dir: Path, prompt: str) -> float:
    from tasks_app.providers.base import Job
    from tasks_app.providers.previz.provider import PrevizProvider
    from tests.support.previz_runs import RecordingContext

    task_data: dict[str, Any] = {
        "scene_data": {"prompt": prompt},
        "video_params": {"resolution": "1920x1080", "duration_s": SECONDS},
        "options": {},
    }
    job = Job("bench", 1, "video_generation", task_data, work_dir, time.monotonic() + 300)
    begin = time.monotonic()
    PrevizProvider().generate(job, RecordingContext(300))
    return time.monotonic() - begin
