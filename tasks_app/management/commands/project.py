"""How does an operator see what a project cost, and set what it may spend?"""

from __future__ import annotations

import re
from typing import Any

from django.core.management.base import CommandError, CommandParser

from tasks_app.models import Project
from tasks_app.providers.prices import Money, amount_text
from tasks_app.state import costs, projects
from webhooks_app.notation import PROJECT_ID
from webhooks_app.operators.command import OperatorCommand, operator, reason_of
from webhooks_app.operators.credentials import NotBound


class Command(OperatorCommand):
    help = (
        "Show what a project cost in a month and what is left of its budget, or set the budget, "
        "the quota for assets and the credential of its callbacks. A budget is for one calendar "
        "month in UTC; tasks that it has no room for are refused with 402. Every change is on "
        "record."
    )
    examples = (
        ("film", "this month's costs, and the budget"),
        ("film --month 2026-10", "those of October"),
        ('film --budget "250.00 USD" --reason "agreed with production"', "set the budget"),
        ('film --budget none --reason "the pilot is over"', "no budget any more"),
        (
            'film --asset-quota 50000000000 --reason "more footage"',
            "50 GB for assets; none: the service's default",
        ),
        (
            'film --callback-auth our-gateway --reason "behind a gateway now"',
            "the credential that its callbacks carry",
        ),
        ('--key AbCdEfGh --budget "20 USD" --reason "a test"', "the budget of an API key"),
    )
    exit_codes = {
        0: "done",
        2: "wrong usage, or no reason; nothing was changed",
        3: "there is no such key",
    }

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("project", nargs="?", default="", help="The project's id.")
        parser.add_argument("--month", help="Whose costs to show, such as 2026-11.")
        parser.add_argument("--budget", help='Most per month, such as "250.00 USD", or none.')
        parser.add_argument("--asset-quota", help="Bytes of assets, or none.")
        parser.add_argument(
            "--callback-auth", metavar="NAME", help="The credential of its callbacks, or none."
        )
        parser.add_argument("--key", metavar="PREFIX", help="Set the budget of this key instead.")
        parser.add_argument(
            "--reason", default="", help="Why you change something; needed, and kept on record."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["key"]:
            budget, reason = _budget(options["budget"] or ""), reason_of(options)
            key = options["key"]
            if not projects.change_key_budget(key, budget, actor=operator(), reason=reason):
                raise CommandError("There is no active key with that prefix.", returncode=3)
            self.stdout.write(f"{options['key']}: {options['budget']}")
            return
        project_id = options["project"]
        if not re.fullmatch(PROJECT_ID, project_id):
            raise _usage(f"Name a project; its id matches {PROJECT_ID}.")
        if any(options[name] is not None for name in ("budget", "asset_quota", "callback_auth")):
            self._change(project_id, options)
        self._show(project_id, options["month"])

    def _change(self, project_id: str, options: dict[str, Any]) -> None:
        budget, quota = projects.settings_of(project_id)
        if options["budget"] is not None:
            budget = _budget(options["budget"])
        if options["asset_quota"] is not None:
            quota = _bytes(options["asset_quota"])
        auth = options["callback_auth"]
        try:
            projects.change(
                project_id,
                budget=budget,
                asset_quota_bytes=quota,
                callback_auth="" if auth == "none" else auth,
                actor=operator(),
                reason=reason_of(options),
            )
        except NotBound as refused:
            raise _usage(str(refused)) from None

    def _show(self, project_id: str, month: str | None) -> None:
        if month is not None and not re.fullmatch(costs.MONTH, month):
            raise _usage("A month is written as 2026-11.")
        month = month or costs.this_month()
        for row in costs.sums(project_id, month):
            unclear = row["unclear_amount"]
            note = f", of it {amount_text(unclear)} unclear" if unclear else ""
            self.stdout.write(
                f"{month}  {amount_text(row['amount'])} {row['currency']}  {row['jobs']} jobs"
                f"  {row['provider']} {row['model']}{note}"
            )
        if budget := projects.budget_of(project_id):
            self.stdout.write(
                f"budget  {amount_text(budget.limit.amount)} {budget.limit.currency} a month:"
                f" {amount_text(budget.spent)} spent, {amount_text(budget.reserved)} reserved,"
                f" {amount_text(budget.left.amount)} left"
            )
        else:
            self.stdout.write("budget  none")
        quota = Project.objects.filter(pk=project_id).values_list("asset_quota_bytes", flat=True)
        self.stdout.write(f"assets  {quota.first() or 'the default quota'}")
        self.stdout.write(f"callbacks  {projects.auth_of(project_id) or 'no credential'}")


def _budget(text: str) -> Money | None:
    try:
        return projects.budget_in(text)
    except ValueError as error:
        raise _usage(f'A budget is written as "250.00 USD", or none: {error}') from None


def _bytes(text: str) -> int | None:
    if text == "none":
        return None
    if not re.fullmatch("[0-9]{1,18}", text):
        raise _usage("A quota is a number of bytes, or none.")
    return int(text)


def _usage(text: str) -> CommandError:
    return CommandError(text, returncode=2)
