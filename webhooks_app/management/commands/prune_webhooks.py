"""How does an operator delete old history now, before the daily run does?"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from webhooks_app import outbox
from webhooks_app.conf import webhook_settings
from webhooks_app.operators.command import INTERRUPTED, OperatorCommand, number, progress


class Command(OperatorCommand):
    help = (
        "Remove webhook messages that were finished more than WEBHOOKS['RETENTION_DAYS'] days "
        "ago, with their attempts and events. Works in small batches that wait for nobody and hold "
        "nobody up; it may run at any time, and be stopped at any time. Pending messages stay."
    )
    examples = (
        ("--dry-run", "how many would go?"),
        ("", "what the daily sweep would do, now"),
        ("--days 7", "the disk is full: keep a week only"),
    )
    exit_codes = {
        0: "done (or counted)",
        1: "the database refused, or the storage of media; it says why",
        2: "wrong usage",
        INTERRUPTED: "Ctrl-C; what is gone is gone",
    }

    def add_arguments(self, parser: CommandParser) -> None:
        days = webhook_settings.RETENTION_DAYS
        parser.add_argument(
            "--days", type=number(0, 36_500), help=f"Keep so many days; default {days}."
        )
        parser.add_argument("--dry-run", action="store_true", help="Only count.")

    def handle(self, *args: Any, **options: Any) -> None:
        self.prune_messages(options["days"], options)

    def prune_messages(self, days: float | None, options: dict[str, Any]) -> None:
        total = outbox.count_prunable(days)
        if options["dry_run"]:
            self.stdout.write(f"{total} messages would go")
            return
        with progress("pruning", total) as bar:
            seen = outbox.prune(days, on_batch=lambda gone: bar.moved(gone.messages))
        self.stdout.write(
            f"removed {seen.messages} messages, {seen.deliveries} deliveries, {seen.events} events,"
            f" {seen.replays} replays, {seen.secrets} secrets"
        )
