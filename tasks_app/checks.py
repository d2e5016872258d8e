"""What does `manage.py check` say about the generation providers and the media storage?"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import DatabaseError

from tasks_app import providers


@register("tasks")
def check_providers(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report a provider that cannot be loaded or that lacks a setting."""
    found: list[CheckMessage] = []
    for network in settings.PROVIDER_ALLOW_NETWORKS:
        try:
            ipaddress.ip_network(network)
        except ValueError:
            text = f"PROVIDER_ALLOW_NETWORKS: {network} is no network."
            found.append(Error(text, id="tasks.E002"))
    for task_type in sorted(providers.configured_task_types()):
        found += [
            Error(f"GENERATION_PROVIDERS[{task_type!r}]: {text}", id="tasks.E001")
            for text in _problems(task_type)
        ]
    return found


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


def _problems(task_type: str) -> list[str]:
    try:
        provider = providers.get_provider(task_type)
    except providers.UnknownProvider as error:
        return [str(error)]
    except (ImportError, AttributeError, ValueError):
        return [f"There is no such provider. Built in are {', '.join(providers.BUILT_IN)}."]
    except (TypeError, KeyError) as error:
        return [f"Its options do not fit: {error}."]
    problems: list[str] = getattr(provider, "configuration_problems", list)()
    return problems
