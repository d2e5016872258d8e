"""How does an operator declare that the media storage belongs to this installation?"""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import CommandError, CommandParser

from tasks_app.media import mark
from webhooks_app.operators.command import (
    OperatorCommand,
    add_reason,
    confirm,
    operator,
    reason_of,
)


class Command(OperatorCommand):
    help = (
        "Make the media storage this installation's, whoever's mark it carries. From then on the "
        "daily sweep removes files in it that no task of this database owns; another installation "
        "that uses the same storage deletes nothing any more. After a restore, and after a copy "
        "of the database was at work on the same storage."
    )
    examples = (
        ("--dry-run", "whose is it now?"),
        ('--reason "restored after the fire"', "adopt it, after a question"),
    )
    exit_codes = {
        0: "it is ours",
        1: "the storage cannot be asked, or a dry run found that it is not ours",
        2: "no reason was given, or nobody said yes",
    }

    def add_arguments(self, parser: CommandParser) -> None:
        add_reason(parser)
        parser.add_argument("--yes", action="store_true", help="Do not ask.")
        parser.add_argument("--dry-run", action="store_true", help="Only say whose it is.")

    def handle(self, *args: Any, **options: Any) -> None:
        reason = "" if options["dry_run"] else reason_of(options)
        try:
            is_ours = self._is_ours()
            if options["dry_run"]:
                sys.exit(0 if is_ours else 1)
            if is_ours:
                return
            self.stdout.write("Files in it that no task of this database owns will be removed.")
            confirm("Is nobody else using it?", options, otherwise="Nothing was changed.")
            mark.adopt(operator(), reason)
        except OSError as error:
            raise CommandError(f"The storage cannot be asked: {error}") from None
        self.stdout.write("The media storage is this installation's now.")

    def _is_ours(self) -> bool:
        try:
            mark.require_ours(is_check=True)
        except mark.NotOurs as error:
            self.stdout.write(str(error))
            return False
        self.stdout.write("The media storage is this installation's.")
        return True
