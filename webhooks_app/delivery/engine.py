"""How does a message that is due become a POST, and the answer a row?

One asyncio loop: free seats -> claim -> send -> record. The three steps overlap; no message waits
for a batch. A seat is the right to have one request in flight. No transaction is open during a
request, and only this module reads the clock.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import psycopg
from django.db import Error

from webhooks_app import egress, outbox, signing
from webhooks_app.conf import webhook_settings
from webhooks_app.crash_points import faultpoint
from webhooks_app.database import connect, is_pooled, why_unusable
from webhooks_app.delivery.attempt_log import log_attempt, trace_attempt, trace_header
from webhooks_app.delivery.authorizer import Authorizer, PutOff
from webhooks_app.delivery.housekeeping import Housekeeping
from webhooks_app.delivery.paces import DestinationPaces
from webhooks_app.delivery.recorder import Recorder
from webhooks_app.log import get_logger
from webhooks_app.outbox import CHANNEL, Claimed
from webhooks_app.retry import AttemptResult, Dead, Decision, ErrorCode, RetryAt, decide, policy_of
from webhooks_app.signing.store import SecretCache
from webhooks_app.transport import Transport

logger = get_logger(__name__)

#: The longest sleep without a wake-up.
IDLE_SECONDS = 1.0
#: The same behind a connection pooler, which does not pass on notifications.
POOLED_IDLE_SECONDS = 0.25
#: A request starts only if its lease still lasts for the time-out plus this.
LEASE_RESERVE_SECONDS = 2.0
DRAIN_SECONDS = 10.0
RECONNECT_SECONDS = 0.5
#: The most messages in one claim, so that sending starts early.
CLAIM_LIMIT = 200
#: The largest part of an engine's seats that one project may hold.
PROJECT_SHARE = 0.75


class Engine:
    """One delivery engine. `run` returns after `stop`, when it holds no lease any more."""

    def __init__(self, transport: Transport | None = None) -> None:
        self._transport = transport or Transport(proxy=egress.webhook_proxy())
        self._paces = DestinationPaces()
        self._secrets = SecretCache()
        self._authorizer = Authorizer(self._transport)
        self._random = random.Random()  # noqa: S311 - jitter, not a secret
        self._wake = asyncio.Event()
        self._recorder = Recorder(on_retry=self._wake.set)
        self._stopping = asyncio.Event()
        self._sends: dict[asyncio.Task[None], Claimed] = {}
        self._failure: BaseException | None = None
        self._looked_at: datetime | None = None  # database clock
        self._idle_seconds = IDLE_SECONDS
        self.is_ready = False

    def wake(self) -> None:
        """Look for due messages now. Call it on the engine's own loop."""
        self._wake.set()

    def stop(self) -> None:
        """Claim nothing more, drain, and let `run` return. Call it on the engine's own loop."""
        self._stopping.set()
        self._wake.set()

    async def run(self) -> None:
        """Deliver until `stop`."""
        async with self._transport:
            keeper = Housekeeping(self._paces)
            helpers = [
                asyncio.create_task(self._recorder.run()),
                asyncio.create_task(self._reconnecting("listen", self._listen)),
                asyncio.create_task(self._reconnecting("housekeeping", keeper.run)),
            ]
            for helper in helpers:
                helper.add_done_callback(self._helper_ended)
            await self._reconnecting("claim", self._claim_until_stopped)
            await self._drain()
            await self._recorder.flush_all()
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            await keeper.close()
            await self._secrets.close()
            await self._authorizer.close()
        if self._failure:
            raise self._failure

    def _helper_ended(self, helper: asyncio.Task[None]) -> None:
        """Stop the engine when one of its parts failed, so that its host starts a new one."""
        if not helper.cancelled() and (error := helper.exception()):
            self._failure = error
            self.stop()

    async def _reconnecting(self, name: str, work: Any) -> None:
        """Run ``work(connection)`` with its own connection; reconnect after each loss."""
        while not self._stopping.is_set():
            try:
                async with await connect(f"webhook-{name}") as connection:
                    await work(connection)
            except psycopg.Error as error:
                if not (reason := why_unusable(error)):
                    raise
                logger.warning("Engine lost its database", part=name, reason=reason)
                await asyncio.sleep(RECONNECT_SECONDS)

    async def _listen(self, connection: outbox.Connection) -> None:
        if await is_pooled(connection):
            # LISTEN belongs to a session, and a pooler gives each transaction any session.
            self._idle_seconds = POOLED_IDLE_SECONDS
            logger.info(
                "A pooler stands before the database: no wake-ups, the engine polls",
                seconds=POOLED_IDLE_SECONDS,
            )
            await connection.close()
            await self._stopping.wait()
            return
        self._idle_seconds = IDLE_SECONDS
        await connection.execute(f"LISTEN {CHANNEL}")
        self._wake.set()  # a notification may have come before LISTEN
        async for _ in connection.notifies():
            self._wake.set()

    # -- claim ------------------------------------------------------------------------

    async def _claim_until_stopped(self, connection: outbox.Connection) -> None:
        self.is_ready = True
        while not self._stopping.is_set():
            self._wake.clear()
            if not await self._claim(connection):
                await self._sleep(connection)

    def _room(self) -> tuple[int, list[str]]:
        """Return (how many messages may start now, projects that are at their limit).

        No project may hold more than its share of the seats: if all its receivers hang until the
        time-out, other projects still get sent.
        """
        most = webhook_settings.MAX_IN_FLIGHT
        share = max(1, int(most * PROJECT_SHARE))
        # A project counts as full a little below its share, so that a nearly full one does not
        # shrink every claim to a few messages.
        limit = share - max(1, most // 16)
        under_way = Counter(message.scope for message in self._sends.values())
        full = [scope for scope, count in under_way.items() if count > limit]
        busiest = max((count for count in under_way.values() if count <= limit), default=0)
        # Everything that one claim takes may belong to one project.
        return min(most - len(self._sends), CLAIM_LIMIT, share - busiest), full

    async def _claim(self, connection: outbox.Connection) -> Sequence[Claimed]:
        limit, full_scopes = self._room()
        if limit <= 0:
            return ()
        token = uuid.uuid4()
        lease = webhook_settings.lease_seconds
        asked_at = time.monotonic()
        claimed = await outbox.claim(
            connection,
            token=token,
            limit=limit,
            default_seats=webhook_settings.DESTINATION_START_WINDOW,
            known_seats=self._paces.seats(),
            lease_seconds=lease,
            full_scopes=full_scopes,
        )
        faultpoint("engine.after_claim")
        loop = asyncio.get_running_loop()
        for message in claimed:
            self._paces.started(message)
            send = loop.create_task(self._deliver(message, token, asked_at + lease))
            self._sends[send] = message
            send.add_done_callback(self._sent)
        return claimed

    def _sent(self, send: asyncio.Task[None]) -> None:
        message = self._sends.pop(send)
        # A seat is free: another message may be waiting for it.
        self._wake.set()
        if not send.cancelled() and (error := send.exception()):
            # The seat is free at once; the message is tried again when its lease runs out.
            self._paces.interrupted(message)
            logger.error("Delivery crashed the engine's task", exc_info=error)

    async def _sleep(self, connection: outbox.Connection) -> None:
        """Sleep until woken, until the next message is due, or for `_idle_seconds`."""
        if self._wake.is_set():
            return
        self._looked_at, due = await outbox.seconds_to_next(connection, self._looked_at)
        idle = self._idle_seconds
        with suppress(TimeoutError):
            async with asyncio.timeout(idle if due is None else min(idle, max(0.0, due))):
                await self._wake.wait()

    # -- send and decide ----------------------------------------------------------------

    async def _deliver(self, message: Claimed, token: uuid.UUID, lease_ends: float) -> None:
        addition = None
        try:
            headers = await self._headers(message)
            if message.callback_auth:
                addition = await self._authorizer.addition(message, time.time())
            timeout = webhook_settings.TIMEOUT_SECONDS
            if lease_ends - time.monotonic() < timeout + LEASE_RESERVE_SECONDS:
                self._interrupt(message, token)
                return
            faultpoint("engine.before_send")
            sent, identity = headers, None
            if addition is not None:
                sent, identity = {**headers, **addition.headers}, addition.identity
            result = await self._transport.send(message.url, sent, message.body, timeout, identity)
        except PutOff as unsent:
            self._paces.interrupted(message)
            self._record(message, token, headers, unsent.result, unsent.decision)
            return
        except asyncio.CancelledError:
            self._interrupt(message, token)
            raise
        except Error as error:  # the secret could not be read
            if not (reason := why_unusable(error)):
                raise
            logger.warning("Delivery put off", reason=reason)
            self._interrupt(message, token, wait_seconds=RECONNECT_SECONDS)
            return
        faultpoint("engine.after_send")
        decision: Decision | None = None
        kept: Mapping[str, str] = headers
        if message.callback_auth:
            kept, result = self._authorizer.kept(message, addition, headers, result)
            decision = self._authorizer.renewed(message, addition, result, time.time())
        if decision is not None:  # the token's end is no fault of the receiver
            self._paces.interrupted(message)
        else:
            decision = self._decide(message, result)
            hold = getattr(decision, "hold_seconds", None)
            is_dead = isinstance(decision, Dead)
            self._paces.finished(message, result, hold, is_dead=is_dead)
        self._record(message, token, kept, result, decision)

    def _decide(self, message: Claimed, result: AttemptResult) -> Decision:
        is_proxy = result.error_code == ErrorCode.PROXY
        return decide(
            result,
            policy=policy_of(tuple(message.waits), message.jitter),
            step=message.retry_step,
            now=time.time(),
            rng=self._random,
            proxy_faults=self._paces.proxy_faults(message) if is_proxy else 0,
        )

    def _record(
        self,
        message: Claimed,
        token: uuid.UUID,
        headers: Mapping[str, str],
        result: AttemptResult,
        decision: Decision,
    ) -> None:
        log_attempt(message, result, is_last=not isinstance(decision, RetryAt))
        trace_attempt(message, headers, result)
        self._recorder.put(outbox.outcome_of(message, token, headers, result, decision))

    async def _headers(self, message: Claimed) -> dict[str, str]:
        secrets = await self._secrets.get(message.scope, message.endpoint_id)
        timestamp, private_key = int(time.time()), webhook_settings.ED25519_PRIVATE_KEY
        return {
            "content-type": "application/json",
            "webhook-id": message.event_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signing.signature_header(
                secrets, message.event_id, timestamp, message.body, private_key
            ),
            "webhook-attempt": str(message.attempt_number),
            "webhook-event": message.event_type,
            **trace_header(message.traceparent),
            **({"webhook-skipped": message.skipped} if message.skipped else {}),
        }

    def _interrupt(self, message: Claimed, token: uuid.UUID, *, wait_seconds: float = 0.0) -> None:
        """Give a message back without using up a retry; it is due again after ``wait_seconds``."""
        self._paces.interrupted(message)
        self._recorder.put(outbox.interrupted_outcome(message, token, wait_seconds))

    # -- shutdown -----------------------------------------------------------------------

    async def _drain(self) -> None:
        """Let requests in flight finish for DRAIN_SECONDS, then give the other messages back."""
        sends = list(self._sends)
        if not sends:
            return
        faultpoint("engine.drain")
        await asyncio.wait(sends, timeout=DRAIN_SECONDS)
        for send in list(self._sends):
            send.cancel()
        await asyncio.gather(*sends, return_exceptions=True)
