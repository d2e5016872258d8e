#!/usr/bin/env python
"""How are the project's commands run? `python manage.py <command>`, with nothing set up before."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "moviesvc.settings")
    try:
        from django.core.exceptions import ImproperlyConfigured
        from django.core.management import execute_from_command_line

        from moviesvc.run.daemons import EmbeddedError
    except ImportError:
        sys.exit("Django is not installed in this Python. Use `make run`, or .venv/bin/python.")
    if sys.argv[1:2] == ["deliver_webhooks"]:  # web and workers do it where they boot
        from moviesvc.run import lifeline

        lifeline.watch_if_asked()
    try:
        execute_from_command_line(sys.argv)
    except (ImproperlyConfigured, EmbeddedError) as problem:
        if "--traceback" in sys.argv:
            raise
        sys.exit(f"{problem}")


if __name__ == "__main__":
    main()
