"""How does an operator send webhooks again, or set them aside, from the command line?"""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.core.management.base import CommandError, CommandParser

from webhooks_app.egress import EgressDenied, check_url
from webhooks_app.models import MessageStatus, ReplayJob
from webhooks_app.notation import counted
from webhooks_app.operators import moments, replay, replay_preview, replay_refusals, set_aside
from webhooks_app.operators.command import (
    INTERRUPTED,
    OperatorCommand,
    confirm,
    number,
    operator,
    progress,
    reason_of,
)
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
        "hold. It shows first what that means, and asks. Messages under way are left alone; what "
        "is due already is not doubled. The engines do the sending, so they must run; without "
        "--wait the command only sets it going. With --to the events go to that URL instead, as "
        'messages of their own, and the dead letters become "replayed".'
    )
    examples = (
        ("--since 14:00 --zone Europe/Berlin --dry-run", "what died since 14:00 today?"),
        ('--host hooks.example.org --rate 20 --reason "outage" --wait', "send it, gently"),
        (
            '--project film --to https://backup.example.org/in --reason "they moved"',
            "to another URL",
        ),
        (
            "--status delivered --task 7d9f1b0e-6a3c-4a5e-9b70-0f3f6f2f7c11 --reason lost",
            "the receiver lost it",
        ),
        ('--set-aside --host old.example.org --reason "it is gone"', "nobody will want these"),
        (
            '--cancel 5dd36c6d-24b2-4f6e-8905-9eb7deb53bf9 --reason "wrong host"',
            "no, stop that one",
        ),
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
        which.add_argument("--since", default="", help=f"Written at or after: {moments.FORMS}.")
        which.add_argument("--until", default="", help="Written before.")
        which.add_argument(
            "--zone", default="", help="Of those times: Europe/Berlin. Default: UTC."
        )
        which.add_argument("--id", action="append", help="Number or msg_...; repeatable.")
        how = parser.add_argument_group("how")
        how.add_argument("--to", default="", metavar="URL", help="Send the events there instead.")
        how.add_argument(
            "--all-projects",
            action="store_true",
            help="Yes, --to may receive the events of several projects.",
        )
        how.add_argument(
            "--rate", type=number(0.01, replay.MAX_RATE), help="At most so many messages a second."
        )
        how.add_argument("--reason", default="", help="Why; goes on record, and is required.")
        how.add_argument("--dry-run", action="store_true", help="Only show what it means.")
        how.add_argument("--yes", action="store_true", help="Do not ask.")
        how.add_argument("--wait", action="store_true", help="Wait until all have an outcome.")
        how.add_argument(
            "--timeout", type=number(0, 604_800), default=3600.0, help="Of --wait, in seconds."
        )
        instead = parser.add_argument_group("instead of sending")
        instead.add_argument(
            "--set-aside", action="store_true", help="They are no dead letters any more."
        )
        instead.add_argument(
            "--take-back", action="store_true", help="What was set aside is a dead letter again."
        )
        instead.add_argument("--cancel", type=UUID, metavar="REPLAY", help="End this replay.")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["dry_run"]:
            options["reason"] = reason_of(options)
        try:
            if options["cancel"]:
                self._cancel(options["cancel"], options["reason"])
            elif options["set_aside"] or options["take_back"]:
                self._set_aside(_filters(options), options)
            else:
                self._replay(_filters(options), options)
        except replay_refusals.SeveralProjects as refused:
            hint = "Name one with --project, or say --all-projects if that is meant."
            raise CommandError(f"Refused: {refused}. {hint}", returncode=2) from None
        except (InvalidFilter, EgressDenied, ValueError, replay_refusals.ReplayRefused) as refused:
            raise CommandError(str(refused), returncode=2) from None

    def _replay(self, filters: MessageFilters, options: dict[str, Any]) -> None:
        if options["to"]:
            check_url(options["to"])
        seen = replay_preview.preview(filters, to_url=options["to"])
        self._show(seen)
        if options["dry_run"]:
            if seen.mixes_projects and not options["all_projects"]:
                self.stdout.write("One URL would receive several projects' events: see --to.")
            return
        if seen.mixes_projects and not options["all_projects"]:
            raise replay_refusals.SeveralProjects(seen.projects)
        confirm("Send them again?", options, otherwise="Nothing was done.")
        job = replay.start(
            filters,
            to_url=options["to"],
            all_projects=options["all_projects"],
            shown=seen,
            rate=options["rate"],
            reason=options["reason"],
            requested_by=operator(),
            source="command",
        )
        self.stdout.write(f"replay {job.id} started: {counted(job.total, 'message')}")
        if options["wait"]:
            sys.exit(self._wait(job, options["timeout"]))

    def _set_aside(self, filters: MessageFilters, options: dict[str, Any]) -> None:
        is_undone = options["take_back"]
        status = MessageStatus.SET_ASIDE if is_undone else MessageStatus.DEAD
        if (options["set_aside"] and is_undone) or filters.status not in ("", status):
            kind = "what was set aside" if is_undone else "dead letters"
            raise ValueError(f"This is about {kind} only: leave out the other option.")
        filters = replace(filters, status=str(status))
        self._show(replay_preview.preview(filters), where_to=False)
        if options["dry_run"]:
            return
        confirm(
            "Take them back?" if is_undone else "Set them aside?",
            options,
            otherwise="Nothing was done.",
        )
        done = set_aside.many(
            filters, actor=operator(), reason=options["reason"], is_undone=is_undone
        )
        self.stdout.write(f"{done} {'are dead letters again' if is_undone else 'set aside'}")

    def _show(self, seen: replay_preview.Preview, *, where_to: bool = True) -> None:
        """Print what matches; end the program where that is nothing."""
        beyond = "" if seen.is_exact else "more than "
        verb = "matches" if seen.is_exact and seen.count == 1 else "match"
        self.stdout.write(f"{beyond}{counted(seen.count, 'message')} {verb}")
        if not seen.count:
            sys.exit(NOTHING_FOUND)
        for name, value in seen.lines(where_to=where_to):
            self.stdout.write(f"  {name:9} {value}")
        for message in seen.sample:
            self.stdout.write(
                f"  {message.pk}  {message.status:10}  {message.event.event_type:15}"
                f"  {message.last_error_code or '-':12}  {safe_url(message.url)}"
            )
        if seen.count > len(seen.sample):
            self.stdout.write("  ...")

    def _cancel(self, replay_id: UUID, reason: str) -> None:
        try:
            job = ReplayJob.objects.get(pk=replay_id)
            job = replay.cancel(job, requested_by=operator(), reason=reason)
        except (ReplayJob.DoesNotExist, replay_refusals.NotRunning) as refused:
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


def _filters(options: dict[str, Any]) -> MessageFilters:
    names = ("status", "task", "project", "host", "event", "metadata")
    zone, now = moments.zone_of(options["zone"]), datetime.now(UTC)
    since, until = moments.span_of(options["since"] or "", options["until"] or "", now, zone)
    values = {name: options[name] for name in names} | {"since": since, "until": until}
    for name, option in OPTIONS.items():
        values[name] = options[option]
    try:
        return MessageFilters.of(values)
    except InvalidFilter as refused:
        option = OPTIONS.get(refused.name, refused.name)
        raise CommandError(f"--{option} {refused.message}", returncode=2) from None
