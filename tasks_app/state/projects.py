"""What has an operator set for a project or a key? Budgets, quotas and default credentials.

Every change is on record.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet

from tasks_app.models import ApiKey, Project, Task, TaskStatus
from tasks_app.providers.prices import Money, amount_in, currency_in
from tasks_app.state import costs
from tasks_app.state.costs import Budget
from webhooks_app.notation import UUID_TEXT, counted
from webhooks_app.operators import record
from webhooks_app.operators.credentials import check_known

#: The default credentials are remembered for a moment: nearly every event asks for them.
REMEMBERED_SECONDS = 5.0
MOST_REMEMBERED = 10_000

#: (project, key) -> until when the answer may be used, and the answer.
_auth_remembered: dict[tuple[str, Any], tuple[float, tuple[str, ...]]] = {}


@transaction.atomic
def change(
    project_id: str,
    *,
    budget: Money | None,
    asset_quota_bytes: int | None,
    callback_auth: str | None = None,
    actor: str,
    reason: str,
) -> None:
    """Set what a project may spend and store; None for no limit of its own.

    Args:
        callback_auth: the credential of its callbacks, by name; empty: none, None: as it is.

    Raises:
        NotBound: the project has no credential of that name.
    """
    auth = auth_of(project_id) if callback_auth is None else callback_auth
    if auth:
        check_known(project_id, auth)
    if budget is None and asset_quota_bytes is None and not auth:
        Project.objects.filter(pk=project_id).delete()
    else:
        Project.objects.update_or_create(
            pk=project_id,
            defaults={
                "budget_amount": budget.amount if budget else None,
                "budget_currency": budget.currency if budget else "",
                "asset_quota_bytes": asset_quota_bytes,
                "callback_auth": auth,
            },
        )
    text = f"{project_id}: {_text(budget)}, assets {asset_quota_bytes or 'by default'}"
    if callback_auth is not None:
        text += f", callbacks carry {auth or 'no credential'}"
    record.note(actor, "project.change", text, reason, scope=project_id)


@transaction.atomic
def change_key_budget(prefix: str, budget: Money | None, *, actor: str, reason: str) -> bool:
    """Set what a key may spend in a month; False if there is no such active key."""
    amount, currency = (budget.amount, budget.currency) if budget else (None, "")
    keys = ApiKey.objects.filter(prefix=prefix, revoked=False)
    if not keys.update(budget_amount=amount, budget_currency=currency):
        return False
    key = ApiKey.objects.get(prefix=prefix)
    target, scope = f"{key}: {_text(budget)}", key.project_id or ""
    record.note(actor, "api_key.budget", target, reason, scope=scope)
    return True


def budget_in(text: str) -> Money | None:
    """Return the budget in a text such as "250.00 USD"; None for ``none``.

    Raises:
        ValueError: it is neither.
    """
    if text.strip() == "none":
        return None
    amount, _, currency = text.strip().partition(" ")
    return Money(amount_in(amount), currency_in(currency.strip()))


def _text(budget: Money | None) -> str:
    if budget is None:
        return "no budget"
    told = budget.told()
    return f"{told['amount']} {told['currency']} a month"


def settings_of(project_id: str) -> tuple[Money | None, int | None]:
    """Return a project's budget and its quota for assets, in bytes; None where none is set."""
    row = Project.objects.filter(pk=project_id).first()
    if row is None:
        return None, None
    if row.budget_amount is None:
        return None, row.asset_quota_bytes
    return Money(row.budget_amount, row.budget_currency), row.asset_quota_bytes


def auth_of(project_id: str) -> str:
    """Return the name of the credential that a project's callbacks carry; empty: none."""
    names = Project.objects.filter(pk=project_id).values_list("callback_auth", flat=True)
    return names.first() or ""


def budget_of(project_id: str) -> Budget | None:
    """Return how a project's budget stands, None where it has none."""
    limit, _ = settings_of(project_id)
    return costs.of_project(project_id, limit) if limit else None


def auth_defaults(task: Task) -> tuple[str, ...]:
    """Return the names of a task's default credentials, nearest first; at most seconds old."""
    which = task.project_id, task.api_key_id
    until, names = _auth_remembered.get(which, (0.0, ()))
    now = time.monotonic()
    if now >= until:
        names = _read_auth(*which)
        if len(_auth_remembered) >= MOST_REMEMBERED:
            _auth_remembered.clear()
        _auth_remembered[which] = now + REMEMBERED_SECONDS, names
    return names


def _read_auth(project_id: str, key_id: Any) -> tuple[str, ...]:
    keys = ApiKey.objects.filter(pk=key_id) if key_id is not None else ApiKey.objects.none()
    projects = Project.objects.filter(pk=project_id)
    found = [*_auths_of(keys), *_auths_of(projects)]
    return tuple(found)


def _auths_of(rows: QuerySet[Any]) -> list[str]:
    return list(rows.exclude(callback_auth="").values_list("callback_auth", flat=True))


def auths_of_tasks(project_id: str, task_ids: Sequence[str]) -> dict[str, list[str]]:
    """Return for each task the names of credentials that it, its key and its project name now."""
    ids = [text for text in task_ids if re.fullmatch(UUID_TEXT, text)]
    rows = Task.objects.filter(pk__in=ids, project_id=project_id)
    found = rows.values_list("pk", "callback_auth", "api_key__callback_auth")
    last = auth_of(project_id)
    return {str(pk): [own, of_key or "", last] for pk, own, of_key in found}


def forget_auth() -> None:
    """Read the defaults anew at the next event of this process."""
    _auth_remembered.clear()


def auth_users(scope: str, name: str) -> list[str]:
    """Return in words which keys, projects and tasks under way name a project's credential."""
    keys = ApiKey.objects.filter(
        Q(project_id=scope) | Q(project_id=None), callback_auth=name, revoked=False
    ).count()
    tasks = Task.objects.filter(
        project_id=scope,
        status__in=(TaskStatus.QUEUED, TaskStatus.PROCESSING),
        callback_auth=name,
    ).count()
    found = [counted(keys, "API key")] if keys else []
    if tasks:
        found.append(f"{counted(tasks, 'task')} under way")
    if Project.objects.filter(pk=scope, callback_auth=name).exists():
        found.append("the project's default")
    return found
