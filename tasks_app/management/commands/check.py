"""How does an operator check the configuration? Django's own command, and on request the servers.

`check --tag comfyui` asks every ComfyUI server. Without the tag nobody is asked: Django runs the
checks before other commands too, and those may not wait for a network.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Error, Warning, register
from django.core.checks.registry import registry
from django.core.management.base import CommandError, CommandParser
from django.core.management.commands import check as django_check
from django.utils.connection import ConnectionDoesNotExist

from tasks_app import providers
from tasks_app.providers.base import Provider
from webhooks_app.operators.command import OperatorCommand

COMFYUI = "comfyui"


class Command(OperatorCommand, django_check.Command):
    """Django's checks, and those of ComfyUI's servers where their tag is named."""

    help = (
        "Say what is wrong with the configuration. With --tag comfyui every server of COMFYUI_URLS "
        "is asked as well whether it has the nodes and models of the workflow templates."
    )
    examples = (
        ("", "everything that can be seen without asking anybody"),
        ("--tag comfyui", "only the ComfyUI servers and their templates"),
        ("--deploy --fail-level WARNING", "before a deploy"),
    )
    exit_codes = {
        0: "nothing that matters was found",
        1: "something was found",
        2: "there is no such app or database",
    }

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare Django's options; each has a word on it."""
        super().add_arguments(parser)
        for action in parser._actions:
            action.help = action.help or "Only these apps."

    def handle(self, *app_labels: Any, **options: Any) -> None:
        """Check; the servers only where that is asked for."""
        if options["list_tags"] or COMFYUI in (options["tags"] or ()):
            register(check_comfyui, COMFYUI)
        try:
            super().handle(*app_labels, **options)
        except (LookupError, ConnectionDoesNotExist) as error:
            raise CommandError(f"There is no such thing to check: {error}", returncode=2) from None
        finally:
            registry.registered_checks.discard(check_comfyui)


def check_comfyui(**kwargs: Any) -> list[CheckMessage]:
    """Ask the servers of each provider that is ComfyUI's."""
    from tasks_app.providers.comfyui import checks
    from tasks_app.providers.comfyui.provider import ComfyUIProvider

    found: list[CheckMessage] = []
    seen = []
    for provider in _configured():
        if not isinstance(provider, ComfyUIProvider) or provider in seen:
            continue
        seen.append(provider)
        faults = provider.configuration_problems()
        found += [Error(text, id="comfyui.E001") for text in faults]
        for finding in [] if faults else checks.findings(provider):
            kind, number = (
                (Error, "comfyui.E002") if finding.is_error else (Warning, "comfyui.W001")
            )
            found.append(kind(finding.text, id=number))
    return found


def _configured() -> Iterator[Provider]:
    """Yield the providers of every chain; plain checks report what cannot be loaded."""
    for task_type in sorted(providers.configured_task_types()):
        with contextlib.suppress(*providers.FAULTS):
            yield from providers.get_providers(task_type)
