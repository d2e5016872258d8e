"""What do operators' commands have in common? The form of their help, their errors and progress.

`--help` says what a command does, shows examples to paste, and explains every exit code. Whatever
goes wrong is told in one sentence, never as a traceback, which may quote a row; `--traceback` shows
it. A progress bar is drawn on a terminal only; elsewhere a plain line is written from time to time.
"""

from __future__ import annotations

import getpass
import os
import sys
import textwrap
import time
import traceback
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import (
    BaseCommand,
    CommandError,
    CommandParser,
    DjangoHelpFormatter,
)
from django.db import DataError, IntegrityError
from psycopg import errors
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from webhooks_app.database import why_unusable

WRONG_USAGE = 2
NO_DATABASE = 4
UNEXPECTED = 70  # EX_SOFTWARE of sysexits.h
INTERRUPTED = 130  # the shells' code for Ctrl-C
CLOSED_PIPE = 141  # the shells' code for SIGPIPE
#: Characters of one argument: a URL's, the longest that means something.
LONGEST = 8_192
_NOT_MIGRATED = (errors.UndefinedTable, errors.UndefinedColumn)

#: Without a terminal, a line is written at most this often.
PLAIN_SECONDS = 10.0


N = TypeVar("N", int, float)


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
        """Run; whatever goes wrong, and Ctrl-C, ends in one sentence and an exit code."""
        try:
            _let_any_text_out()
            _require_texts([*args, *options.values()])
            try:
                return super().execute(*args, **options)
            finally:
                if sys.stdout is not None:  # it was closed (`>&-`)
                    sys.stdout.flush()  # here, not when Python ends: a closed pipe is then caught
        except KeyboardInterrupt:
            raise CommandError("Stopped.", returncode=INTERRUPTED) from None
        except BrokenPipeError:  # whoever read it has enough, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(CLOSED_PIPE)
        except CommandError:
            raise
        except Exception as error:
            if options.get("traceback"):
                raise
            raise _refusal(error) from error

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        kwargs.setdefault("formatter_class", _HelpFormatter)
        kwargs.setdefault("epilog", self._epilog(subcommand))
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.description = "\n\n".join(
            textwrap.fill(part, 92) for part in str(self.help).split("\n\n")
        )
        usual = parser.error

        def error(message: str) -> Any:
            try:
                usual(message[:500])  # which may repeat the argument
            except CommandError as refused:  # called by a program, not from a shell
                refused.returncode = WRONG_USAGE
                raise

        parser.error = error  # type: ignore[method-assign]
        return parser

    def _epilog(self, subcommand: str) -> str:
        examples = [
            f"  # {purpose}\n  python manage.py {subcommand} {arguments}".rstrip()
            for arguments, purpose in self.examples
        ]
        meanings = {
            **self.exit_codes,
            NO_DATABASE: "the database is away, or not set up",
            UNEXPECTED: "a fault of the program; --traceback shows all of it",
        }
        codes = [f"  {code:<4} {meaning}" for code, meaning in sorted(meanings.items())]
        return "\n".join(["Examples:", *examples, "", "Exit codes:", *codes])


def number(least: float, most: float) -> Callable[[str], float]:
    """Return the type of an argument that is a number from ``least`` to ``most``."""
    return _within(float, least, most, "a number")


def whole(least: int, most: int) -> Callable[[str], int]:
    """Return the type of an argument that is a whole number from ``least`` to ``most``."""
    return _within(int, least, most, "a whole number")


def _within(kind: Callable[[str], N], least: float, most: float, what: str) -> Callable[[str], N]:
    def read(text: str) -> N:
        value: N | None
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:  # not a number (nan) is not within
            raise ArgumentTypeError(f"must be {what} from {least:.16g} to {most:.16g}")
        return value

    return read


def _let_any_text_out() -> None:
    """Print what the terminal's encoding lacks as escapes, and bytes that are no text."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # closed, or not a stream of Python's
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _require_texts(values: Iterable[Any]) -> None:
    """Refuse what no column and no file name takes: NUL, bytes that are not UTF-8, and a book."""
    for value in values:
        if isinstance(value, (list, tuple)):
            _require_texts(value)
        elif isinstance(value, (str, Path)):
            text = str(value)
            if len(text) > LONGEST:
                told = f"{text[:30]}... has {len(text):,}"
                raise CommandError(
                    f"An argument has at most {LONGEST:,} characters; {told}.",
                    returncode=WRONG_USAGE,
                )
            if "\x00" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
                shown = ascii(text[:50])
                raise CommandError(
                    f"Arguments are text in UTF-8, without NUL; this is not: {shown}",
                    returncode=WRONG_USAGE,
                )


def _refusal(error: Exception) -> CommandError:
    """Return what to say of an error, without the row or the secret that its text may quote."""
    if reason := why_unusable(error):
        text = f"{reason} It says: {str(error).strip()}"
        return CommandError(text, returncode=NO_DATABASE)
    if isinstance(error.__cause__, _NOT_MIGRATED):
        text = (
            "The database is not set up, or older than this program: run"
            " `manage.py migrate` first (`manage.py run` does it by itself)."
        )
        return CommandError(text, returncode=NO_DATABASE)
    if isinstance(error, (IntegrityError, DataError)):
        # The first line of what PostgreSQL says; the row is in its details.
        said = getattr(getattr(error.__cause__, "diag", None), "message_primary", None)
        text = f"The database refuses a value: {said or type(error).__name__}."
        return CommandError(text, returncode=WRONG_USAGE)
    if isinstance(error, ImproperlyConfigured):
        return CommandError(str(error))
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return CommandError(f"{place}{error.strerror or type(error).__name__}.")
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = (
        f"A fault of the program: {type(error).__name__} in {Path(frame.filename).name}, line"
        f" {frame.lineno}. Run it once more with --traceback to see all of it."
    )
    return CommandError(text, returncode=UNEXPECTED)


def operator() -> str:
    """Return who runs a command, for the operators' record."""
    try:
        return f"command {getpass.getuser()}"
    except (KeyError, OSError):  # a container's user that no passwd file knows
        return f"command uid {os.getuid()}"


def add_reason(parser: ArgumentParser) -> None:
    parser.add_argument("--reason", default="", help="Why; needed, and kept on record.")


def reason_of(options: Mapping[str, Any]) -> str:
    """Return the reason that was given.

    Raises:
        CommandError: exit code 2, without one.
    """
    reason = str(options["reason"] or "").strip()
    if not reason:
        text = 'Say why, with --reason "...": it goes on the operators\' record, with your login.'
        raise CommandError(text, returncode=WRONG_USAGE)
    return reason


def confirm(question: str, options: Mapping[str, Any], *, otherwise: str) -> None:
    """Ask on the terminal, unless ``--yes`` was given.

    Args:
        otherwise: what to say to a "no", for example "Nothing was removed."

    Raises:
        CommandError: exit code 2, for a "no", or where nobody can be asked.
    """
    if options["yes"]:
        return
    if not sys.stdin.isatty():
        text = "Cannot ask without a terminal: give --yes (or --dry-run)."
        raise CommandError(text, returncode=2)
    if input(f"{question} [y/N] ").strip().lower() not in ("y", "yes"):
        raise CommandError(otherwise, returncode=2)


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
