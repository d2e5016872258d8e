"""How do outcomes reach the database without a request waiting for them?

Results that come during a write are written together in the next one. A result is kept until the
database has stored it: an outage only delays it. If the process crashes the result is lost; the
lease then expires and the attempt is recorded as interrupted.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import orjson
import psycopg

from webhooks_app import metrics, news, outbox
from webhooks_app.crash_points import faultpoint
from webhooks_app.database import DatabaseThread, connect, why_unusable
from webhooks_app.log import get_logger
from webhooks_app.models import MessageStatus

logger = get_logger(__name__)

BATCH = 500
RETRY_SECONDS = 0.5
#: After a batch larger than this, wait GATHER_SECONDS for more: a row costs a third less in a batch
#: of 200 than in one of 50. A single outcome never waits.
BUSY = 20
GATHER_SECONDS = 0.02


class Recorder:
    """Write outcomes in batches; `run` until cancelled, then `flush_all`.

    ``on_retry`` is called when messages became pending again, or due, since one may be next.
    """

    def __init__(self, on_retry: Callable[[], None]) -> None:
        self._on_retry = on_retry
        self._waiting: deque[outbox.Outcome] = deque()
        self._has_waiting = asyncio.Event()
        self._lock = asyncio.Lock()
        self._is_busy = False
        self._connection: outbox.Connection | None = None
        self._thread = DatabaseThread("endpoints")

    def put(self, outcome: outbox.Outcome) -> None:
        """Add one outcome to the next batch."""
        self._waiting.append(outcome)
        self._has_waiting.set()

    async def run(self) -> None:
        """Write one batch after another."""
        while True:
            await self._has_waiting.wait()
            if not await self._flush_once():
                await asyncio.sleep(RETRY_SECONDS)
            elif self._is_busy:
                await asyncio.sleep(GATHER_SECONDS)

    async def flush_all(self, tries: int = 10) -> None:
        """Write everything that is left; give up after ``tries`` failures."""
        for _ in range(tries):
            try:
                # The lock inside also waits for a batch that `run` is writing.
                if await self._flush_once() and not self._waiting:
                    break
            except Exception:  # the last chance to store what receivers answered
                logger.exception("Outcomes could not be stored")
            await asyncio.sleep(RETRY_SECONDS)
        await self._leave_connection()
        await self._thread.close()

    async def _flush_once(self) -> bool:
        async with self._lock:
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            self._is_busy = BUSY < len(batch) < BATCH
            if not self._waiting:
                self._has_waiting.clear()
            try:
                await self._write(batch)
            except BaseException as error:
                # Whatever the error: keep the outcomes for the next try.
                self._waiting.extendleft(reversed(batch))
                self._has_waiting.set()
                await self._leave_connection()
                if not (reason := why_unusable(error)):
                    raise
                logger.warning("Outcomes wait for the database", reason=reason)
                return False
        return True

    async def _leave_connection(self) -> None:
        if self._connection:
            await self._connection.close()
        self._connection = None

    async def _write(self, batch: list[outbox.Outcome]) -> None:
        if not batch:
            return
        if self._connection is None or self._connection.closed:
            self._connection = await connect("webhook-record")
        faultpoint("engine.before_record")
        moved = await self._record(self._connection, batch)
        metrics.count_attempts(batch, moved)
        faultpoint("engine.after_record")
        await self._follow_up(batch, moved)
        faultpoint("engine.after_follow_up")

    async def _record(self, connection: outbox.Connection, batch: list[outbox.Outcome]) -> set[int]:
        """Record a batch; split it until only rows that the database refuses are left alone.

        Such a row is stored without its details, so that it does not hold up the others.
        """
        try:
            return await outbox.record(connection, batch)
        except (psycopg.DataError, orjson.JSONEncodeError) as error:
            if len(batch) == 1:
                logger.error(
                    "Outcome was stored without its details",
                    delivery_id=batch[0].delivery_id,
                    error=type(error).__name__,
                )
                return await outbox.record(connection, [outbox.bare_outcome(batch[0])])
        half = len(batch) // 2
        first = await self._record(connection, batch[:half])
        return first | await self._record(connection, batch[half:])

    async def _follow_up(self, batch: list[outbox.Outcome], moved: set[int]) -> None:
        """Do what some outcomes require beyond their own rows."""
        assert self._connection is not None
        put_back = [one.message_id for one in batch if one.status == MessageStatus.PENDING]
        # What ended, by this outcome or during the attempt; at an ordered endpoint others wait.
        ended = [
            one.message_id
            for one in batch
            if one.status != MessageStatus.PENDING or one.message_id not in moved
        ]
        if put_back:
            ended += await outbox.supersede_late(self._connection, put_back)
            self._on_retry()
        newest = [
            one.message_id
            for one in batch
            # Only where earlier events of the same subject exist.
            if one.status == MessageStatus.DELIVERED and one.sequence > 1
        ]
        if newest:
            ended += await outbox.supersede_older(self._connection, newest)
        if await outbox.release(self._connection, ended, is_over=True):
            self._on_retry()
        for one in batch:
            # Even if the message had ended before: the endpoint is gone all the same.
            if one.is_endpoint_gone:
                await self._thread.call(news.disable_endpoint, one.scope, one.url)
