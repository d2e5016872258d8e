"""What does a provider take of a task, and what does a submit hear of the rest?

A provider says it as data (`Accepts`), from which come the refusals of a submit, ``GET providers``
and the table in docs/providers.md. Nothing that a client sent is dropped in silence: what is not in
the data is refused with its pointer. Like `base`, this module imports neither Django nor a model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import gcd, inf
from typing import Any, Protocol

from tasks_app.providers.base import FieldError
from tasks_app.task_types import TASK_TYPES

ROOT = "/task_data"
MAX_SHOWN = 100
CODE = "unsupported_by_provider"
#: The inputs of every task type, and the first halves of the media types that each may have.
INPUTS: dict[str, dict[str, tuple[str, ...]]] = {
    "video": {
        "first_frame": ("image",),
        "last_frame": ("image",),
        "reference_images": ("image",),
        "source_video": ("video",),
        "audio": ("audio",),
    },
    "image": {"image": ("image",), "mask": ("image",), "reference_images": ("image",)},
    "audio": {"voice_sample": ("audio",), "source_video": ("video",)},
}
#: Members of a section that are inputs by another name.
ALIASES = ("reference_images",)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one input may be.

    ``kinds``: first halves of media types. ``most``: how many files. ``max_bytes`` of each file,
    ``max_side`` in pixels, ``max_seconds`` of sound or film; None where nothing is known.
    """

    kinds: tuple[str, ...]
    most: int = 1
    max_bytes: int | None = None
    max_side: int | None = None
    max_seconds: float | None = None


class Described(Protocol):
    """A file as its row tells it; None where a medium has no such thing."""

    @property
    def media_type(self) -> str: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def width(self) -> int | None: ...
    @property
    def height(self) -> int | None: ...
    @property
    def duration(self) -> float | None: ...


@dataclass(frozen=True, slots=True)
class Values:
    """What one parameter may be, within what the schema allows; by default all of that.

    ``choices``: only these. ``least``, ``most``: bounds of a number. ``longest``: characters of a
    text. ``sides``: pixels of a picture's longer and shorter side. ``shapes``: ratios of width to
    height, of which alone a resolution is used. ``languages``: first parts of a language tag.
    ``only_with``: another parameter and the values that it must have for this one to be used.
    ``default``: what holds where the client says nothing, None for the provider's own business.
    ``note``: one clause for the reader.
    """

    choices: tuple[Any, ...] = ()
    least: float | None = None
    most: float | None = None
    longest: int | None = None
    sides: tuple[int, int] | None = None
    shapes: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    only_with: tuple[str, tuple[Any, ...]] | None = None
    default: Any = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Accepts:
    """What a provider takes for one task type and model.

    ``parameters``: by the name of the field in task_data, of an inner one ``character.name``.
    ``options``: the members of ``options`` that it knows. ``passes_options``: all others are passed
    on as they are, but for ``closed_options``, each with the reason why not.
    """

    inputs: Mapping[str, Limits] = field(default_factory=dict)
    parameters: Mapping[str, Values] = field(default_factory=dict)
    options: Mapping[str, Values] = field(default_factory=dict)
    passes_options: bool = False
    closed_options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Said:
    """One thing that a client said: its name, where it stands, and the value."""

    name: str
    pointer: str
    value: Any
    is_input: bool = False


def said(task_type: str, task_data: Mapping[str, Any]) -> Iterator[Said]:
    """Yield everything that a task says to its provider, but for ``options`` and the names.

    An empty text, list or object says nothing.
    """
    for name in ("prompt", "seed"):
        if task_data.get(name) not in (None, ""):
            yield Said(name, f"{ROOT}/{name}", task_data[name])
    for section in TASK_TYPES[task_type].sections:
        yield from _members(task_data.get(section) or {}, f"{ROOT}/{section}", "")
    for name, value in (task_data.get("inputs") or {}).items():
        if not _is_empty(value):
            yield Said(name, f"{ROOT}/inputs/{name}", value, is_input=True)


def _members(section: Mapping[str, Any], pointer: str, prefix: str) -> Iterator[Said]:
    for name, value in section.items():
        at = f"{pointer}/{name}"
        if isinstance(value, Mapping):
            yield from _members(value, at, f"{prefix}{name}.")
        elif not _is_empty(value):
            yield Said(prefix + name, at, value, is_input=name in ALIASES)


def _is_empty(value: Any) -> bool:
    return value is None or value == "" or value == [] or value == {}


def values_of(task_type: str, task_data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that a task says, by name, and the ``kind`` of a sound."""
    found = {one.name: one.value for one in said(task_type, task_data) if not one.is_input}
    if TASK_TYPES[task_type].media == "audio":
        found.setdefault("kind", "voice" if "text" in found else "scene")
    return found


def refusals(
    who: str, accepts: Accepts, task_type: str, task_data: Mapping[str, Any]
) -> list[FieldError]:
    """Return everything in a task that a provider does not take.

    Args:
        who: how the provider is called in a sentence.
    """
    values = values_of(task_type, task_data)
    faults = [
        _input_fault(who, accepts, one)
        if one.is_input
        else _parameter_fault(who, accepts, one, values)
        for one in said(task_type, task_data)
    ]
    found = [fault for fault in faults if fault is not None]
    return [*found, *_option_faults(who, accepts, task_data.get("options") or {})]


def model_faults(who: str, models: Sequence[str], task_data: Mapping[str, Any]) -> list[FieldError]:
    """Return the fault of a model that is not among those of a provider."""
    model = task_data.get("model")
    if model is None or model in models:
        return []
    known = listed([name for name in models if name])
    text = f"This model is not among the configured ones of {who}"
    return [
        FieldError(f"{ROOT}/model", "not_allowed", f"{text}: {known}." if known else f"{text}.")
    ]


def _input_fault(who: str, accepts: Accepts, one: Said) -> FieldError | None:
    limits = accepts.inputs.get(one.name)
    if limits is None:
        known = listed(accepts.inputs, "and")
        takes = f"Its inputs are {known}." if known else "It takes no files."
        return FieldError(one.pointer, CODE, f"{who} does not use {one.name}. {takes}")
    count = len(one.value) if isinstance(one.value, list) else 1
    if count > limits.most:
        text = f"{who} takes {limits.most} of {one.name}, not {count}."
        return FieldError(one.pointer, CODE, text)
    return None


def limits_of(accepts: Accepts, task_type: str) -> dict[str, Limits]:
    """Return what each input may be: of its kind, and within what the provider says of it."""
    kinds = INPUTS[TASK_TYPES[task_type].media]
    return {name: accepts.inputs.get(name) or Limits(kinds=kind) for name, kind in kinds.items()}


def file_fault(file: Described, limits: Limits) -> tuple[str, str] | None:
    """Return a code and a sentence for what of a file is not as an input wants it."""
    if file.media_type.partition("/")[0] not in limits.kinds:
        return "not_allowed", f"This is {file.media_type}; wanted is {listed(limits.kinds)}."
    for most, have, unit in (
        (limits.max_bytes, file.size_bytes, "bytes"),
        (limits.max_side, max(file.width or 0, file.height or 0), "pixels a side"),
        (limits.max_seconds, file.duration or 0, "seconds"),
    ):
        if most is not None and have > most:
            return "out_of_range", f"It has {have:g} {unit}; the provider takes {most:g}."
    return None


def _parameter_fault(
    who: str, accepts: Accepts, one: Said, values: Mapping[str, Any]
) -> FieldError | None:
    known = accepts.parameters.get(one.name)
    if known is None:
        takes = listed(accepts.parameters, "and") or "nothing"
        return FieldError(one.pointer, CODE, f"{who} does not use {one.name}. It takes {takes}.")
    if known.only_with is not None:
        name, wanted = known.only_with
        default = accepts.parameters[name].default if name in accepts.parameters else None
        if values.get(name, default) not in wanted:
            text = f"{who} uses {one.name} only where {name} is {listed(wanted)}."
            return FieldError(one.pointer, CODE, text)
    wanted_text = _mismatch(known, one.value)
    if not wanted_text:
        return None
    code = "unsupported_language" if known.languages else CODE
    return FieldError(one.pointer, code, f"{who} takes {wanted_text} as {one.name}.")


def _option_faults(who: str, accepts: Accepts, options: Mapping[str, Any]) -> Iterator[FieldError]:
    for name, value in options.items():
        pointer = f"{ROOT}/options/{escaped(name)}"
        if name in accepts.options:
            if wanted := _mismatch(accepts.options[name], value):
                yield FieldError(pointer, CODE, f"{who} takes {wanted} as {name}.")
        elif name in accepts.closed_options:
            yield FieldError(pointer, CODE, f"{who}: {accepts.closed_options[name]}")
        elif not accepts.passes_options:
            known = listed(accepts.options, "and")
            takes = f"Its options here: {known}." if known else "It has no options here."
            yield FieldError(pointer, CODE, f"{who} has no option of this name. {takes}")


def _mismatch(known: Values, value: Any) -> str:
    """Return what is wanted in place of a value; empty where the value is taken."""
    if known.choices and value not in known.choices:
        return listed(known.choices)
    if known.longest is not None and len(str(value)) > known.longest:
        return f"at most {known.longest} characters"
    if known.languages and str(value).split("-")[0].lower() not in known.languages:
        return listed(known.languages)
    if known.least is not None or known.most is not None:
        is_number = isinstance(value, int | float)
        if not is_number or not _at_least(known) <= value <= _at_most(known):
            return _range(known)
    if known.sides or known.shapes:
        return _size_mismatch(known, str(value))
    return ""


def _at_least(known: Values) -> float:
    return -inf if known.least is None else known.least


def _at_most(known: Values) -> float:
    return inf if known.most is None else known.most


def _range(known: Values) -> str:
    if known.least is None:
        return f"at most {known.most:g}"
    return (
        f"{known.least:g} or more" if known.most is None else f"{known.least:g} to {known.most:g}"
    )


def _size_mismatch(known: Values, resolution: str) -> str:
    width, height = (int(side) for side in resolution.split("x"))
    longer, shorter = max(width, height), min(width, height)
    if known.sides and (longer > known.sides[0] or shorter > known.sides[1]):
        most, least = known.sides
        return f"at most {most}x{least} (or {least}x{most})"
    if known.shapes and ratio(width, height) not in known.shapes:
        return f"a shape of {listed(known.shapes)}"
    return ""


def ratio(width: int, height: int) -> str:
    """Return the exact ratio of a size in its lowest terms, for example ``16:9``."""
    common = gcd(width, height)
    text = f"{width // common}:{height // common}"
    return {"7:3": "21:9", "3:7": "9:21"}.get(text, text)


def listed(values: Iterable[Any], last: str = "or") -> str:
    """Return values as a clause: ``4, 8 or 12``."""
    texts = [f"{value:g}" if isinstance(value, float) else _text(value) for value in values]
    if len(texts) < 2:
        return "".join(texts)
    return f"{', '.join(texts[:-1])} {last} {texts[-1]}"


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def escaped(name: str) -> str:
    """Return a member's name as RFC 6901 writes it in a pointer; a very long one is cut."""
    return (
        (name if len(name) <= MAX_SHOWN else f"{name[:MAX_SHOWN]}…")
        .replace("~", "~0")
        .replace("/", "~1")
    )
