"""What does an engine do every second besides delivering?

It recovers messages whose engine died, expires those that waited behind a hold for too long,
exchanges the state of destinations with the database, and advances bulk replays. Once a day it
removes what was finished more than RETENTION_DAYS ago, and warns of certificates that end.
"""

from __future__ import annotations

import asyncio
import random
import time

from django.db import Error

from webhooks_app import metrics, news, outbox
from webhooks_app.conf import webhook_settings
from webhooks_app.crash_points import faultpoint
from webhooks_app.credentials import store as credentials
from webhooks_app.database import WRITE_NOTHING, DatabaseThread, why_unusable
from webhooks_app.delivery.attempt_log import log_dead_letter
from webhooks_app.delivery.paces import DestinationPaces
from webhooks_app.log import get_logger
from webhooks_app.models import RECOVERED
from webhooks_app.notation import counted
from webhooks_app.retry import Dead, Policy, decide_interrupted

logger = get_logger(__name__)

INTERVAL_SECONDS = 1.0
#: Recorders retry every half second; this leaves them time to go first.
RECORDERS_FIRST_SECONDS = 2.0
#: An engine prunes at a random time between these after its start, then once a day.
PRUNE_AFTER_SECONDS = (60.0, 600.0)
DAY_SECONDS = 86_400.0
#: How often the rate of dead letters is looked at.
WATCH_SECONDS = 5.0
#: One step of a prune, in seconds; replays wait for it.
PRUNE_STEP_SECONDS = 0.3


class Housekeeping:
    """The engine's periodic work; safe to run in any number of engines at once."""

    def __init__(self, paces: DestinationPaces) -> None:
        self._paces = paces
        self._random = random.Random()  # noqa: S311 - jitter, not a secret
        # Engines that start together do not prune together; if two do, they skip each other's rows.
        self._prune_at = time.monotonic() + self._random.uniform(*PRUNE_AFTER_SECONDS)
        self._pruned = 0
        self._thread = DatabaseThread("replay")
        self._was_interrupted = False
        #: Destination -> (meta event, reason) that its subscribers are to be told.
        self._news: dict[int, tuple[str, str]] = {}
        self._watched_at = 0.0
        self._looked_up_to = 0  # for messages that wait for nothing

    async def run(self, connection: outbox.Connection) -> None:
        """Do the work every second until cancelled."""
        metrics.engines().set(1)
        if self._was_interrupted:
            # After an outage: let living engines record their outcomes before leases are expired.
            await connection.execute(WRITE_NOTHING)
            await asyncio.sleep(RECORDERS_FIRST_SECONDS)
        self._was_interrupted = True
        while True:
            metrics.in_flight().set(self._paces.in_flight)
            await self.recover(connection)
            await self._expire(connection)
            await self._release(connection)
            await self._exchange(connection)
            await self._work_off()
            await asyncio.sleep(INTERVAL_SECONDS)

    async def close(self) -> None:
        """Close the thread's database connection and reset the gauges."""
        metrics.engines().set(0)
        metrics.in_flight().set(0)
        await self._thread.close()

    async def recover(self, connection: outbox.Connection) -> int:
        """Recover messages whose lease expired, and return how many there were."""
        ended: list[int] = []
        async with connection.transaction():
            expired = await outbox.expired_leases(connection)
            rows = [self._recovered(*row) for row in expired]
            if rows:
                await outbox.recover(connection, rows)
                ended = await outbox.supersede_late(connection, [int(row["id"]) for row in rows])
                faultpoint("engine.before_recovered")
                logger.warning("Webhook attempts were interrupted", count=len(rows))
        closed = len(rows) + await outbox.close_ended(connection)
        metrics.attempts.labels("interrupted", "").inc(closed)
        await outbox.release(connection, ended)
        await self._bury(connection, [int(row["id"]) for row in rows if row["is_dead"]])
        return len(rows)

    def _recovered(
        self, message_id: int, waits: list[float], jitter: float, step: int, in_a_row: int
    ) -> dict[str, float]:
        policy = Policy(tuple(waits), jitter)
        decision = decide_interrupted(
            in_a_row, policy=policy, step=step, now=time.time(), rng=self._random
        )
        if isinstance(decision, Dead):
            return {"id": message_id, "wait": 0, "step": step, "is_dead": True}
        return {"id": message_id, "wait": decision.delay, "step": decision.step, "is_dead": False}

    async def _expire(self, connection: outbox.Connection) -> None:
        expired = await outbox.expire_held(connection, webhook_settings.MESSAGE_MAX_WAIT)
        if expired:
            logger.warning("Webhook messages waited too long", count=len(expired))
        await self._bury(connection, expired)

    async def _bury(self, connection: outbox.Connection, message_ids: list[int]) -> None:
        """Release, count and log after dead letters that did not come from a recorded attempt."""
        if not message_ids:
            return
        await outbox.release(connection, message_ids)
        metrics.count_dead(len(message_ids))
        for letter in await outbox.dead_letters(connection, message_ids):
            log_dead_letter(*letter)

    async def _release(self, connection: outbox.Connection) -> None:
        """Release what waits for a message that ended when an engine, or its database, died."""
        self._looked_up_to, orphaned = await outbox.orphans(connection, self._looked_up_to)
        await outbox.release(connection, orphaned)

    async def _exchange(self, connection: outbox.Connection) -> None:
        if observed := self._paces.take_observations():
            # Kept until it is told: an outage must not lose it.
            self._news |= {row["id"]: found for row in observed if (found := row.pop("news", None))}
            await outbox.observe(connection, observed)
        if known := self._paces.known():
            settings = await outbox.operator_settings(connection, known)
            self._paces.heed_operator(settings)
            told = {row[0]: row[3] for row in settings}
            self._news = {
                key: found
                for key, found in self._news.items()
                if _is_news(told.get(key, ""), found[0])
            }

    async def _work_off(self) -> None:
        try:
            await self._thread.call(_advance_replays)
            await self._thread.call(self._tell)
            if time.monotonic() >= self._prune_at:
                await self._thread.call(self._prune)
        except Error as error:
            if not (reason := why_unusable(error)):
                raise
            logger.warning("Replays and pruning wait for the database", reason=reason)

    def _tell(self) -> None:
        """Tell subscribers what became of receivers, and of the rate of dead letters."""
        while self._news:
            destination_id, (event_type, reason) = next(iter(self._news.items()))
            news.tell_of(destination_id, event_type, reason)
            del self._news[destination_id]
        rate, now = webhook_settings.DEAD_LETTER_ALERT, time.monotonic()
        if rate is not None and now - self._watched_at >= WATCH_SECONDS:
            self._watched_at = now
            news.watch_dead_letters(rate)

    def _prune(self) -> None:
        """Remove a little old history; with the last of it the next day's run is set."""
        from webhooks_app.operators import record

        gone = outbox.prune(budget_seconds=PRUNE_STEP_SECONDS)
        self._pruned += gone.messages
        if not gone.is_complete:
            return
        _warn_of_certificates()
        if self._pruned:
            record.note("engine", "prune", f"removed {counted(self._pruned, 'message')}", "daily")
        self._prune_at, self._pruned = time.monotonic() + DAY_SECONDS, 0


def _warn_of_certificates() -> None:
    for row in credentials.expiring():
        logger.warning(
            "Client certificate ends soon",
            credential=row.name,
            project=row.scope,
            ends=row.expires_at.isoformat() if row.expires_at else "",
        )


def _is_news(told: str, event_type: str) -> bool:
    """Say whether a meta event may be news after what was told last; its statement decides."""
    return told in (("failing",) if event_type == RECOVERED else ("", "recovered"))


def _advance_replays() -> None:
    """End messages published while their destination was being disabled; advance replays."""
    from webhooks_app.operators import replay

    outbox.bury_disabled()
    replay.advance_running_jobs()
