"""How does the worker see the built-in renderer? Limits at submit, one child per render."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks_app.media import probe
from tasks_app.providers.accepts import Accepts
from tasks_app.providers.base import (
    Context,
    FieldError,
    Job,
    MediaOutput,
    ProviderError,
    Result,
)
from tasks_app.providers.previz import MODEL, NAME
from tasks_app.providers.previz.process import RenderProcess
from tasks_app.providers.previz.script import defaults, limits

#: Address space, not resident memory: a render peaks near 400 MB resident.
MEMORY_BYTES = 6 << 30
#: Shares of the progress bar: the render, then probing of what it made.
RENDER_SHARE = 0.96


class PrevizProvider:
    """Draw, score and speak a temporary version of what was asked for.

    Args:
        quality: ``final`` or ``draft``; a task's ``options.quality`` overrides it.
        memory_bytes: limit of one render's address space.
    """

    name = NAME
    model = MODEL
    is_local = True
    task_types = frozenset(defaults.FILLED_BY)
    models = (MODEL,)

    def __init__(self, quality: str = "final", memory_bytes: int = MEMORY_BYTES) -> None:
        self._quality = quality
        self._memory_bytes = memory_bytes

    def accepts(self, task_type: str, model: str = "") -> Accepts:
        """Return what previz makes use of."""
        return limits.BY_TYPE[task_type]

    def validate(self, task_type: str, task_data: dict[str, Any]) -> list[FieldError]:
        """Return what previz cannot make, pointing into the submitted document."""
        return limits.problems(task_type, task_data)

    def generate(self, job: Job, context: Context) -> Result:
        """Render in a child process, then probe every file it left.

        Raises:
            ProviderError: ``render_failed``, ``timed_out``, or what `probing.probe_all` raises.
            Cancelled: the context asked for it; the child is dead by then.
        """
        request = self._request(job, context)
        with RenderProcess(request, job.work_dir) as child:
            made = child.result(_Scaled(context))
        context.progress(RENDER_SHARE, "checking", "")
        files = _probed(made["files"], job.work_dir, context)
        return Result(
            files=files,
            provider=NAME,
            model=MODEL,
            seed=request["task_data"]["seed"],
            metadata=made["metadata"],
        )

    def _request(self, job: Job, context: Context) -> dict[str, Any]:
        task_data = defaults.filled(job.task_type, job.task_data)
        task_data["options"].setdefault("quality", self._quality)
        return {
            "task_id": job.task_id,
            "task_type": job.task_type,
            "task_data": task_data,
            "work_dir": str(job.work_dir.resolve()),
            "memory_bytes": self._memory_bytes,
            "cpu_seconds": context.seconds_left() * 2 + 10,
        }


class _Scaled:
    """The task's context with the child's progress 0..1 mapped to its share of the work."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.cancelled = context.cancelled
        self.seconds_left = context.seconds_left

    def progress(self, fraction: float, step: str, detail: str = "") -> None:
        self._context.progress(fraction * RENDER_SHARE, step, detail)


def _probed(
    made: list[dict[str, Any]], work_dir: Path, context: Context
) -> tuple[MediaOutput, ...]:
    paths = [work_dir / row["name"] for row in made]
    if not all(path.is_file() for path in paths):
        raise ProviderError("output_invalid", "The render left a file out.")
    wanted = [(path, _expected(row["expected"])) for path, row in zip(paths, made, strict=True)]
    found = probe.probe_all(wanted, context)
    rows = zip(made, paths, found, strict=True)
    return tuple(file.as_output(row["role"], path) for row, path, file in rows)


def _expected(row: dict[str, Any]) -> probe.Expected:
    codecs = row.get("codecs")
    return probe.Expected(**{**row, "codecs": tuple(codecs) if codecs else None})
