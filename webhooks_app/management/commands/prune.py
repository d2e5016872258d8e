"""How does an operator end old history at once, instead of at the daily time?"""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.progress import Progress

from webhooks_app import retention
from webhooks_app.conf import webhook_settings


class Command(BaseCommand):
    """Remove finished messages, their attempts and events, in small batches."""

    help = (
        "Remove webhook messages that were finished longer ago than WEBHOOK_RETENTION_DAYS, with "
        "their attempts and events. Works in small batches that wait for nobody and hold nobody "
        "up; it may run at any time, and be stopped at any time. Pending messages stay."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        days = webhook_settings.RETENTION_DAYS
        parser.add_argument("--days", type=float, help=f"Keep so many days; default {days}.")
        parser.add_argument("--dry-run", action="store_true", help="Only count.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Prune, with a progress bar on a terminal."""
        days = options["days"]
        if days is not None and not 0 <= days <= 36_500:
            raise CommandError("--days is from 0 to 36500.", returncode=2)
        total = retention.count_prunable(days)
        if options["dry_run"]:
            self.stdout.write(f"{total} messages would go")
            return
        with Progress(console=Console(stderr=True), transient=True) as bar:
            line = bar.add_task("pruning", total=total or None)
            seen = retention.prune(
                days, on_batch=lambda gone: bar.update(line, completed=gone.messages)
            )
        self.stdout.write(
            f"removed {seen.messages} messages, {seen.deliveries} deliveries, {seen.events} events,"
            f" {seen.replays} replays, {seen.secrets} secrets"
        )
