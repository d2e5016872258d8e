"""How does an operator send webhooks again from the command line?"""

from __future__ import annotations

import getpass
import sys
from typing import Any
from uuid import UUID

from django.core.management.base import CommandError, CommandParser

from webhooks_app.egress import EgressDenied
from webhooks_app.models import MessageStatus, ReplayJob
from webhooks_app.operators import replay
from webhooks_app.operators.command import INTERRUPTED, OperatorCommand, progress
from webhooks_app.outbox import ANY_STATUS, InvalidFilter, MessageFilters, event_types
from webhooks_app.shown import safe_url

#: Filter -> its option, where that has another name.
OPTIONS = {"error_code": "error", "ids": "id", "request_id": "request"}
NOT_ALL_DELIVERED = 1
NOTHING_FOUND = 3


class Command(OperatorCommand):
    help = (
        "Send webhook messages again: the same webhook-id, the same bytes, a fresh signature."
        "\n\nWithout --status it means dead letters (with --id, any status). All filters must "
        "hold. Messages under way are left alone; what is due already is not doubled. The engines "
        "do the sending, so they must run; without --wait the command only sets it going."
    )
    examples = (
        ("--since 2025-01-15T14:00 --dry-run", "what died since 14:00 UTC?"),
        ('--host hooks.example.org --rate 20 --reason "outage" --yes --wait', "send it, gently"),
        ("--id 4711 --to https://backup.example.org/in --yes", "one message, to another URL"),
        (
            "--status delivered --task 7d9f1b0e-6a3c-4a5e-9b70-0f3f6f2f7c11 --yes",
            "the receiver lost it",
        ),
        ("--cancel 5dd36c6d-24b2-4f6e-8905-9eb7deb53bf9", "no, stop that one"),
    )
    exit_codes = {
        0: "all done (with --wait: all delivered)",
        1: "with --wait: not all were delivered",
        2: "wrong usage, or refused: by the egress policy, or by nobody to confirm it",
        3: "nothing matched, or there is no such replay to cancel",
        INTERRUPTED: "Ctrl-C; a replay that was started goes on",
    }

    def add_arguments(self, parser: CommandParser) -> None:
        statuses = [*MessageStatus.values, ANY_STATUS]
        known = ", ".join(event_types()) or "any"
        which = parser.add_argument_group("which messages")
        which.add_argument("--status", default="", choices=statuses, help="Default: dead.")
        which.add_argument("--task", default="", help="Id of their task, or its beginning.")
        which.add_argument("--project", default="", help="Their project.")
        which.add_argument("--host", default="", help="The receiver: host, host:port or URL.")
        which.add_argument("--request", default="", help="X-Request-ID that led to them.")
        which.add_argument("--metadata", default="", metavar="KEY=VALUE", help="Of their task.")
        which.add_argument("--event", default="", help=f"Event type: {known}.")
        which.add_argument("--error", default="", help="Error code of the last attempt.")
        which.add_argument("--since", help="Written at or after (ISO 8601; UTC without a zone).")
        which.add_argument("--until", help="Written before.")
        which.add_argument("--id", action="append", help="Number or msg_...; repeatable.")
        how = parser.add_argument_group("how")
        how.add_argument("--to", default="", metavar="URL", help="Send the events there instead.")
        how.add_argument("--rate", type=float, help="At most so many messages a second.")
        how.add_argument("--reason", default="", help="Why; goes on record.")
        how.add_argument("--dry-run", action="store_true", help="Only count and show the oldest.")
        how.add_argument("--yes", action="store_true", help="Do not ask.")
        how.add_argument("--wait", action="store_true", help="Wait until all have an outcome.")
        how.add_argument("--cancel", type=UUID, metavar="REPLAY", help="End this one instead.")
        how.add_argument("--timeout", type=float, default=3600.0, help="Of --wait, in seconds.")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["cancel"]:
            self._cancel(options["cancel"], options["reason"])
            return
        try:
            filters = _filters(options)
            seen = replay.preview(filters)
            self._show(seen)
            if not seen.count:
                sys.exit(NOTHING_FOUND)
            if options["dry_run"]:
                return
            self._confirm(options)
            job = replay.start(
                filters,
                to_url=options["to"],
                rate=options["rate"],
                reason=options["reason"],
                requested_by=_operator(),
                source="command",
            )
        except (InvalidFilter, EgressDenied, ValueError) as refused:
            raise CommandError(str(refused), returncode=2) from None
        self.stdout.write(f"replay {job.id} started: {job.total} messages")
        if options["wait"]:
            sys.exit(self._wait(job, options["timeout"]))

    def _show(self, seen: replay.Preview) -> None:
        count = f"{seen.count}" if seen.is_exact else f"more than {seen.count}"
        self.stdout.write(f"{count} messages match")
        for message in seen.sample:
            self.stdout.write(
                f"  {message.pk}  {message.status:10}  {message.event.event_type:15}"
                f"  {message.last_error_code or '-':12}  {safe_url(message.url)}"
            )
        if seen.count > len(seen.sample):
            self.stdout.write("  ...")

    def _confirm(self, options: dict[str, Any]) -> None:
        if options["yes"]:
            return
        if not sys.stdin.isatty():
            raise CommandError(
                "Cannot ask without a terminal: give --yes (or --dry-run).", returncode=2
            )
        if input("Send them again? [y/N] ").strip().lower() not in ("y", "yes"):
            raise CommandError("Nothing was sent.", returncode=2)

    def _cancel(self, replay_id: UUID, reason: str) -> None:
        try:
            job = ReplayJob.objects.get(pk=replay_id)
            job = replay.cancel(job, requested_by=_operator(), reason=reason)
        except (ReplayJob.DoesNotExist, replay.NotRunning) as refused:
            raise CommandError(f"Nothing to cancel: {refused}", returncode=NOTHING_FOUND) from None
        self.stdout.write(
            f"replay {job.id} cancelled: {job.started_count} of {job.total} messages were made due"
        )

    def _wait(self, job: ReplayJob, timeout: float) -> int:
        try:
            with progress("delivered", job.total) as bar:
                last = replay.wait_for(job, lambda seen: bar.moved(seen.delivered), timeout)
        except KeyboardInterrupt:
            text = f"It goes on without this command; to end it: replay_webhooks --cancel {job.id}"
            raise CommandError(text, returncode=INTERRUPTED) from None
        self.stdout.write(
            f"{last.delivered} delivered, {last.dead} dead, {last.pending} pending, "
            f"{last.ended_otherwise} ended otherwise, {last.skipped} left alone, "
            f"{last.left} not reached"
        )
        return 0 if last.is_all_delivered else NOT_ALL_DELIVERED


def _operator() -> str:
    return f"command {getpass.getuser()}"


def _filters(options: dict[str, Any]) -> MessageFilters:
    names = ("status", "task", "project", "host", "event", "metadata", "since", "until")
    values = {name: options[name] for name in names}
    for name, option in OPTIONS.items():
        values[name] = options[option]
    try:
        return MessageFilters.of(values)
    except InvalidFilter as refused:
        option = OPTIONS.get(refused.name, refused.name)
        raise CommandError(f"--{option} {refused.message}", returncode=2) from None
