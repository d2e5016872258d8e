"""A provider with one limit of its own, for tests of what a submit asks a provider."""

from __future__ import annotations

from typing import Any

from tasks_app.providers.accepts import Accepts
from tasks_app.providers.base import Context, FieldError, Job, Result


class Painter:
    """Accepts everything except a width of 4000 pixels."""

    name = "painter"
    model = "painter-1"
    is_local = True
    task_types = frozenset({"video_generation", "image_generation", "audio_generation"})
    models = ("painter-1",)

    def accepts(self, task_type: str, model: str = "") -> Accepts:
        """Name nothing: what is refused is up to `validate`."""
        return Accepts()

    def validate(self, task_type: str, task_data: dict[str, Any]) -> list[FieldError]:
        """Refuse that width, wherever it is given."""
        params = task_data.get("image_params", {})
        if params.get("resolution", "").startswith("4000x"):
            pointer = "/task_data/image_params/resolution"
            return [FieldError(pointer, "unsupported_by_provider", "Not 4000 wide.")]
        return []

    def generate(self, job: Job, context: Context) -> Result:
        """Never called: no worker runs in these tests."""
        raise NotImplementedError
