"""What do operators' commands have in common? The form of their help, their errors and progress.

`--help` says what a command does, shows examples to paste, and explains every exit code. A database
that cannot be used gives one sentence. A progress bar is drawn on a terminal only; elsewhere a
plain line is written from time to time.
"""

from __future__ import annotations

import os
import sys
import textwrap
import time
from argparse import RawDescriptionHelpFormatter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from django.core.management.base import (
    BaseCommand,
    CommandError,
    CommandParser,
    DjangoHelpFormatter,
)
from django.db import Error
from psycopg import errors
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from webhooks_app.database import why_unusable

NO_DATABASE = 4
INTERRUPTED = 130  # the shells' code for Ctrl-C
CLOSED_PIPE = 141  # the shells' code for SIGPIPE
_NOT_MIGRATED = (errors.UndefinedTable, errors.UndefinedColumn)

#: Without a terminal, a line is written at most this often.
PLAIN_SECONDS = 10.0


class _HelpFormatter(DjangoHelpFormatter, RawDescriptionHelpFormatter):
    """Keeps the line breaks of descriptions, and lists Django's own options last."""


class OperatorCommand(BaseCommand):
    """A command whose help has examples and exit codes."""

    #: Django's own options work, but their twenty lines of help would hide ours.
    suppressed_base_arguments = {
        *("--version", "--verbosity", "--settings", "--pythonpath", "--traceback"),
        *("--no-color", "--force-color", "--skip-checks"),
    }
    #: Arguments that can be pasted after `manage.py`, each with its purpose.
    examples: Sequence[tuple[str, str]] = ()
    #: Exit code -> meaning. 0 is always there.
    exit_codes: Mapping[int, str] = {}

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run; a missing database and Ctrl-C end in one sentence and an exit code."""
        try:
            said = super().execute(*args, **options)
            sys.stdout.flush()  # here, not when Python ends: a closed pipe is then caught
            return said
        except KeyboardInterrupt:
            raise CommandError("Stopped.", returncode=INTERRUPTED) from None
        except BrokenPipeError:  # whoever read it has enough, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(CLOSED_PIPE)
        except Error as error:
            if reason := why_unusable(error):
                text = f"{reason} It says: {str(error).strip()}"
            elif isinstance(error.__cause__, _NOT_MIGRATED):
                text = (
                    "The database is not set up, or older than this program: run"
                    " `manage.py migrate` first (`manage.py run` does it by itself)."
                )
            else:
                raise
            raise CommandError(text, returncode=NO_DATABASE) from error

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        kwargs.setdefault("formatter_class", _HelpFormatter)
        kwargs.setdefault("epilog", self._epilog(subcommand))
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.description = "\n\n".join(
            textwrap.fill(part, 92) for part in str(self.help).split("\n\n")
        )
        return parser

    def _epilog(self, subcommand: str) -> str:
        examples = [
            f"  # {purpose}\n  python manage.py {subcommand} {arguments}".rstrip()
            for arguments, purpose in self.examples
        ]
        meanings = {**self.exit_codes, NO_DATABASE: "the database is away, or not set up"}
        codes = [f"  {code:<4} {meaning}" for code, meaning in sorted(meanings.items())]
        return "\n".join(["Examples:", *examples, "", "Exit codes:", *codes])


class Bar:
    """Shows the progress of some work; `moved` takes the total done so far."""

    def __init__(self, title: str, total: int | None, rich_bar: Progress | None) -> None:
        self._title, self._total, self._rich = title, total, rich_bar
        self._line = rich_bar.add_task(title, total=total) if rich_bar else None
        self._said_at = time.monotonic()

    def moved(self, done: int) -> None:
        if self._rich and self._line is not None:
            self._rich.update(self._line, completed=done)
        elif time.monotonic() - self._said_at >= PLAIN_SECONDS:
            self._said_at = time.monotonic()
            print(f"{self._title}: {done} of {self._total or '?'}", file=sys.stderr, flush=True)


@contextmanager
def progress(title: str, total: int | None) -> Iterator[Bar]:
    """Show a bar on standard error while the block runs, where that is a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Bar(title, total, None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as rich_bar:
        yield Bar(title, total, rich_bar)
