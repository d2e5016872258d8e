"""How does a template become the graph of one task? Values, seed, files, and what is left out.

Pure functions: nothing is asked, and a template is never changed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from tasks_app.providers.comfyui.templates import (
    SEED_FIELDS,
    Converter,
    Field,
    Graph,
    Template,
    is_link,
)

#: Used where neither the task nor the workflow says how many frames a second has.
FPS = 24.0


class BadValue(ValueError):
    """A value has no place in the workflow; ``parameter`` is our name of it."""

    def __init__(self, parameter: str, message: str) -> None:
        super().__init__(message)
        self.parameter = parameter


def fill(
    template: Template,
    values: Mapping[str, Any],
    *,
    task_id: str,
    seed: int,
    files: Mapping[str, Sequence[str]],
) -> Graph:
    """Return the graph to submit.

    Args:
        values: our parameters' names to what the task says; what it does not say stays as saved.
        task_id: becomes the prefix of the file names. Two tasks with the same graph would be
            answered with one file: this makes the save node run, and lets the rest be cached.
        seed: for the template's seed parameter, or, if it has none, for every seed in the graph.
        files: names of inputs to the names under which the server has the uploaded files.

    Raises:
        BadValue: a value does not fit.
    """
    graph: Graph = orjson.loads(orjson.dumps(template.workflow))
    for field, value in assignments(template, {**values, "seed": seed}):
        graph[field.node]["inputs"][field.name] = value
    if "seed" not in template.parameters:
        for field in seed_fields(graph):
            graph[field.node]["inputs"][field.name] = seed
    for name, fields in template.files.items():
        given = files.get(name, ())
        for field, file in zip(fields, given, strict=False):
            graph[field.node]["inputs"][field.name] = file
        for field in fields[len(given) :]:
            drop(graph, field.node)
    if template.output not in graph:
        raise BadValue("", "Without its inputs nothing is left of the workflow.")
    graph = needed_by(graph, template.output)
    for spec in graph.values():
        if isinstance(spec["inputs"].get("filename_prefix"), str):
            spec["inputs"]["filename_prefix"] = task_id
    return graph


def assignments(
    template: Template,
    values: Mapping[str, Any],
    parameters: Mapping[str, Sequence[Field]] | None = None,
) -> list[tuple[Field, Any]]:
    """Return what is to be written where.

    Args:
        parameters: some of the template's; all by default.

    Raises:
        BadValue: a value is of the wrong kind, or outside its converter's bounds.
    """
    found = []
    for name, fields in (parameters or template.parameters).items():
        converter = template.converters.get(name, Converter())
        source = converter.source or name
        if source not in values:
            continue
        value = _converted(values[source], source, converter, _fps(template, values, converter))
        for field in fields:
            saved = template.workflow[field.node]["inputs"][field.name]
            found.append((field, _as_saved(value, saved, source)))
    return found


def seed_fields(graph: Graph) -> list[Field]:
    """Return every seed that is written in a graph, and not linked to another node."""
    return [
        Field(node, name)
        for node, spec in graph.items()
        for name in SEED_FIELDS
        if isinstance(spec["inputs"].get(name), int)
    ]


def drop(graph: Graph, node: str) -> None:
    """Remove a node, and what only lives on it.

    A node all of whose links are gone has nothing left to work on and goes too; any other only
    loses the input. So an unused first frame takes its loader and its scaling along, and leaves the
    node that would have taken it as an option.
    """
    if graph.pop(node, None) is None:
        return
    for other, spec in list(graph.items()):
        lost = [
            name for name, value in spec["inputs"].items() if is_link(value) and value[0] == node
        ]
        for name in lost:
            del spec["inputs"][name]
        if lost and not any(is_link(value) for value in spec["inputs"].values()):
            drop(graph, other)


def needed_by(graph: Graph, output: str) -> Graph:
    """Return the part of a graph that its output node needs, in the graph's order."""
    wanted, found = [output], {output}
    while wanted:
        for value in graph[wanted.pop()]["inputs"].values():
            if is_link(value) and value[0] not in found:
                found.add(value[0])
                wanted.append(value[0])
    return {node: spec for node, spec in graph.items() if node in found}


def _converted(value: Any, name: str, converter: Converter, fps: float) -> Any:
    if converter == Converter():
        return value
    number = _number(value, name)
    if converter.source == "duration_s":
        frames = math.ceil(round(number * fps) / converter.step) * converter.step
        number = frames + converter.extra
    elif converter.multiple_of > 1:
        multiple = converter.multiple_of
        number = max(1, round(number / multiple)) * multiple
    least, most = converter.least, converter.most
    if (least is not None and number < least) or (most is not None and number > most):
        bounds = f"{'' if least is None else f'{least:g}'}..{'' if most is None else f'{most:g}'}"
        raise BadValue(name, f"This workflow takes {bounds} here; this would be {number:g}.")
    return number


def _fps(template: Template, values: Mapping[str, Any], converter: Converter) -> float:
    """Return the frames of a second: the converter's, the task's, the saved one."""
    if converter.fps is not None:
        return converter.fps
    if "fps" not in template.parameters:
        return FPS
    place = template.parameters["fps"][0]
    saved = template.workflow[place.node]["inputs"][place.name]
    return _number(values.get("fps", saved), "fps")


def _as_saved(value: Any, saved: Any, name: str) -> Any:
    """Return a value in the kind that the workflow was saved with: 24 and 24.0 differ there."""
    if isinstance(saved, bool):
        if not isinstance(value, bool):
            raise BadValue(name, "Must be true or false.")
        return value
    if isinstance(saved, int):
        return round(_number(value, name))
    if isinstance(saved, float):
        return float(_number(value, name))
    if isinstance(saved, str):
        if isinstance(value, bool | dict | list) or value is None:
            raise BadValue(name, "Must be a text.")
        return value if isinstance(value, str) else f"{value:g}"
    return value


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool):
        raise BadValue(name, "Must be a number.")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise BadValue(name, "Must be a number.") from None
    if not math.isfinite(number):
        raise BadValue(name, "Must be a number.")
    return int(number) if number == int(number) else number
