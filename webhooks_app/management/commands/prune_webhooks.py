"""How does an operator delete old history now, before the daily run does?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandParser

from webhooks_app import outbox
from webhooks_app.conf import webhook_settings
from webhooks_app.notation import counted
from webhooks_app.operators import record
from webhooks_app.operators.command import (
    INTERRUPTED,
    OperatorCommand,
    add_reason,
    confirm,
    number,
    operator,
    progress,
    reason_of,
)

MESSAGE = "message"


class Command(OperatorCommand):
    help = (
        "Remove webhook messages that were finished more than WEBHOOKS['RETENTION_DAYS'] days "
        "ago, with their attempts and events. Works in small batches that wait for nobody and hold "
        "nobody up; it may run at any time, and be stopped at any time. Pending messages stay."
    )
    examples = (
        ("--dry-run", "how many would go?"),
        ('--reason "before the move"', "what the daily sweep would do, now, after a question"),
        ('--days 7 --reason "the disk is full" --yes', "keep a week only"),
    )
    exit_codes = {
        0: "done (or counted)",
        1: "the database refused, or the storage of media; it says why",
        2: "wrong usage, no reason, or nobody said yes; nothing is gone",
        INTERRUPTED: "Ctrl-C; what is gone is gone",
    }

    def add_arguments(self, parser: CommandParser) -> None:
        days = webhook_settings.RETENTION_DAYS
        parser.add_argument(
            "--days", type=number(0, 36_500), help=f"Keep so many days; default {days}."
        )
        add_reason(parser)
        parser.add_argument("--dry-run", action="store_true", help="Only count.")
        parser.add_argument("--yes", action="store_true", help="Do not ask.")

    def handle(self, *args: Any, **options: Any) -> None:
        days = options["days"]
        reason = "" if options["dry_run"] else reason_of(options)
        found = self.count(days, options)
        if options["dry_run"]:
            for what, total in found.items():
                self.stdout.write(f"{counted(total, what)} would go")
            return
        told = " and ".join(counted(total, what) for what, total in found.items())
        confirm(f"Remove {told} for good?", options, otherwise="Nothing was removed.")
        kept = "" if days is None else f", older than {days:g} days"
        # Before anything goes: who stops it half-way did it all the same.
        record.note(operator(), "prune", f"{told}{kept}", reason)
        self.remove(days, found)

    def count(self, days: float | None, options: dict[str, Any]) -> dict[str, int]:
        """Return how many of what would go, by its name in the singular."""
        return {MESSAGE: outbox.count_prunable(days)}

    def remove(self, days: float | None, found: Mapping[str, int]) -> None:
        """Remove what was counted."""
        if (total := found.get(MESSAGE)) is None:
            return
        with progress("pruning", total) as bar:
            seen = outbox.prune(days, on_batch=lambda gone: bar.moved(gone.messages))
        self.stdout.write(
            f"removed {counted(seen.messages, MESSAGE)}, {counted(seen.deliveries, 'attempt')},"
            f" {counted(seen.events, 'event')}, {counted(seen.replays, 'replay')},"
            f" {counted(seen.secrets, 'secret')}"
        )
