"""Can the service work now, and if not, what is wrong?

Cheap enough for a probe every second: four statements on indexes, one call to Redis. Nothing here
decides anything; it only looks.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from django.core.cache import cache
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from tasks_app import metrics, redis_gate, tickets
from tasks_app.media import mark
from webhooks_app import metrics as webhook_metrics
from webhooks_app.database import WRITE_NOTHING

#: A message without a hold is sent within milliseconds; after a minute the engine must be dead.
LATE_WEBHOOK_SECONDS = 60.0
#: Cached: reading the migrations takes a tenth of a second, and they change only at deployments.
MIGRATIONS_SECONDS = 30.0


@dataclass(frozen=True)
class Readiness:
    """What was found; ages in seconds, None where Redis could not be asked."""

    redis: redis_gate.Fault | None
    workers_alive: int | None
    migrations_pending: int
    oldest_due_seconds: float
    oldest_due_webhook_seconds: float
    #: Of what no pause, no breaker and no engine with requests open there holds.
    oldest_free_webhook_seconds: float
    storage_problem: str = ""

    @property
    def problems(self) -> list[str]:
        """Return sentences on what an operator should look at, worst first."""
        found = []
        if self.migrations_pending:
            found.append(f"{self.migrations_pending} migrations are not applied.")
        if self.workers_alive == 0:
            found.append("No worker gives a sign of life; accepted tasks wait.")
        if self.redis:
            found.append(f"{self.redis.text}; tasks start up to some seconds late.")
        if self.oldest_free_webhook_seconds > LATE_WEBHOOK_SECONDS:
            age = f"{self.oldest_free_webhook_seconds:.0f} s"
            found.append(f"A webhook that nothing holds back is {age} late; no engine works.")
        if self.storage_problem:
            found.append(f"No media are deleted: {self.storage_problem}")
        return found

    def details(self) -> dict[str, Any]:
        """Return the details for a caller with a key."""
        members = asdict(self)
        del members["storage_problem"]
        members["redis"] = self.redis.code if self.redis else "ok"
        return {"problems": self.problems, "database": "ok", **members}


def look() -> Readiness:
    """Check the database, Redis and the workers.

    Raises:
        django.db.Error: the database cannot be reached, or takes no writes.
    """
    pending = migrations_pending()
    if pending:  # tables may be missing
        return Readiness(redis_gate.look(), tickets.workers_alive(), pending, 0.0, 0.0, 0.0)
    with connection.cursor() as cursor:
        cursor.execute(WRITE_NOTHING)
    webhooks = webhook_metrics.oldest_due()
    return Readiness(
        redis=redis_gate.look(),
        workers_alive=tickets.workers_alive(),
        migrations_pending=0,
        oldest_due_seconds=max(metrics.oldest_due().values()),
        oldest_due_webhook_seconds=max(webhooks.values()),
        oldest_free_webhook_seconds=webhooks[False],
        storage_problem=mark.problem(),
    )


def migrations_pending() -> int:
    """Return how many migrations of this code the database lacks."""
    found: int | None = cache.get("readiness:migrations")
    if found is None:
        executor = MigrationExecutor(connection)
        found = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
        # Not cached while some are missing, since they will be applied soon.
        cache.set("readiness:migrations", found, MIGRATIONS_SECONDS if not found else 1.0)
    return found
