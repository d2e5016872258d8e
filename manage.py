#!/usr/bin/env python
"""How are the project's commands run? `python manage.py <command>`, with nothing set up before."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "moviesvc.settings")
    try:
        from django.core.exceptions import ImproperlyConfigured
        from django.core.management import execute_from_command_line
        from django.db import Error

        from moviesvc.run.daemons import EmbeddedError
    except ImportError:
        sys.exit("Django is not installed in this Python. Use `make run`, or .venv/bin/python.")
    if sys.argv[1:2] == ["deliver_webhooks"]:  # web and workers do it where they boot
        from moviesvc.run import lifeline

        lifeline.watch_if_asked()
    try:
        execute_from_command_line(sys.argv)
    except KeyboardInterrupt:
        sys.exit(130)  # the shells' code for it
    except (ImproperlyConfigured, EmbeddedError, OSError, Error) as problem:
        # Of settings, before a command is found, and of Django's own commands.
        if "--traceback" in sys.argv or (isinstance(problem, Error) and not _is_away(problem)):
            raise
        is_file = isinstance(problem, OSError) and problem.filename
        sys.exit(f"{problem.filename}: {problem.strerror}." if is_file else f"{problem}".strip())


def _is_away(problem: Exception) -> bool:
    from webhooks_app.database import why_unusable

    return why_unusable(problem) is not None


if __name__ == "__main__":
    main()
