"""How does an operator make a template from a workflow that was saved in ComfyUI?"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import orjson
from django.core.management.base import CommandError, CommandParser

from tasks_app.providers.comfyui import guess, templates
from tasks_app.task_types import TASK_TYPES
from webhooks_app.operators.command import OperatorCommand

#: Pairs such as ["6", "text"] are easier to read in one line.
PAIRS = re.compile(r'\[\s+("[^"\]]*"),\s+("[^"\]]*"|\d+)\s+\]')


class Command(OperatorCommand):
    """Write a template, and say what was guessed for it."""

    help = (
        "Make a workflow template for COMFYUI_WORKFLOWS from a graph that was saved with ComfyUI's "
        '"File, Export (API)". Prompt, seed, size, frames, loaders and output are guessed from the '
        "nodes' classes and titles; what was guessed and what is left to do is said."
    )
    examples = (
        ("portrait_api.json --output workflows/portrait.json", "a template named portrait"),
        ("shot_api.json --task-type video_generation", "to standard output, for a video task"),
        ("shot_api.json --output-node 58", "where several nodes save something"),
    )
    exit_codes = {
        0: "the template was written",
        1: "the file is no graph that can be run, or it cannot be read or written",
    }
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("workflow", type=Path, help="The saved graph, in the API form.")
        parser.add_argument(
            "--task-type", default="", choices=["", *TASK_TYPES], help="Default: by the output."
        )
        parser.add_argument("--output-node", default="", help="The node that saves the result.")
        parser.add_argument(
            "--output", type=Path, help="The template's file; its name is the model's."
        )
        parser.add_argument("--force", action="store_true", help="Replace that file.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Guess, say what was guessed, and write."""
        found = self._guessed(options)
        name = options["output"].stem if options["output"] else "template"
        text = PAIRS.sub(r"[\1, \2]", json.dumps(found.document, indent=2)).encode() + b"\n"
        try:
            templates.parse(name, text)
        except templates.BadTemplate as error:
            raise CommandError(str(error)) from None
        for sentence in found.guessed:
            self.stderr.write(f"guessed: {sentence}")
        for sentence in found.left:
            self.stderr.write(f"to do:   {sentence}")
        if options["output"] is None:
            self.stdout.write(text.decode(), ending="")
            return
        try:
            with options["output"].open("wb" if options["force"] else "xb") as file:
                file.write(text)
        except FileExistsError:
            raise CommandError(f"{options['output']} is there already: --force replaces it.") from (
                None
            )
        except OSError as error:
            raise CommandError(f"{options['output']}: {error.strerror}.") from None
        self.stderr.write(
            f"Wrote {options['output']}. Tasks ask for it as model {name!r}; then run"
            " `manage.py check --tag comfyui`."
        )

    @staticmethod
    def _guessed(options: dict[str, Any]) -> guess.Guess:
        try:
            graph = orjson.loads(options["workflow"].read_bytes())
            return guess.template_of(graph, options["task_type"], options["output_node"])
        except OSError as error:
            raise CommandError(f"{options['workflow']}: {error.strerror}.") from None
        except orjson.JSONDecodeError:
            raise CommandError(f"{options['workflow']} is not JSON.") from None
        except templates.BadTemplate as error:
            raise CommandError(str(error)) from None
