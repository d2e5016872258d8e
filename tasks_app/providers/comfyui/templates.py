"""What is a workflow template, and is its file right? One JSON file of a studio, read and judged.

A client names a template in ``task_data.model``; it never sends a graph, since a graph can run code
on a shared ComfyUI. Whether a server has the nodes and models is asked by `checks`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

from tasks_app.providers.accepts import INPUTS
from tasks_app.task_types import TASK_TYPES

Graph = dict[str, dict[str, Any]]
#: Names that may stand in ``task_data.model`` and in a file's name.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
VERSION = re.compile(r">=\s*(\d+(?:\.\d+){0,3})")
#: Nodes whose seed is not called "seed".
SEED_FIELDS = ("seed", "noise_seed")
_MEMBERS = {
    *("task_type", "workflow", "parameters", "files", "converters", "output", "requires"),
    "description",
}
_CONVERTER = {"from": str, "fps": float, "step": int, "extra": int, "multiple_of": int}
_BOUNDS = {"min": float, "max": float}


@dataclass(frozen=True, slots=True)
class Field:
    """One input of one node of the graph."""

    node: str
    name: str


@dataclass(frozen=True, slots=True)
class Converter:
    """How a value of ours becomes the model's.

    ``source``: our parameter that it is made from, itself if empty. ``duration_s`` becomes frames:
    round(seconds * fps), brought up to a multiple of ``step``, plus ``extra``. ``multiple_of``: the
    nearest multiple, at least one. A result outside ``least`` and ``most`` is refused at submit.
    """

    source: str = ""
    fps: float | None = None
    step: int = 1
    extra: int = 1
    multiple_of: int = 1
    least: float | None = None
    most: float | None = None


@dataclass(frozen=True, slots=True)
class Template:
    """A workflow with named parameters; ``sha256`` is that of the graph, in canonical JSON."""

    name: str
    task_type: str
    workflow: Graph
    output: str
    sha256: str
    parameters: dict[str, tuple[Field, ...]] = field(default_factory=dict)
    files: dict[str, tuple[Field, ...]] = field(default_factory=dict)
    converters: dict[str, Converter] = field(default_factory=dict)
    needed_inputs: frozenset[str] = frozenset()
    needed_version: tuple[int, ...] = ()

    def sources(self) -> frozenset[str]:
        """Return our names of all parameters that have a place in the workflow."""
        return frozenset(
            (self.converters[name].source if name in self.converters else "") or name
            for name in self.parameters
        )


class BadTemplate(ValueError):
    """A template file cannot be used; ``problems`` are sentences for its author."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(" ".join(problems))
        self.problems = problems


def read_all(folder: Path) -> tuple[dict[str, Template], dict[str, list[str]]]:
    """Return the templates of a folder by name, and the problems of the others by file name."""
    found: dict[str, Template] = {}
    faults: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            state = path.stat()
            found[path.stem] = _read(path, state.st_mtime_ns, state.st_size)
        except BadTemplate as error:
            faults[path.name] = error.problems
        except OSError as error:
            faults[path.name] = [f"It cannot be read: {error.strerror}."]
    return found, faults


@lru_cache(maxsize=512)
def _read(path: Path, modified_ns: int, size: int) -> Template:
    """Read a file; time and size are part of the key, so that an edited one is read again."""
    return parse(path.stem, path.read_bytes())


def parse(name: str, text: bytes) -> Template:
    """Return the template in a file.

    Raises:
        BadTemplate: with everything that is wrong.
    """
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadTemplate([f"It is not JSON: {error.msg} in line {error.lineno}."]) from None
    problems = list(_problems(name, document))
    if problems:
        raise BadTemplate(problems)
    requires = document.get("requires", {})
    least = VERSION.fullmatch(requires.get("comfyui", ">=0"))
    assert least, "judged above"
    return Template(
        name=name,
        task_type=document["task_type"],
        workflow=document["workflow"],
        output=document["output"],
        sha256=graph_sha256(document["workflow"]),
        parameters={key: _fields(row) for key, row in document.get("parameters", {}).items()},
        files={key: _fields(row) for key, row in document.get("files", {}).items()},
        converters={key: _converter(row) for key, row in document.get("converters", {}).items()},
        needed_inputs=frozenset(requires.get("inputs", ())),
        needed_version=tuple(int(part) for part in least[1].split(".")),
    )


def graph_sha256(graph: Graph) -> str:
    """Return the hash of a graph, whatever the order of its members."""
    return hashlib.sha256(orjson.dumps(graph, option=orjson.OPT_SORT_KEYS)).hexdigest()


def graph_problem(graph: Any) -> str:
    """Return what is wrong with the form of an API graph, "" for nothing."""
    if not isinstance(graph, dict) or not graph:
        return "The workflow is not an object of nodes."
    if isinstance(graph.get("nodes"), list) and "links" in graph:
        return (
            "This is the graph as the editor saves it. Open it in ComfyUI and use"
            ' "File, Export (API)" to get the one that can be run.'
        )
    for node, spec in graph.items():
        if not isinstance(spec, dict) or not isinstance(spec.get("class_type"), str):
            return f"Node {node} has no class_type."
        if not isinstance(spec.get("inputs"), dict):
            return f"Node {node} has no inputs."
        for name, value in spec["inputs"].items():
            if is_link(value) and value[0] not in graph:
                return f"Node {node}: {name} is linked to node {value[0]}, which is not there."
    return ""


def is_link(value: Any) -> bool:
    """Say whether an input is the output of another node: ``[node id, number]``."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], int)
    )


# -- the form of a file ---------------------------------------------------------------------------


def _problems(name: str, document: Any) -> Iterator[str]:
    if not NAME.fullmatch(name):
        yield "Its name may have letters, digits, '_', '.' and '-', 100 at most."
    if not isinstance(document, dict):
        yield "It is not an object."
        return
    if "workflow" not in document and graph_problem(document) == "":
        yield "It is a bare graph: `manage.py comfyui_template` makes a template from it."
        return
    for key in sorted(set(document) - _MEMBERS):
        yield f"{key}: there is no such member."
    if document.get("task_type") not in TASK_TYPES:
        yield f"task_type: one of {', '.join(TASK_TYPES)}."
    graph = document.get("workflow")
    if text := graph_problem(graph):
        yield f"workflow: {text}"
        return
    assert isinstance(graph, dict), "judged above"
    output = document.get("output")
    if not isinstance(output, str) or output not in graph:
        yield "output: the id of the node that saves the result."
    yield from _field_problems("parameters", document, graph)
    yield from _field_problems("files", document, graph)
    yield from _input_problems(document)
    yield from _converter_problems(document)
    yield from _requires_problems(document)


def _field_problems(member: str, document: dict[str, Any], graph: Graph) -> Iterator[str]:
    rows = document.get(member, {})
    if not isinstance(rows, dict):
        yield f'{member}: an object such as {{"prompt": ["6", "text"]}}.'
        return
    for key, row in rows.items():
        try:
            fields = _fields(row)
        except (TypeError, ValueError):
            yield f'{member}.{key}: ["node id", "input"], or a list of such pairs.'
            continue
        for each in fields:
            if each.node not in graph:
                yield f"{member}.{key}: there is no node {each.node}."
            elif each.name not in graph[each.node]["inputs"]:
                yield f"{member}.{key}: node {each.node} has no input {each.name}."
            elif is_link(graph[each.node]["inputs"][each.name]):
                yield f"{member}.{key}: {each.name} of node {each.node} is linked to another node."


def _input_problems(document: dict[str, Any]) -> Iterator[str]:
    """Yield each name in ``files`` that no task can give."""
    rows, task_type = document.get("files", {}), document.get("task_type")
    if not isinstance(rows, dict) or task_type not in TASK_TYPES:
        return
    known = INPUTS[TASK_TYPES[task_type].media]
    for name in rows:
        if name not in known:
            yield f"files.{name}: a {task_type} has the inputs {', '.join(known)}."


def _converter_problems(document: dict[str, Any]) -> Iterator[str]:
    rows = document.get("converters", {})
    parameters = document.get("parameters", {})
    if not isinstance(rows, dict):
        yield 'converters: an object such as {"frames": {"from": "duration_s", "fps": 16}}.'
        return
    for key, row in rows.items():
        if not isinstance(parameters, dict) or key not in parameters:
            yield f"converters.{key}: there is no such parameter."
        if not isinstance(row, dict):
            yield f"converters.{key}: an object."
            continue
        for name, value in row.items():
            kind = (_CONVERTER | _BOUNDS).get(name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if kind is None:
                yield f"converters.{key}.{name}: there is no such member."
            elif kind is str:
                if not isinstance(value, str) or not value:
                    yield f"converters.{key}.{name}: a parameter's name."
            elif not is_number or (kind is int and not isinstance(value, int)):
                yield f"converters.{key}.{name}: a number."
            elif name in ("fps", "step", "multiple_of") and value <= 0:
                yield f"converters.{key}.{name}: more than 0."


def _requires_problems(document: dict[str, Any]) -> Iterator[str]:
    requires = document.get("requires", {})
    if not isinstance(requires, dict) or set(requires) - {"comfyui", "inputs"}:
        yield 'requires: an object with "comfyui" and "inputs".'
        return
    version = requires.get("comfyui", ">=0")
    if not isinstance(version, str) or not VERSION.fullmatch(version):
        yield 'requires.comfyui: a version such as ">=0.26".'
    known = {*document.get("parameters", {}), *document.get("files", {})}
    known |= {
        row["from"]
        for row in (document.get("converters") or {}).values()
        if isinstance(row, dict) and isinstance(row.get("from"), str)
    }
    inputs = requires.get("inputs", [])
    if not isinstance(inputs, list) or not all(isinstance(name, str) for name in inputs):
        yield "requires.inputs: a list of names."
        return
    for name in inputs:
        if name not in known:
            yield f"requires.inputs: {name} is neither a parameter nor a file."


def _fields(row: Any) -> tuple[Field, ...]:
    """Return the places of one parameter: one pair, or a list of pairs.

    Raises:
        ValueError, TypeError: it is neither.
    """
    pairs = [row] if row and isinstance(row[0], str) else row
    fields = tuple(Field(node, name) for node, name in pairs)
    if not fields or not all(isinstance(x, str) for each in fields for x in (each.node, each.name)):
        raise ValueError(row)
    return fields


def _converter(row: dict[str, Any]) -> Converter:
    return Converter(
        source=row.get("from", ""),
        fps=row.get("fps"),
        step=row.get("step", 1),
        extra=row.get("extra", 1),
        multiple_of=row.get("multiple_of", 1),
        least=row.get("min"),
        most=row.get("max"),
    )
