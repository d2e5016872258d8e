"""Which values does a task give, under names that a model's inputs can be mapped to?"""

from __future__ import annotations

from typing import Any

from tasks_app.task_types import TASK_TYPES


def wishes(task_type: str, task_data: dict[str, Any]) -> dict[str, Any]:
    """Return all scalar fields of a task in one flat dict: prompt, duration_s, resolution, ...

    ``width`` and ``height`` (pixels) and ``aspect_ratio`` are computed from the resolution.
    """
    flat: dict[str, Any] = {}
    for name in TASK_TYPES[task_type].sections:
        section = task_data.get(name) or {}
        flat |= {
            key: value
            for key, value in section.items()
            if value != "" and isinstance(value, str | int | float | bool)
        }
    flat.setdefault("prompt", task_data.get("prompt") or flat.get("text", ""))
    if "seed" in task_data:
        flat["seed"] = task_data["seed"]
    if "resolution" in flat:
        width, height = (int(side) for side in str(flat["resolution"]).split("x"))
        ratio = "1:1" if width == height else "16:9" if width > height else "9:16"
        flat |= {"width": width, "height": height, "aspect_ratio": ratio}
    return flat
