"""Does the claim follow its index however wrong the planner's statistics are?"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Callable

import psycopg
import pytest
from django.db import connection

from tests.waiting import wait_until
from tests.webhooks.running import publish, publish_bulk
from webhooks_app import claims, recovery
from webhooks_app.database import connect

pytestmark = pytest.mark.django_db(transaction=True)


async def plan_of_claim() -> str:
    """Return the plan of a claim on a connection of the engine."""
    async with await connect("test") as engines:
        await claims.fix_plans(engines)
        async with psycopg.AsyncClientCursor(engines) as cursor:
            parameters = {
                "token": "00000000-0000-0000-0000-000000000000",
                "limit": 200,
                "default_seats": 4,
                "known_ids": "{}",
                "known_seats": "{}",
                "lease": 45,
                "full_scopes": [],
            }
            await cursor.execute("EXPLAIN " + claims._CLAIM, parameters)
            return "\n".join(row[0] for row in await cursor.fetchall())


def test_claim_walks_the_index_though_the_statistics_saw_an_empty_queue() -> None:
    """With statistics of before the rush, no part of a claim reads or sorts the whole backlog."""
    publish("https://a.example.org/x", subject="first")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE webhooks_app_webhookmessage")
    publish_bulk("https://a.example.org/x", 5_000)
    plan = asyncio.run(plan_of_claim())
    found = re.findall(r"Index(?: Only)? Scan using (\w+) on webhooks_app_webhookmessage", plan)
    assert found == ["message_due_by_destination"] * 3 + ["webhooks_app_webhookmessage_pkey"]
    assert "Seq Scan" not in plan
    assert plan.count("Sort  (") == 1, "of the destinations"


async def plan_of_record() -> str:
    """Return the plan of recording one outcome, for any number of them, on such a connection."""
    async with await connect("test") as engines:
        await claims.fix_plans(engines)
        statement = claims._RECORD.replace("%(rows)s", "$1")
        await engines.execute(f"PREPARE record (json) AS {statement}")
        cursor = await engines.execute("EXPLAIN EXECUTE record('[]')")
        return "\n".join(row[0] for row in await cursor.fetchall())


def test_record_finds_its_rows_by_id_however_much_is_pending() -> None:
    """Recording reads the rows it was given, never all that is pending, as ``=`` would make it."""
    publish("https://a.example.org/x", subject="first")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE webhooks_app_webhookmessage")
    publish_bulk("https://a.example.org/x", 2_000)
    plan = asyncio.run(plan_of_record())
    found = re.findall(r"Index Scan(?: Backward)? using webhooks_app_(\w+)", plan)
    assert sorted(found) == ["webhookdelivery_pkey", "webhookmessage_pkey"], plan


async def plan_of(statement: str) -> str:
    """Return the plan of a statement without parameters on a connection of the engine."""
    async with await connect("test") as engines:
        await claims.fix_plans(engines)
        cursor = await engines.execute(f"EXPLAIN {statement}")
        return "\n".join(row[0] for row in await cursor.fetchall())


@pytest.mark.parametrize("statement", [recovery._EXPIRED_LEASES, recovery._CLOSE_ENDED])
def test_recovery_reads_what_is_under_way_and_no_backlog(statement: str) -> None:
    """With statistics of before the rush, recovery begins at the open attempts and goes by id."""
    publish("https://a.example.org/x", subject="first")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE webhooks_app_webhookmessage, webhooks_app_webhookdelivery")
    publish_bulk("https://a.example.org/x", 5_000)
    plan = asyncio.run(plan_of(statement))
    found = set(re.findall(r"Index Scan(?: Backward)? using (\w+)", plan))
    assert found >= {"delivery_outcome_page", "webhooks_app_webhookmessage_pkey"}, plan
    assert plan.count("Index Cond:") == plan.count("Index Scan"), plan  # none is walked whole
    assert "Seq Scan" not in plan


def _hot_updates() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute(
            "SELECT n_tup_hot_upd FROM pg_stat_user_tables"
            " WHERE relname = 'webhooks_app_webhookmessage'"
        )
        return int(cursor.fetchone()[0])


async def _claim_five() -> int:
    async with await connect("test") as engines:
        await claims.fix_plans(engines)
        claimed = await claims.claim(
            engines,
            token=uuid.uuid4(),
            limit=5,
            default_seats=5,
            known_seats={},
            lease_seconds=45,
        )
        await engines.execute("SELECT pg_stat_force_next_flush()")
        return len(claimed)


def test_claim_touches_no_index_of_the_messages() -> None:
    """Taking a lease is a heap-only update: nothing that any index knows is written."""
    publish_bulk("https://a.example.org/x", 20)
    before = _hot_updates()
    assert asyncio.run(_claim_five()) == 5
    wait_until(lambda: _hot_updates() - before == 5)


async def _looks(between: Callable[[], object]) -> list[float | None]:
    """Return what three looks at the next due time say, with something done after the first."""
    async with await connect("test") as engines:
        looked_at, first = await claims.seconds_to_next(engines, None)
        await asyncio.to_thread(between)
        looked_at, second = await claims.seconds_to_next(engines, looked_at)
        _, third = await claims.seconds_to_next(engines, looked_at)
        return [first, second, third]


def test_what_falls_due_between_claim_and_sleep_is_not_slept_over() -> None:
    """A message that is due since the last look wakes the engine at once, and only once."""

    def between() -> None:
        publish("https://a.example.org/x")
        connection.close()

    first, second, third = asyncio.run(_looks(between))
    assert (first, third) == (None, None)
    assert second is not None
    assert second <= 0
