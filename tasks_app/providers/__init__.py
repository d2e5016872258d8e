"""Which provider makes which type of task? The registry, fed by one setting.

``settings.GENERATION_PROVIDERS`` maps a task type to a name of `BUILT_IN` or a dotted path, or
to ``{"provider": name or path, "options": {...}}``; options are the provider's keyword
arguments. A list of these is a chain: the next one makes what the one before could not even begin.
"""

from __future__ import annotations

import json
from functools import lru_cache
from importlib import import_module
from typing import Any, cast

from tasks_app.providers.base import Provider

__all__ = [
    "FAULTS",
    "UnknownProvider",
    "accepts",
    "base",
    "configured_task_types",
    "get_provider",
    "get_providers",
    "is_served",
    "networks",
    "prices",
    "provider_named",
    "proxies",
]

BUILT_IN = {
    "previz": "tasks_app.providers.previz.provider.PrevizProvider",
    "openai": "tasks_app.providers.remote.openai_compatible.OpenAICompatibleProvider",
    "replicate": "tasks_app.providers.remote.replicate.ReplicateProvider",
    "fal": "tasks_app.providers.remote.fal.FalProvider",
    "comfyui": "tasks_app.providers.comfyui.provider.ComfyUIProvider",
    "cog": "tasks_app.providers.remote.cog.CogProvider",
}


class UnknownProvider(LookupError):
    """No provider is configured under that task type or name."""


#: What `get_provider` raises for a wrong entry of the setting.
FAULTS = (UnknownProvider, ImportError, AttributeError, ValueError, TypeError, KeyError)


def get_provider(task_type: str) -> Provider:
    """Return the provider configured for ``task_type``, of a chain the first.

    Raises:
        UnknownProvider: the type is not configured, or its provider cannot make it.
    """
    return get_providers(task_type)[0]


def get_providers(task_type: str) -> list[Provider]:
    """Return the chain of providers of a type, one instance per configuration.

    Raises:
        UnknownProvider: the type is not configured, or one of them cannot make it.
    """
    chain = []
    for path, options in _configured(task_type):
        provider = _instance(path, json.dumps(options, sort_keys=True))
        if task_type not in provider.task_types:
            raise UnknownProvider(f"Provider {provider.name} does not make {task_type}.")
        chain.append(provider)
    return chain


def provider_named(task_type: str, name: str) -> Provider | None:
    """Return the provider of that name in a type's chain, None when it was taken out."""
    try:
        chain = get_providers(task_type)
    except UnknownProvider:
        return None
    return next((provider for provider in chain if provider.name == name), None)


def is_served(task_type: str) -> bool:
    """Say whether a type has a provider that can be loaded and makes it."""
    try:
        return bool(get_providers(task_type))
    except FAULTS:
        return False


def configured_task_types() -> frozenset[str]:
    """Return the task types that have a provider."""
    return frozenset(_setting())


def _setting() -> dict[str, Any]:
    # Imported here: a render's child process imports this package without any settings.
    from django.conf import settings

    return cast(dict[str, Any], settings.GENERATION_PROVIDERS)


def _configured(task_type: str) -> list[tuple[str, dict[str, Any]]]:
    entries = _setting().get(task_type) or []
    if not entries:
        raise UnknownProvider(f"No provider is configured for {task_type}.")
    return [
        (entry, {}) if isinstance(entry, str) else (entry["provider"], entry.get("options", {}))
        for entry in (entries if isinstance(entries, list) else [entries])
    ]


@lru_cache(maxsize=64)
def _instance(path: str, options: str) -> Provider:
    module, _, name = BUILT_IN.get(path, path).rpartition(".")
    factory = getattr(import_module(module), name)
    return cast(Provider, factory(**json.loads(options)))
