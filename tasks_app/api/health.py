"""Is the service alive and ready, and how do the tasks do in figures, and in money?"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from django.db import Error, connection
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tasks_app.access.authentication import ApiKeyAuthentication, access_of
from tasks_app.api import readiness
from tasks_app.api.openapi.hooks import operation
from tasks_app.models import Task
from tasks_app.providers.prices import amount_text
from tasks_app.state import costs, projects
from tasks_app.state.costs import Budget
from tasks_app.task_types import TASK_TYPES
from webhooks_app.api.fields import Text
from webhooks_app.api.problems import ApiProblem, not_found
from webhooks_app.api.read import Query, read_query
from webhooks_app.database import why_unusable
from webhooks_app.notation import PROJECT_ID


class LiveView(APIView):
    """Whether this process answers at all (liveness)."""

    authentication_classes = []
    permission_classes = [AllowAny]

    @operation("health", "Whether the service answers", "Health")
    def get(self, request: Request) -> Response:
        return Response({"status": "ok"})


class ReadyView(APIView):
    """Whether the service can accept a task now; with a key also the reasons why not."""

    authentication_classes = []  # checked in the view: without a database a key cannot be checked
    permission_classes = [AllowAny]
    throttle_classes = []

    @operation("ready", "Whether the service can take tasks", "Readiness")
    def get(self, request: Request) -> Response:
        try:
            found = ApiKeyAuthentication().authenticate(request)
            state = readiness.look()
        except Error as error:
            if not (reason := why_unusable(error)):
                raise
            raise not_ready(reason) from None
        details = state.details() if found else {}
        if state.migrations_pending:
            raise not_ready("The database is not up to date with the code.", details)
        return Response({"status": "degraded" if state.problems else "ok", **details})


def not_ready(detail: str, more: dict[str, Any] | None = None) -> ApiProblem:
    """Return the 503 of a service that can accept no task."""
    return ApiProblem(503, "not_ready", detail, headers={"Retry-After": "2"}, extra=more or {})


_FIGURES = """
SELECT task_type, status, count(*) FROM tasks_app_task
WHERE %s::text IS NULL OR project_id = %s GROUP BY 1, 2
"""
_DURATIONS = """
SELECT task_type, count(*), avg(seconds),
       percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY seconds)
FROM (
  SELECT task_type, extract(epoch FROM finished_at - started_at)::float8 AS seconds
  FROM tasks_app_task
  WHERE status = 'completed' AND started_at IS NOT NULL
    AND (%s::text IS NULL OR project_id = %s) AND task_type = ANY(%s)
    AND finished_at > now() - interval '7 days'
) done GROUP BY 1
"""


class MetricsView(APIView):
    """Counts, success rate and durations, by type."""

    @operation("taskMetrics", "Counts, success rate and durations by type", "TaskMetrics")
    def get(self, request: Request) -> Response:
        scope = access_of(request).scope
        types = {name: _empty() for name in TASK_TYPES}
        with connection.cursor() as cursor:
            cursor.execute(_FIGURES, [scope, scope])
            for task_type, status, count in cursor.fetchall():
                types.setdefault(task_type, _empty())["counts"][status] = count
            cursor.execute(_DURATIONS, [scope, scope, list(types)])
            for task_type, count, mean, (median, p95) in cursor.fetchall():
                types[task_type]["duration_seconds"] = {
                    "measured": count,
                    "mean": round(mean, 3),
                    "p50": round(median, 3),
                    "p95": round(p95, 3),
                }
        for figures in types.values():
            figures["success_rate"] = _success_rate(figures["counts"])
        totals = {
            status: sum(figures["counts"][status] for figures in types.values())
            for status in _empty()["counts"]
        }
        body = {"counts": totals, "success_rate": _success_rate(totals), "by_type": types}
        return Response({"project_id": scope, **body})


def _empty() -> dict[str, Any]:
    statuses = Task._meta.get_field("status").choices or []
    return {
        "counts": {str(value): 0 for value, _ in statuses},
        "success_rate": None,
        "duration_seconds": None,
    }


def _success_rate(counts: dict[str, int]) -> float | None:
    """Return completed / (completed + failed); None while there were neither."""
    ended = counts["completed"] + counts["failed"]
    return round(counts["completed"] / ended, 4) if ended else None


# -- money ------------------------------------------------------------------------------


class CostsQuery(Query):
    """The query string."""

    month = Text(
        pattern=costs.MONTH,
        shape="Use a month, for example 2026-11.",
        max_length=7,
        required=False,
        help_text="In UTC; this month if left out.",
    )


class ProjectCostsView(APIView):
    """The costs of one project."""

    @operation(
        "getProjectCosts", "What a project cost in a month", "Costs", parameters=[CostsQuery]
    )
    def get(self, request: Request, project_id: str) -> Response:
        """Add up what was booked."""
        asked = read_query(request, CostsQuery)
        is_ours = access_of(request).scope in (None, project_id)
        if not re.fullmatch(PROJECT_ID, project_id) or not is_ours:
            raise not_found()
        this_month = costs.this_month()
        month = asked.get("month") or this_month
        rows = costs.sums(project_id, month)
        budget = projects.budget_of(project_id) if month == this_month else None
        return Response(
            {
                "project_id": project_id,
                "month": month,
                "totals": _totals(rows),
                "by_model": [_told(row) for row in rows],
                "budget": _standing(budget) if budget else None,
            }
        )


def _totals(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    totals: dict[str, dict[str, Any]] = defaultdict(
        lambda: {"amount": Decimal(0), "unclear_amount": Decimal(0), "jobs": 0}
    )
    for row in rows:
        for name in ("amount", "unclear_amount", "jobs"):
            totals[row["currency"]][name] += row[name]
    return [_told({"currency": name, **sums}) for name, sums in sorted(totals.items())]


def _told(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: amount_text(value) if isinstance(value, Decimal) else value
        for name, value in row.items()
    }


def _standing(budget: Budget) -> dict[str, str]:
    return {
        **budget.limit.told(),
        "spent": amount_text(budget.spent),
        "reserved": amount_text(budget.reserved),
        "left": budget.left.told()["amount"],
    }
