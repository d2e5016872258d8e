"""Can the servers run the templates? Their `/object_info` tells, before a task fails.

A node that is not installed, a missing model and a value out of bounds are errors of the
configuration. A server that is away is a warning: it may be there when it is needed.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tasks_app.providers.base import ProviderError
from tasks_app.providers.comfyui import graphs, server
from tasks_app.providers.comfyui.provider import ComfyUIProvider
from tasks_app.providers.comfyui.templates import Field, Template, is_link
from tasks_app.providers.remote.client import ProviderClient, Server

#: Most choices of a server that a finding lists.
MOST_SHOWN = 5


class Finding(NamedTuple):
    """What was found at one server; ``is_error`` unless the server was only away."""

    text: str
    is_error: bool


def findings(provider: ComfyUIProvider) -> list[Finding]:
    """Ask every server for what the templates need that it is to run."""
    places: dict[str, Server] = {}
    wanted: dict[str, list[Template]] = defaultdict(list)
    for template in provider.templates().values():
        for each in provider.servers(template.name):
            places[each.label] = each
            wanted[each.label].append(template)

    async def ask_all() -> list[Finding]:
        found = await asyncio.gather(*(_ask(places[label], wanted[label]) for label in places))
        return [finding for some in found for finding in some]

    return asyncio.run(ask_all())


async def _ask(place: Server, templates: list[Template]) -> list[Finding]:
    try:
        async with ProviderClient(place) as line:
            version = await server.version(line)
            known = (await line.call("GET", "object_info")).json()
    except ProviderError as error:
        return [Finding(f"{place.label} cannot be asked: {error.message}", is_error=False)]
    return [
        Finding(f"{template.name} on {place.label}: {text}", is_error=True)
        for template in templates
        for text in problems(template, known, version)
    ]


def problems(
    template: Template, known: Mapping[str, Any], version: tuple[int, ...]
) -> Iterator[str]:
    """Yield what a server lacks for a template.

    Args:
        known: its `/object_info`.
    """
    if version < template.needed_version:
        yield (
            f"It needs ComfyUI {_dotted(template.needed_version)}; this one is {_dotted(version)}."
        )
    bound = {
        field
        for fields in (*template.parameters.values(), *template.files.values())
        for field in fields
    }
    needed = graphs.needed_by(template.workflow, template.output)
    for node, spec in needed.items():
        kind = known.get(spec["class_type"])
        if not isinstance(kind, dict):
            yield f"Node {node}: {spec['class_type']} is not installed."
            continue
        yield from _node_problems(node, spec, kind, bound)
    kind = known.get(template.workflow[template.output]["class_type"])
    if isinstance(kind, dict) and not kind.get("output_node"):
        yield f"Node {template.output} saves nothing: it cannot be the output."
    yield from _left_out_problems(template, known)


def _node_problems(
    node: str, spec: Mapping[str, Any], kind: Mapping[str, Any], bound: set[Field]
) -> Iterator[str]:
    required, optional = _inputs(kind)
    where = f"Node {node} ({spec['class_type']})"
    for name in required:
        if name not in spec["inputs"]:
            yield f"{where} lacks {name}."
    for name, value in spec["inputs"].items():
        rule = required.get(name, optional.get(name))
        if rule is None or is_link(value):
            continue
        choices = _choices(rule)
        if choices is not None:
            # What a task brings is judged when it comes: an uploaded file is no choice yet.
            if value not in choices and Field(node, name) not in bound:
                shown = ", ".join(str(each) for each in choices[:MOST_SHOWN]) or "nothing"
                yield f"{where}: {name} is {value!r}; there is {shown}."
        elif isinstance(rule[0], str) and rule[0] in ("INT", "FLOAT"):
            yield from _number_problems(f"{where}: {name}", value, rule)


def _number_problems(where: str, value: Any, rule: list[Any]) -> Iterator[str]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        yield f"{where} is {value!r}, which is no number."
        return
    bounds = rule[1] if len(rule) > 1 and isinstance(rule[1], dict) else {}
    least, most = bounds.get("min"), bounds.get("max")
    if isinstance(least, int | float) and value < least:
        yield f"{where} is {value}; {least} is the least."
    if isinstance(most, int | float) and value > most:
        yield f"{where} is {value}; {most} is the most."


def _left_out_problems(template: Template, known: Mapping[str, Any]) -> Iterator[str]:
    """Yield each file without which the rest of the workflow would lack a required input."""
    for name, fields in template.files.items():
        if name in template.needed_inputs:
            continue
        graph = {
            node: {**spec, "inputs": dict(spec["inputs"])}
            for node, spec in template.workflow.items()
        }
        for field in fields:
            graphs.drop(graph, field.node)
        if template.output not in graph:
            yield f'Nothing is left without {name}: name it in "requires": {{"inputs": [...]}}.'
            continue
        for node, spec in graphs.needed_by(graph, template.output).items():
            kind = known.get(spec["class_type"])
            required = _inputs(kind)[0] if isinstance(kind, dict) else {}
            lost = set(required) & set(template.workflow[node]["inputs"]) - set(spec["inputs"])
            for each in sorted(lost):
                yield (
                    f"Without {name} node {node} ({spec['class_type']}) lacks {each}:"
                    f' name {name} in "requires": {{"inputs": [...]}}.'
                )


def _inputs(kind: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the rules of a node's required and optional inputs; each is a list."""
    rows = kind.get("input")
    rows = rows if isinstance(rows, dict) else {}
    found = []
    for part in ("required", "optional"):
        row = rows.get(part)
        row = row if isinstance(row, dict) else {}
        found.append({name: rule for name, rule in row.items() if isinstance(rule, list) and rule})
    return found[0], found[1]


def _choices(rule: list[Any]) -> list[Any] | None:
    """Return the choices of an input, in the older or the newer form; None if it has none."""
    if isinstance(rule[0], list):
        return rule[0]
    config = rule[1] if len(rule) > 1 and isinstance(rule[1], dict) else {}
    options = config.get("options")
    return options if rule[0] == "COMBO" and isinstance(options, list) else None


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)
