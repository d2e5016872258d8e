"""What of a task goes into a request to a remote provider, under which names, and what does not?

Pure: nothing is sent here. A request holds what the client said, the operator's ``defaults`` where
the client said nothing, and the operator's ``input``, which nobody overrides. The service's own
defaults are previz's and go nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from tasks_app.providers.accepts import (
    CODE,
    INPUTS,
    ROOT,
    Accepts,
    Limits,
    Values,
    escaped,
    model_faults,
    ratio,
    refusals,
    said,
)
from tasks_app.providers.base import FieldError, ProviderError
from tasks_app.task_types import TASK_TYPES

#: How a member of ``fields`` names one of ``task_data.inputs``.
INPUT = "inputs."
#: What models take that are told a shape and no size.
SHAPES = (
    *("16:9", "9:16", "1:1", "4:3", "3:4", "3:2", "2:3"),
    *("21:9", "9:21", "2:1", "1:2", "5:4", "4:5"),
)
#: Names for `fields` that are no parameters of a client.
PARTS = frozenset({"width", "height", "aspect_ratio", "reference_images"})
#: Values that ask for nothing, so that every model fulfils them.
NOTHING_ASKED = {
    "video": {
        "camera": Values(choices=("auto",)),
        "style": Values(choices=("auto",)),
        "overlay": Values(choices=(False,)),
    },
    "image": {"style": Values(choices=("auto",)), "count": Values(choices=(1,))},
    "audio": {},
}


def said_by_name(task_type: str, task_data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a task says, by our names: prompt, duration_s, resolution, character.name, ...

    ``width`` and ``height`` (pixels) and ``aspect_ratio`` are computed from the resolution.
    """
    flat = {one.name: one.value for one in said(task_type, task_data) if not one.is_input}
    if "resolution" in flat:
        width, height = (int(side) for side in str(flat["resolution"]).split("x"))
        flat |= {"width": width, "height": height, "aspect_ratio": ratio(width, height)}
    return flat


def body_of(
    task_type: str,
    task_data: Mapping[str, Any],
    fields: Mapping[str, str],
    *,
    fixed: Mapping[str, Any],
    defaults: Mapping[str, Any],
    files: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a model's inputs.

    Args:
        fields: the model's name of an input -> our name of what goes there.
        fixed: the operator's inputs; stronger than everything.
        defaults: the operator's inputs where the client says nothing.
        files: the task's inputs by name, in the form that the model takes (a URL, a list of them).

    Raises:
        ProviderError: ``provider_rejected``, if an input of the task is not among the files.
    """
    asked = said_by_name(task_type, task_data)
    given = files or {}
    lost = [
        one.name for one in said(task_type, task_data) if one.is_input and one.name not in given
    ]
    if lost:
        text = f"There is no way to hand {', '.join(lost)} to this provider."
        raise ProviderError("provider_rejected", text)
    asked |= {**given, **{INPUT + name: value for name, value in given.items()}}
    named = {theirs: asked[ours] for theirs, ours in fields.items() if ours in asked}
    return {**defaults, **named, **(task_data.get("options") or {}), **fixed}


def seed_in(body: Mapping[str, Any], fields: Mapping[str, str]) -> int | None:
    """Return the seed that a request carries; None where it carries none."""
    names = [theirs for theirs, ours in fields.items() if ours == "seed"]
    found = [body[name] for name in [*names, "seed"] if name in body]
    seed = found[0] if found else None
    return seed if isinstance(seed, int) and not isinstance(seed, bool) else None


class ModelInputs:
    """What a remote provider's configuration says about its models' inputs.

    Args:
        model: the default model, where a task does not name one of ``models``.
        models: the models that a task may name.
        input: inputs sent with every request; they override what a task asks for.
        fields: the model's name of an input -> our name of it (see `said_by_name`), or
            ``inputs.`` and the name of a file.
        values: our name -> what the model takes there: a list, ``{"least": 1, "most": 10}``,
            ``"any"``, or for a file the members of `Limits`.
        defaults: inputs sent where a task says nothing about them.
    """

    name: ClassVar[str]
    #: Whether `body` is given the task's files. Where it is not, every input is refused.
    is_given_files: ClassVar[bool] = False

    def __init__(
        self,
        model: str = "",
        models: list[str] | None = None,
        input: dict[str, Any] | None = None,
        fields: dict[str, str] | None = None,
        values: dict[str, Any] | None = None,
        defaults: dict[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.models = tuple(dict.fromkeys([model, *(models or ())]))
        self._input = input or {}
        self._fields = fields
        told = values or {}
        # Read here, so that `manage.py check` tells what is wrong with them.
        self._values = {
            name: _values(one) for name, one in told.items() if not name.startswith(INPUT)
        }
        self._limits = {
            name.removeprefix(INPUT): Limits(**{"kinds": (), **one})
            for name, one in told.items()
            if name.startswith(INPUT)
        }
        self._defaults = defaults or {}

    @property
    def named_by_operator(self) -> set[str]:
        """Return our names that the options ``fields`` and ``values`` use."""
        limited = {INPUT + name for name in self._limits}
        return {*(self._fields or {}).values(), *self._values, *limited}

    def own_fields(self, task_type: str, model: str) -> dict[str, str]:
        """Return the model's name of each input -> ours."""
        return {"prompt": "prompt"} if self._fields is None else self._fields

    def known_values(self, task_type: str, model: str) -> dict[str, Values]:
        """Return what a protocol itself says of the values that it takes, by our names."""
        return {}

    def own_defaults(self, task_type: str) -> dict[str, Any]:
        """Return what is sent where a task says nothing, by the model's names."""
        return self._defaults

    def accepts(self, task_type: str, model: str = "") -> Accepts:
        """Return what a model takes: what is mapped to it, and its options."""
        media = TASK_TYPES[task_type].media
        fields = self.own_fields(task_type, model)
        free = [ours for theirs, ours in fields.items() if theirs not in self._input]
        found: dict[str, Values] = {**NOTHING_ASKED[media], **_mapped(free)}
        if media == "audio" and "text" in found and "kind" not in found:
            found["kind"] = Values(choices=("voice",))
        found |= self.known_values(task_type, model)
        for theirs, ours in fields.items():
            if theirs in self._input and ours not in PARTS and not ours.startswith(INPUT):
                only = _as_ours(self._input[theirs])
                found[ours] = Values(choices=(only,), note="set by the operator")
        found |= {
            name: values
            for name, values in self._values.items()
            if name in found or (name, media) == ("kind", "audio")
        }
        return Accepts(
            inputs=self._files(media, free),
            parameters=found,
            passes_options=True,
            closed_options=dict.fromkeys(self._input, "this option is set by the operator."),
        )

    def _files(self, media: str, free: list[str]) -> dict[str, Limits]:
        if not self.is_given_files:
            return {}
        names = [ours.removeprefix(INPUT) for ours in free if ours.startswith(INPUT)]
        names += ["reference_images"] * ("reference_images" in free)
        return {
            name: replace(self._limits.get(name, Limits(())), kinds=INPUTS[media][name])
            for name in names
            if name in INPUTS[media]
        }

    def validate(self, task_type: str, task_data: dict[str, Any]) -> list[FieldError]:
        """Report everything in a task that the model does not take."""
        who = f"The provider {self.name}"
        if faults := model_faults(who, self.models, task_data):
            return faults
        model = task_data.get("model") or self.model
        accepts = self.accepts(task_type, model)
        return [
            *refusals(who, accepts, task_type, task_data),
            *self._given_twice(task_type, model, task_data, accepts),
        ]

    def _given_twice(
        self, task_type: str, model: str, task_data: dict[str, Any], accepts: Accepts
    ) -> list[FieldError]:
        """Report options that would replace what the task says in a field of its own."""
        asked = said_by_name(task_type, task_data)
        fields = self.own_fields(task_type, model)
        return [
            FieldError(f"{ROOT}/options/{escaped(name)}", CODE, f"Give {fields[name]} only once.")
            for name in (task_data.get("options") or {})
            if fields.get(name) in asked and name not in accepts.closed_options
        ]

    def body(
        self,
        task_type: str,
        task_data: Mapping[str, Any],
        model: str,
        files: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Return the model's inputs for a task, as `body_of`."""
        return body_of(
            task_type,
            task_data,
            self.own_fields(task_type, model),
            fixed=self._input,
            defaults=self.own_defaults(task_type),
            files=files,
        )

    def sent_seed(self, task_type: str, task_data: Mapping[str, Any], model: str) -> int | None:
        """Return the seed that was sent for a task, for its receipt; None if none was."""
        bare = {name: value for name, value in task_data.items() if name != "inputs"}
        fields = self.own_fields(task_type, model)
        return seed_in(self.body(task_type, bare, model), fields)


def _mapped(free: list[str]) -> dict[str, Values]:
    """Return what is mapped, by our names; a resolution by whichever way it is told."""
    found = {name: Values() for name in free if name not in PARTS and not name.startswith(INPUT)}
    if {"width", "height"} <= set(free):
        found["resolution"] = Values()
    elif "aspect_ratio" in free and "resolution" not in found:
        found["resolution"] = Values(shapes=SHAPES, note="only the shape is used")
    return found


def _as_ours(value: Any) -> Any:
    """Return a value of the operator as a client would write it: a number without quotes."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _values(told: Any) -> Values:
    """Return the operator's word on what a parameter may be.

    Raises:
        TypeError: it is none of the forms that it may have.
    """
    if told == "any":
        return Values()
    if isinstance(told, list) and told:
        return Values(choices=tuple(told))
    bounds = told if isinstance(told, dict) and told.keys() <= {"least", "most"} else {}
    if bounds and all(isinstance(bound, int | float) for bound in bounds.values()):
        return Values(**bounds)
    raise TypeError(f'values: {told} is no list, no {{"least": 1, "most": 10}} and not "any"')
