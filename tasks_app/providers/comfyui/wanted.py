"""What may a task say to a workflow template, and what is wrong with what it says?

Everything that a template has no place for is refused at submit: nothing is dropped in silence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tasks_app.providers.accepts import CODE, INPUTS, ROOT, Accepts, Limits, Values, escaped, said
from tasks_app.providers.base import FieldError
from tasks_app.providers.comfyui import graphs
from tasks_app.providers.comfyui.graphs import BadValue
from tasks_app.providers.comfyui.templates import Converter, Template
from tasks_app.providers.remote.inputs import NOTHING_ASKED, said_by_name
from tasks_app.task_types import TASK_TYPES

#: Parameters that a task has fields for; a template's others are set by ``options``.
FIELDS = {
    "video": {"prompt", "negative_prompt", "seed", "duration_s", "fps", "camera", "style"},
    "image": {"prompt", "seed", "purpose", "count", "panels", "quality", "style"},
    "audio": {
        *("prompt", "text", "seed", "voice", "language", "duration_s", "speed"),
        *("pitch_semitones", "sample_rate_hz", "channels", "loudness_lufs"),
    },
}
#: What a ComfyUI takes unless it is started with another limit.
MAX_UPLOAD_BYTES = 100 << 20
#: Computed from the resolution, so that this is what a task says.
SIZES = frozenset({"width", "height", "aspect_ratio", "resolution"})


def accepts_of(template: Template) -> Accepts:
    """Return what a template takes: what its parameters and its loaders have a place for."""
    media = TASK_TYPES[template.task_type].media
    sources, fields = template.sources(), FIELDS[media]
    parameters: dict[str, Values] = dict(NOTHING_ASKED[media])
    # A task cannot do without a prompt, though a workflow can.
    parameters["prompt"] = Values(note="" if "prompt" in sources else "not used by this workflow")
    parameters |= {name: _bounds(template, name) for name in sorted(sources & fields)}
    parameters["seed"] = Values()
    if {"width", "height"} <= sources or "resolution" in sources:
        parameters["resolution"] = Values()
    if media == "audio":
        parameters["kind"] = Values()
    return Accepts(
        inputs={
            name: Limits(INPUTS[media][name], most=len(places), max_bytes=MAX_UPLOAD_BYTES)
            for name, places in template.files.items()
            if name in INPUTS[media]
        },
        parameters=parameters,
        options={name: _bounds(template, name) for name in sorted(sources - fields - SIZES)},
    )


def values_of(task_type: str, task_data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a task says, its options too, by our names of parameters."""
    return {**(task_data.get("options") or {}), **said_by_name(task_type, task_data)}


def faults(
    who: str, template: Template, task_type: str, task_data: Mapping[str, Any]
) -> Iterator[FieldError]:
    """Yield each value that does not fit, and each that is missing.

    Args:
        who: how the provider is called in a sentence.
    """
    values = values_of(task_type, task_data)
    for name in template.parameters:
        only = {name: template.parameters[name]}
        try:
            graphs.assignments(template, values, only)
        except BadValue as error:
            pointer = _pointer(task_type, task_data, error.parameter)
            yield FieldError(pointer, CODE, f"{who}: {error}")
    given = {*values, *(one.name for one in said(task_type, task_data))}
    for name in sorted(template.needed_inputs - given):
        place = "/inputs" if name in template.files else ""
        yield FieldError(f"{ROOT}{place}/{name}", "required", f"{who}: this workflow needs {name}.")


def _bounds(template: Template, source: str) -> Values:
    """Return what a parameter may be, where its converter says so and only bounds it."""
    row = template.converters.get(source, Converter())
    is_bound = not row.source or row.source == source
    return Values(least=row.least, most=row.most) if is_bound else Values()


def _pointer(task_type: str, task_data: Mapping[str, Any], name: str) -> str:
    """Return where in a request a parameter stands."""
    name = "resolution" if name in SIZES else name
    for one in said(task_type, task_data):
        if one.name == name:
            return one.pointer
    return f"{ROOT}/options/{escaped(name)}"
