"""How does one request go out, and what came back?

``Transport.send`` makes one signed POST and returns an ``AttemptResult``; faults of the receiver
or the network are values there, never exceptions. ``Transport.fetch`` downloads anything else that
a client's URL names. Both dial through the egress policy. No redirects, no cookies, no proxies from
the environment, no decompression: each of them would let a receiver control this process.

A delivery is plain HTTP/1.1 over our own connections, without an HTTP client library: libraries
reject a whole answer for a fault after its status line, and cost several times as much time.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Self

from webhooks_app import egress
from webhooks_app.conf import webhook_settings
from webhooks_app.retry import AttemptResult, ErrorCode, parse_retry_after, status_error_code
from webhooks_app.transport import download, streams, wire
from webhooks_app.transport.answer import SPEAKS_TLS, Answer
from webhooks_app.transport.dial import dial
from webhooks_app.transport.download import FetchResult
from webhooks_app.transport.failure import Trace, expects_tls, explain
from webhooks_app.transport.pool import Pool
from webhooks_app.transport.proxy import dial_through
from webhooks_app.transport.wire import (
    BadAnswerError,
    ClientIdentity,
    Connection,
    tls_context,
)

if TYPE_CHECKING:
    import aiohttp
    from aiohttp.abc import AbstractResolver


class Transport:
    """Connections to receivers; an async context manager, bound to one event loop.

    Args:
        resolver: used instead of the system's resolver (tests); its answers are checked as well.
        tls: TLS context used instead of the one with the system's certificate store (tests).
        home: dial only this origin, and check its address against the networks it names.
        proxy: reach everything through this forward proxy.
    """

    def __init__(
        self,
        *,
        resolver: AbstractResolver | None = None,
        tls: ssl.SSLContext | None = None,
        home: egress.Home | None = None,
        proxy: egress.Proxy | None = None,
    ) -> None:
        self._tls = tls
        self._proxy = proxy
        self._home = home
        self._allowed = home.admits if home is not None else egress.address_allowed
        self._resolver = egress.GuardResolver(resolver, self._allowed)
        self._pool = Pool()
        self._home_session: aiohttp.ClientSession | None = None
        self._own_headers = {
            "Accept-Encoding": "identity",
            "User-Agent": webhook_settings.USER_AGENT,
        }

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.close()
        if self._home_session is not None:
            await self._home_session.close()
        await self._resolver.close()

    # -- one webhook ------------------------------------------------------------------------------

    async def send(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        timeout: float | None = None,
        identity: ClientIdentity | None = None,
    ) -> AttemptResult:
        """POST ``body`` to ``url``; a fault of the receiver is in the result, never an exception.

        Args:
            headers: sent as given; Host, Content-Length, Accept-Encoding and User-Agent are ours.
            timeout: seconds for everything up to the answer's headers; the setting when None.
                Reading the body takes at most ``wire.BODY_SECONDS`` more.
            identity: whose connections are used; those of another identity never are.
        """
        started_at = time.perf_counter()
        try:
            target = egress.target_of(url, self._home)
        except egress.EgressDenied as denied:
            return AttemptResult(error_code=denied.code, error=denied.message)
        seconds = webhook_settings.TIMEOUT_SECONDS if timeout is None else timeout
        deadline = asyncio.get_running_loop().time() + seconds
        request = wire.render_post(target, {**self._own_headers, **headers}, body)
        trace = Trace()
        place = target.origin, identity.name if identity else ""
        connection, is_replaced = self._pool.take(place)
        answer = None
        try:
            if connection is not None:
                try:
                    answer = await self._exchange(connection, request, deadline, trace)
                except TimeoutError:
                    raise
                except (BadAnswerError, OSError):
                    # A reused connection may fail for reasons that belong to the request before.
                    # Try once more on a new one; there a failure counts as the receiver's answer.
                    # Sending twice is safe: receivers dedupe on `webhook-id`.
                    trace, is_replaced = Trace(), True
            if answer is None:
                connection = await self._connect(target.origin, deadline, trace, identity)
                answer = await self._exchange(connection, request, deadline, trace)
        except (BadAnswerError, OSError) as error:  # a TimeoutError is an OSError
            return _failure(error, trace, started_at, is_replaced)
        assert connection is not None
        if is_replaced:  # the receiver closes kept connections early: do not keep this one
            connection.close()
        elif connection.is_open:
            self._pool.put(place, connection)
        return _result(answer, trace, started_at, is_replaced)

    async def _connect(
        self,
        origin: egress.Origin,
        deadline: float,
        trace: Trace,
        identity: ClientIdentity | None,
    ) -> Connection:
        async with asyncio.timeout_at(deadline):
            how = (origin, self._resolver, self._allowed, trace)
            sock = await (dial_through(self._proxy, *how) if self._proxy else dial(*how))
            if origin.scheme != "https":
                return await Connection.over(sock, at=trace.remote_address)
            trace.tls_at = time.perf_counter()
            own = identity.tls_context("_" in origin.host) if identity else None
            tls = own or self._tls_for(origin)
            return await Connection.over(sock, tls, origin.host, at=trace.remote_address)

    def _tls_for(self, origin: egress.Origin) -> ssl.SSLContext:
        return self._tls or tls_context("_" in origin.host)

    async def _exchange(
        self, connection: Connection, request: bytes, deadline: float, trace: Trace
    ) -> Answer:
        trace.remote_address = connection.remote_address
        trace.sent_at = time.perf_counter()
        try:
            limit = webhook_settings.RESPONSE_BODY_LIMIT
            return await connection.exchange(request, deadline, limit)
        finally:
            trace.first_byte_at = connection.first_byte_at

    # -- one download -----------------------------------------------------------------------------

    async def fetch(
        self,
        url: str,
        *,
        max_bytes: int,
        timeout: float,
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
        body: bytes | aiohttp.payload.Payload | None = None,
        to: Path | None = None,
    ) -> FetchResult:
        """Download what a client's URL names, under the same policy as a webhook.

        Args:
            max_bytes: a longer body gives ``too_large``, and nothing is kept.
            timeout: seconds for the whole download.
            to: write the body to this file, which is removed again on failure.
        """
        try:
            target = egress.target_of(url, self._home)
        except egress.EgressDenied as denied:
            return FetchResult(error_code=denied.code, error=denied.message)
        # One origin, so that its connections can be kept. A request that may not be repeated gets a
        # new one: a kept connection may be closed by the server just as the request goes out.
        is_kept = self._home is not None and method == "GET"
        session = (self._home_session if is_kept else None) or download.open_session(
            self._resolver,
            egress.address_rule(target.origin, self._allowed),
            self._tls_for(target.origin),
            is_kept=is_kept,
            proxy=self._proxy,
        )
        if is_kept:
            self._home_session = session
        sent = {**self._own_headers, **(headers or {})}
        request = session.request(
            method, target.url, headers=sent, data=body, allow_redirects=False
        )
        try:
            return await download.keep(request, max_bytes, timeout, to)
        finally:
            if not is_kept:
                await session.close()

    # -- what a server tells by itself -------------------------------------------------------------

    async def listen(self, url: str, *, headers: Mapping[str, str]) -> AsyncIterator[str | bytes]:
        """Yield the messages that come over a WebSocket of the home's origin, until it closes.

        Args:
            url: with http or https, as for a request.

        Raises:
            EgressDenied: the URL may not be dialled.
            ConnectionError: there was no connection, or it broke.
        """
        target, session = self._to_follow(url)
        async with session:
            sent = {**self._own_headers, **headers}
            async for message in streams.messages(session, target.url, sent):
                yield message

    async def events(self, url: str, *, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
        """Yield the data of server-sent events of the home's origin, until the stream ends.

        Raises:
            EgressDenied: the URL may not be dialled.
            ConnectionError: there was no such stream, it broke, was silent, or said too much.
        """
        target, session = self._to_follow(url)
        async with session:
            sent = {**self._own_headers, **headers}
            async for data in streams.events(session, target.url, sent):
                yield data

    def _to_follow(self, url: str) -> tuple[egress.RequestTarget, aiohttp.ClientSession]:
        target = egress.target_of(url, self._home)
        return target, download.open_session(
            self._resolver,
            egress.address_rule(target.origin, self._allowed),
            self._tls_for(target.origin),
            is_kept=False,
            proxy=self._proxy,
        )


_STATUS_TEXTS = {
    ErrorCode.HTTP_STATUS: "status {}",
    ErrorCode.REDIRECT_REFUSED: "status {}: redirects are not followed",
}


def _result(answer: Answer, trace: Trace, started_at: float, is_replaced: bool) -> AttemptResult:
    assert answer.status is not None
    code = status_error_code(answer.status, webhook_settings.SUCCESS_STATUSES)
    texts = [_STATUS_TEXTS[code].format(answer.status)] if code else []
    if code and not trace.tls_at and expects_tls(answer.status, answer.body):
        texts.append(SPEAKS_TLS)
    if answer.notes:
        texts.append(f"note: {', '.join(answer.notes)}")
    return AttemptResult(
        status=answer.status,
        error_code=code,
        error="; ".join(texts),
        response_headers=answer.headers,
        response_body=answer.body,
        truncated=answer.is_truncated,
        remote_address=trace.remote_address,
        duration_ms=1000 * (time.perf_counter() - started_at),
        phases=trace.phases(),
        reconnected=is_replaced,
        retry_after=parse_retry_after(answer.header("retry-after"), time.time()) if code else None,
    )


def _failure(
    error: BaseException, trace: Trace, started_at: float, is_replaced: bool
) -> AttemptResult:
    code, text = explain(error, trace)
    return AttemptResult(
        error_code=code,
        error=text,
        remote_address=trace.remote_address,
        duration_ms=1000 * (time.perf_counter() - started_at),
        # The time that an internal name took to resolve must not be disclosed.
        phases={} if code == ErrorCode.BLOCKED_ADDRESS else trace.phases(),
        reconnected=is_replaced,
    )
