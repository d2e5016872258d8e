"""How does an operator repair what a crash left now, without waiting for a worker's sweep?"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from tasks_app.upkeep.sweep import sweep
from webhooks_app.notation import counted
from webhooks_app.operators import record
from webhooks_app.operators.command import OperatorCommand, add_reason, operator, reason_of


class Command(OperatorCommand):
    help = (
        "Repair what a crash left behind: give tasks of lost workers back to the queue, end those "
        "past their deadline, send missing tickets, remove dead work. Every worker does this every "
        "few seconds by itself, one at a time; by hand it is of use while no worker runs, and to "
        "see whether something is missing. Safe to run at any time."
    )
    examples = (('--reason "no worker runs"', "repair now, and say what there was"),)
    exit_codes = {
        0: "done",
        1: "done, but a task ended without the webhook it owes: report that as a bug",
        2: "no reason was given; nothing was done",
        3: "a worker is sweeping at this very moment; nothing was done",
    }

    def add_arguments(self, parser: CommandParser) -> None:
        add_reason(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        reason = reason_of(options)
        swept = sweep()
        if swept is None:
            raise CommandError("A worker is sweeping just now.", returncode=3)
        told = (
            f"{counted(swept.expired_leases, 'lease')} had expired, "
            f"{counted(swept.overdue_tasks, 'task')} had run out of time, "
            f"{counted(swept.tickets_sent, 'ticket')} sent"
        )
        record.note(operator(), "sweep", told, reason)
        self.stdout.write(told)
        if swept.astray_tasks:
            text = f"{counted(swept.astray_tasks, 'task')} at odds with the work at providers."
            raise CommandError(text, returncode=1)
        if swept.missing_messages:
            text = (
                f"{counted(swept.missing_messages, 'task')} ended without the webhook that is owed."
            )
            raise CommandError(text, returncode=1)
