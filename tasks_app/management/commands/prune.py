"""How does an operator delete old history and media now, before the daily run does?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from tasks_app.media.mark import NotOurs
from tasks_app.upkeep import prune
from tasks_app.upkeep.orphans import remove_orphans
from webhooks_app.management.commands.prune_webhooks import Command as PruneMessages
from webhooks_app.notation import counted
from webhooks_app.operators.command import progress

FILE = "file"


class Command(PruneMessages):
    """`prune_webhooks`, and in addition the files of tasks."""

    help = (
        "Remove webhook messages with their attempts and events, and the files of tasks, that "
        "were finished longer ago than WEBHOOK_RETENTION_DAYS and MEDIA_RETENTION_DAYS. The tasks "
        "themselves stay. Works in small batches that hold nobody up; it may run, and be stopped, "
        "at any time. Files that no task owns go too. Workers do the same once a day."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--only", choices=["messages", "media"], help="Leave the other.")

    def count(self, days: float | None, options: dict[str, Any]) -> dict[str, int]:
        """Return how many messages and files would go, or only one of the two."""
        found = {} if options["only"] == "media" else super().count(days, options)
        if options["only"] != "messages":
            found[FILE] = prune.prunable(days).count()
        return found

    def remove(self, days: float | None, found: Mapping[str, int]) -> None:
        """Remove messages first, then files."""
        super().remove(days, found)
        if FILE not in found:
            return
        try:
            self._remove_files(days, found[FILE])
        except (NotOurs, OSError) as error:
            raise CommandError(f"Files stay: {error or type(error).__name__}") from None

    def _remove_files(self, days: float | None, total: int) -> None:
        with progress("removing files", total) as bar:
            seen = prune.prune(days, on_batch=lambda gone: bar.moved(gone.files))
        lost = sum(remove_orphans())
        kept = settings.MEDIA_RETENTION_DAYS if days is None else days
        self.stdout.write(
            f"removed {counted(seen.files, FILE)} ({seen.size_bytes:,} bytes) of tasks that ended"
            f" more than {kept:g} days ago, {counted(lost, FILE)} that no task owns,"
            f" {counted(seen.keys, 'idempotency key')}"
        )
