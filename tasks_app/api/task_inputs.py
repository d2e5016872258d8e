"""Which files may a task be made from, and are they there? The member ``inputs`` of its data.

What a provider takes of them by name and number is its own business (`providers.accepts`); here it
is asked whether each one exists in the project, and whether its content is of the right kind.
"""

from __future__ import annotations

from typing import Any

from rest_framework.exceptions import ErrorDetail

from tasks_app import providers
from tasks_app.models import AssetState, MediaFile
from tasks_app.providers.accepts import Limits, file_fault, limits_of
from tasks_app.state import inputs
from webhooks_app.api.fields import CallbackUrl, Items, Text
from webhooks_app.api.problems import FieldProblem
from webhooks_app.api.read import Given, Members, StrictObject
from webhooks_app.notation import UUID_TEXT

MOST_REFERENCES = 8
ALIAS = "/task_data/scene_data/reference_images"
_PLACE = "/task_data/inputs/reference_images"
_ROLE = r"[a-z0-9_]{1,30}"


class InputReference(StrictObject):
    """A file: an asset, a URL that is made one first, or what another task made."""

    asset = Text(
        max_length=32,
        pattern=r"[\x21-\x7e]{1,32}",
        shape="Use the id of an asset.",
        required=False,
    )
    url = CallbackUrl(required=False)
    task = Text(max_length=36, pattern=UUID_TEXT, shape="Use the id of a task.", required=False)
    role = Text(
        max_length=30,
        pattern=_ROLE,
        shape="Use the role of a file, for example last_frame.",
        required=False,
        help_text="Which of that task's files; by default primary.",
    )

    def check(self, values: Members, data: Given, errors: Members) -> None:
        """Demand one of the three."""
        given = [name for name in ("asset", "url", "task") if name in data]
        if len(given) != 1:
            message = "Give one of asset, url and task."
            errors.setdefault("non_field_errors", [ErrorDetail(message, "required")])
        elif "role" in data and given != ["task"]:
            errors.setdefault("role", [ErrorDetail("Only a task has roles.", "not_allowed")])


class References(Items):
    """Several files, or one without a list."""

    def __init__(self, **kw: Any) -> None:
        super().__init__(child=InputReference(), most=MOST_REFERENCES, required=False, **kw)

    def to_internal_value(self, data: Any) -> list[Any]:
        """Return the list."""
        return super().to_internal_value([data] if isinstance(data, dict) else data)


class VideoInputs(StrictObject):
    """The files that a film is made from."""

    first_frame = InputReference(required=False)
    last_frame = InputReference(required=False)
    reference_images = References()
    source_video = InputReference(required=False)
    audio = InputReference(required=False)


class ImageInputs(StrictObject):
    """The files that a picture is made from."""

    image = InputReference(required=False)
    mask = InputReference(required=False)
    reference_images = References()


class AudioInputs(StrictObject):
    """The files that a sound is made from."""

    voice_sample = InputReference(required=False)
    source_video = InputReference(required=False)


def without_alias(task_data: dict[str, Any]) -> dict[str, Any]:
    """Return a video's data with its ``scene_data.reference_images`` among its inputs."""
    scene = task_data.get("scene_data") or {}
    if not scene.get("reference_images"):
        return task_data
    rest = {name: value for name, value in scene.items() if name != "reference_images"}
    named = [
        {"url": text} if text.startswith("https://") else {"asset": text}
        for text in scene["reference_images"]
    ]
    given = {**(task_data.get("inputs") or {}), "reference_images": named}
    return {**task_data, "scene_data": rest, "inputs": given}


def input_problems(
    project_id: str, task_type: str, task_data: dict[str, Any], *, is_alias: bool = False
) -> list[FieldProblem]:
    """Return which inputs are not there, not ready any more, or of another kind than wanted.

    Args:
        is_alias: the client named the reference images in the scene.
    """
    values = inputs.values_of(task_data)
    if not values:
        return []
    found, problems = inputs.look_up(project_id, values)
    accepts = providers.get_provider(task_type).accepts(task_type, task_data.get("model") or "")
    limits = limits_of(accepts, task_type)
    problems += [
        problem
        for value in values
        if (file := found.get(value.pointer)) is not None
        and (problem := _unfit(value.pointer, file, limits.get(value.name))) is not None
    ]
    return as_problems(problems, is_alias=is_alias)


def as_problems(
    problems: list[inputs.InputProblem], *, is_alias: bool = False
) -> list[FieldProblem]:
    """Return the problems of inputs as the answer shows them, where the client named them."""
    return [
        {
            "pointer": problem.pointer.replace(_PLACE, ALIAS) if is_alias else problem.pointer,
            "code": problem.code,
            "message": problem.message,
        }
        for problem in problems
    ]


def _unfit(pointer: str, file: MediaFile, limits: Limits | None) -> inputs.InputProblem | None:
    """Say what of a file that is ready is not as the input wants it."""
    if limits is None or file.state != AssetState.READY:
        return None
    fault = file_fault(file, limits)
    return inputs.InputProblem(pointer, *fault) if fault else None
