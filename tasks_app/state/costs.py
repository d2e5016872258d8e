"""What will a task cost, what did it cost, and is there a budget left for it?

The only writer of `Cost`. A task's row holds what is reserved for it, so its end frees that by
itself, and what it did cost is booked in the same transaction.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any

from django.conf import settings
from django.db import connection, transaction

from tasks_app import metrics, providers
from tasks_app.models import Cost, CostBasis, MediaFile, RemoteJob, Task
from tasks_app.providers import prices
from tasks_app.providers.base import Provider
from tasks_app.providers.prices import Money

#: How a month is written.
MONTH = r"2[0-9]{3}-(0[1-9]|1[0-2])"


def estimate(
    task_type: str, task_data: Mapping[str, Any], provider: Provider | None = None
) -> Money | None:
    """Return what a task is expected to cost; None without a price.

    Args:
        provider: which one makes it; by default the first of its chain.
    """
    if not settings.GENERATION_PRICES:
        return None
    provider = provider or providers.get_provider(task_type)
    model = str(task_data.get("model") or getattr(provider, "model", ""))
    return prices.expected(model, task_type, task_data)


# -- budgets ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Budget:
    """How a budget stands in this month: what is booked, and what is reserved for open tasks."""

    limit: Money
    spent: Decimal
    reserved: Decimal

    @property
    def left(self) -> Money:
        """Return what may still be reserved, never below 0."""
        left = self.limit.amount - self.spent - self.reserved
        return Money(max(Decimal(0), left), self.limit.currency)


class BudgetExhausted(Exception):
    """A budget has no room for a task. ``owner`` is "project" or "key"."""

    def __init__(self, owner: str, left: Money, needed: Money) -> None:
        super().__init__(f"The {owner}'s budget for this month has no room for this task.")
        self.owner, self.left, self.needed = owner, left, needed


def reserve(task: Task, cost: Money) -> BudgetExhausted | None:
    """Reserve a task's cost, in the transaction that inserts it; return why it must be refused.

    A budget's row stays locked until then: of two submits at the same moment the second one sees
    what the first has reserved.
    """
    for owner, limit, budget in _locked(task):
        found = budget(limit)
        is_other = limit.currency != cost.currency  # of which there is no budget at all
        left = Money(Decimal(0), cost.currency) if is_other else found.left
        if cost.amount > left.amount:
            return BudgetExhausted(owner, left, cost)
    task.reserved_amount, task.reserved_currency = cost.amount, cost.currency
    return None


def _locked(task: Task) -> Iterator[tuple[str, Money, Any]]:
    """Lock and return the budgets that a task needs, the project's first: all take that order."""
    # NO KEY: an insert of a task that refers to the key does not wait.
    sql = (
        "SELECT budget_amount, budget_currency FROM {} WHERE id = %s AND budget_amount IS NOT NULL"
        " FOR NO KEY UPDATE"
    )
    if found := _one(sql.format("tasks_app_project"), [task.project_id]):
        yield "project", Money(*found), partial(of_project, task.project_id)
    if task.api_key is None or task.api_key.budget_amount is None:
        return
    if found := _one(sql.format("tasks_app_apikey"), [task.api_key.pk]):
        yield "key", Money(*found), partial(of_key, task.api_key.pk)


def of_project(project_id: str, limit: Money) -> Budget:
    """Return how a project's budget stands."""
    return _standing("project_id", "project_id", project_id, limit)


def of_key(prefix: str, limit: Money) -> Budget:
    """Return how a key's budget stands; a key's id is its prefix."""
    return _standing("key_prefix", "api_key_id", prefix, limit)


def _standing(cost_column: str, task_column: str, value: str, limit: Money) -> Budget:
    found = _one(
        "SELECT (SELECT coalesce(sum(amount), 0) FROM tasks_app_cost"  # noqa: S608 - ours
        f" WHERE {cost_column} = %s AND currency = %s"
        " AND booked_at >= date_trunc('month', now(), 'UTC')),"
        " (SELECT coalesce(sum(reserved_amount), 0) FROM tasks_app_task"
        f" WHERE {task_column} = %s AND reserved_currency = %s AND reserved_amount IS NOT NULL"
        " AND status IN ('queued', 'processing'))",
        [value, limit.currency, value, limit.currency],
    )
    assert found is not None
    return Budget(limit, *found)


# -- booking ---------------------------------------------------------------------------------------


def book_result(task: Task, result: Mapping[str, Any], job_id: uuid.UUID | None) -> None:
    """Book what a receipt says, in the transaction that completes the task."""
    if cost := prices.as_told(result.get("cost")):
        work = job_id or task.run_token
        maker = (str(result["provider"]), str(result["model"]))
        _book(work, task, maker, cost, CostBasis.MEASURED)


def book_late(job: RemoteJob, files: Sequence[MediaFile]) -> None:
    """Book work whose result came too late for its task."""
    if cost := prices.measured(job.model, files):
        task = Task.objects.only("project_id", "api_key_id").get(pk=job.task_id)
        _book(job.id, task, (job.provider, job.model), cost, CostBasis.MEASURED)


def book_expected(job: RemoteJob, basis: CostBasis) -> None:
    """Book a job of which nothing can be measured, as much as its task was expected to cost."""
    if prices.price_of(job.model) is None:
        return
    fields = ("project_id", "api_key_id", "task_type", "task_data")
    task = Task.objects.only(*fields).get(pk=job.task_id)
    if cost := prices.expected(job.model, task.task_type, task.task_data):
        _book(job.id, task, (job.provider, job.model), cost, basis)


def _book(
    work: uuid.UUID | None, task: Task, maker: tuple[str, str], cost: Money, basis: CostBasis
) -> None:
    if not cost.amount:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO tasks_app_cost (id, task_id, project_id, key_prefix, provider, model,"
            " amount, currency, basis, booked_at)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, now())"
            " ON CONFLICT (id) DO NOTHING",
            [
                *(work, task.id, task.project_id, task.api_key_id or "", *maker),
                *(cost.amount, cost.currency, basis),
            ],
        )
        if cursor.rowcount:
            transaction.on_commit(
                partial(metrics.cost_booked, cost.amount, cost.currency, maker[0])
            )


# -- sums ------------------------------------------------------------------------------------------


def sums(project_id: str, month: str) -> list[dict[str, Any]]:
    """Return a project's costs in a month such as "2026-11", by provider, model and currency."""
    begin = f"{month}-01T00:00:00Z"
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT provider, model, currency, sum(amount),"
            " coalesce(sum(amount) FILTER (WHERE basis = 'unclear'), 0), count(*)"
            " FROM tasks_app_cost WHERE project_id = %s AND booked_at >= %s::timestamptz"
            " AND booked_at < (%s::timestamptz AT TIME ZONE 'UTC' + interval '1 month')"
            "   AT TIME ZONE 'UTC'"
            " GROUP BY 1, 2, 3 ORDER BY 3, 4 DESC, 1, 2",
            [project_id, begin, begin],
        )
        names = ("provider", "model", "currency", "amount", "unclear_amount", "jobs")
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def this_month() -> str:
    """Return the database's month, in UTC, such as "2026-11"."""
    found = _one("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM')", [])
    assert found is not None
    return str(found[0])


def costs_of(task: Task) -> list[Cost]:
    """Return what was booked for a task, oldest first."""
    return list(Cost.objects.filter(task_id=task.pk).order_by("booked_at"))


def _one(sql: str, values: list[Any]) -> tuple[Any, ...] | None:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        row: tuple[Any, ...] | None = cursor.fetchone()
        return row
