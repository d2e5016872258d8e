"""Does the claim use its index, however wrong the planner's statistics are?"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Callable

import pytest
from django.db import connection

from tests.support.plans import plan_of, unguided
from tests.support.running import publish, publish_bulk
from tests.support.waiting import wait_until
from webhooks_app import metrics, outbox
from webhooks_app.database import connect
from webhooks_app.functions import Function
from webhooks_app.outbox.claim import _CLAIM

pytestmark = pytest.mark.django_db(transaction=True)


def rush() -> None:
    """Many messages in a table in which the last ANALYZE saw only one."""
    publish("https://a.example.org/x", subject="first")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE webhooks_app_webhookmessage, webhooks_app_webhookdelivery")
    publish_bulk("https://a.example.org/x", 5_000)


def nothing() -> None:
    """Tables that ANALYZE knows to be empty, as a process finds them that starts before any work.

    It keeps the plan that it makes then.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "ANALYZE webhooks_app_webhookmessage, webhooks_app_webhookdelivery,"
            " webhooks_app_webhookevent, webhooks_app_webhookdestination"
        )


#: What may be read without a value to look for: the first entry of an index for a LIMIT, and an
#: index of disabled destinations alone.
WHOLE = {
    "webhooks_claim": [["message_due_by_destination"]],
    "webhooks_bury_disabled": [["destination_disabled"]],
    "webhooks_oldest_due": [["message_due_by_destination"]],
}


@pytest.mark.parametrize("name", sorted(n for n in Function.known if n.startswith("webhooks_")))
@pytest.mark.parametrize("seen", [rush, nothing])
def test_no_statement_of_the_engine_reads_a_table_from_end_to_end(
    name: str, seen: Callable[[], None]
) -> None:
    """Whatever the statistics were at planning time, rows are found by an id or a due time."""
    seen()
    plan = plan_of(Function.known[name])
    assert unguided(plan) in WHOLE.get(name.rpartition("_")[0], [[]]), plan
    assert "message_status_page" not in plan, plan


def test_claim_walks_the_index_though_the_statistics_saw_an_empty_queue() -> None:
    """With statistics of before the rush, no part of a claim reads or sorts the whole backlog."""
    rush()
    plan = plan_of(_CLAIM)
    found = re.findall(r"Index(?: Only)? Scan using (\w+) on webhooks_app_webhookmessage", plan)
    assert found == ["message_due_by_destination"] * 3 + ["webhooks_app_webhookmessage_pkey"]
    assert plan.count("Sort  (") == 1, "of the destinations"


def test_oldest_due_reads_one_entry_for_each_destination() -> None:
    """Readiness and metrics ask often: they sort nothing and follow the claim's index."""
    rush()
    plan = plan_of(metrics._OLDEST_DUE)
    assert plan.count("using message_due_by_destination") == 2, plan
    assert "Sort  (" not in plan, plan


def _walks() -> int:
    """Return how often indexes were used in which the id is not the first column."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute(
            "SELECT sum(idx_scan) FROM pg_stat_user_indexes WHERE indexrelname IN"
            " ('message_destination_page', 'event_type_page', 'message_endpoint_page')"
        )
        return int(cursor.fetchone()[0])


async def _claim_before_and_after(rush: Callable[[], None]) -> int:
    """Claim on one connection while there is nothing, and again when there is much."""
    async with await connect("test") as engines:
        claimed = []
        for step in (lambda: None, rush, lambda: None):
            await asyncio.to_thread(step)
            claimed += await outbox.claim(
                engines,
                token=uuid.uuid4(),
                limit=50,
                default_seats=50,
                known_seats={},
                lease_seconds=0,
            )
            await outbox.expired_leases(engines)
            await outbox.close_ended(engines)
        await engines.execute("SELECT pg_stat_force_next_flush()")
        await engines.execute("SELECT 1")
        return len(claimed)


def test_an_engine_that_began_with_empty_tables_finds_its_rows_by_id() -> None:
    """The kept plan is not made on an empty table, where all indexes seem to cost nothing."""
    nothing()
    before = _walks()

    def fill() -> None:
        publish_bulk("https://a.example.org/x", 3_000)
        connection.close()

    assert asyncio.run(_claim_before_and_after(fill)) == 100
    assert _walks() == before


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
        claimed = await outbox.claim(
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
    """Taking a lease is a heap-only update: no indexed column is written."""
    publish_bulk("https://a.example.org/x", 20)
    before = _hot_updates()
    assert asyncio.run(_claim_five()) == 5
    wait_until(lambda: _hot_updates() - before == 5)


async def _looks(between: Callable[[], object]) -> list[float | None]:
    """Return the results of three looks at the next due time, with an action after the first."""
    async with await connect("test") as engines:
        looked_at, first = await outbox.seconds_to_next(engines, None)
        await asyncio.to_thread(between)
        looked_at, second = await outbox.seconds_to_next(engines, looked_at)
        _, third = await outbox.seconds_to_next(engines, looked_at)
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
