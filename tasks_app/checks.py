"""What does `manage.py check` say about the generation providers and the media storage?"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import DatabaseError
from django.utils.module_loading import import_string

from tasks_app import providers
from tasks_app.providers import networks, prices, proxies
from tasks_app.providers.accepts import INPUTS
from tasks_app.providers.remote.inputs import INPUT, PARTS
from tasks_app.task_types import TASK_TYPES
from webhooks_app.egress import read_proxy


@register("tasks")
def check_providers(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report a provider that cannot be loaded or that lacks a setting."""
    known = frozenset({*providers.BUILT_IN, *_names()})
    found: list[CheckMessage] = [Error(text, id="tasks.E002") for text in networks.problems(known)]
    if wrong := proxies.problems(known):  # no provider can be asked for its own problems then
        return [*found, *(Error(text, id="tasks.E006") for text in wrong)]
    for task_type in sorted(providers.configured_task_types()):
        found += [
            Error(f"GENERATION_PROVIDERS[{task_type!r}]: {text}", id="tasks.E001")
            for text in _problems(task_type)
        ]
    return found


@register("tasks")
def check_asset_proxy(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report a forward proxy for assets that cannot be used."""
    try:
        read_proxy(settings.ASSET_PROXY)
    except ValueError as error:
        return [Error(f"ASSET_PROXY: {error}.", id="tasks.E006")]
    return []


@register("tasks")
def check_prices(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report a price of the wrong shape."""
    return [Error(text, id="tasks.E005") for text in prices.problems()]


@register(Tags.database)
def check_storage(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Warn if the storage belongs to another installation; no error, as files can be added."""
    from tasks_app.media import mark

    if not databases:
        return []
    try:
        mark.require_ours(is_check=True)
    except DatabaseError:
        return []  # no database yet, or no tables: other checks report that
    except mark.NotOurs as error:
        return [Warning(f"No media will be deleted: {error}", id="tasks.W003")]
    except OSError as error:
        text = f"The media storage cannot be asked: {error or type(error).__name__}"
        return [Warning(text, id="tasks.W004")]
    return []


@register(Tags.database)
def check_waiting(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Warn of queued tasks that nobody can begin."""
    from tasks_app.state import remote

    try:
        return [
            Warning(f"Queued tasks that cannot begin, {count}: {text}", id="tasks.W007")
            for text, count in (remote.stranded() if databases else ())
        ]
    except DatabaseError:
        return []  # no database yet, or no tables: other checks report that


def _problems(task_type: str) -> list[str]:
    try:
        chain = providers.get_providers(task_type)
    except providers.UnknownProvider as error:
        return [str(error)]
    except (ImportError, AttributeError, ValueError):
        return [f"There is no such provider. Built in are {', '.join(providers.BUILT_IN)}."]
    except (TypeError, KeyError) as error:
        return [f"Its options do not fit: {error}."]
    problems: list[str] = []
    for provider in chain:
        problems += getattr(provider, "configuration_problems", list)()
        unknown = sorted(set(getattr(provider, "named_by_operator", ())) - _names_of_ours())
        problems += [
            f"{name} is no parameter or input of any task; fields and values name ours, such as"
            " duration_s or inputs.first_frame."
            for name in unknown
        ]
    names = [provider.name for provider in chain]
    if len(set(names)) < len(names):  # a job at a provider is found again by its name
        problems.append(f"A chain names each provider once, not {', '.join(names)}.")
    return problems


def _names_of_ours() -> frozenset[str]:
    """Return everything that `fields` and `values` may name, of any task type."""
    found = {*PARTS, "prompt", "seed"}
    for task_type in TASK_TYPES.values():
        found |= {INPUT + name for name in INPUTS[task_type.media]}
        form = import_string(task_type.schema)()
        for section in task_type.sections:
            found |= set(_fields_in(form.fields[section], ""))
    return frozenset(found)


def _fields_in(form: Any, prefix: str) -> Iterator[str]:
    for name, field in form.fields.items():
        if hasattr(field, "fields"):
            yield from _fields_in(field, f"{prefix}{name}.")
        else:
            yield prefix + name


def _names() -> Iterator[str]:
    """Yield the names of providers of one's own, which are configured by their paths."""
    for task_type in providers.configured_task_types():
        with contextlib.suppress(*providers.FAULTS):  # reported beside this
            yield from (provider.name for provider in providers.get_providers(task_type))
