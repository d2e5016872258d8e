"""How does one request go out, and what came back?

The only module that opens an HTTP client. ``Transport.send`` makes one signed POST and returns an
``AttemptResult``; a fault of the receiver or the network is a value there, never an exception.
``Transport.fetch`` is the guarded download for everything else that a client's URL names. Both
dial through egress.py. No redirects, no cookies, no proxies from the environment, no
decompression: each of them would let a receiver steer this process.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.http_exceptions import HttpProcessingError

from webhooks_app import egress, wire
from webhooks_app.conf import webhook_settings
from webhooks_app.downloads import FetchResult, store
from webhooks_app.probes import (
    Attempt,
    NotingProtocol,
    NotingRequest,
    TimedResolver,
    current_attempt,
    dial,
    explain,
    printable,
    shown_headers,
    tls_context,
)
from webhooks_app.retry import AttemptResult, ErrorCode, parse_retry_after, status_error_code

IDLE_SECONDS = 15.0
#: Origins whose way to connect is remembered.
MAX_ORIGINS = 4096


class Transport:
    """A pool of connections to receivers; an async context manager, bound to one event loop.

    Args:
        resolver: answers names instead of the system's resolver (tests); guarded all the same.
        tls: the client side of TLS instead of the system's certificate store (tests).
        home: dial this one origin and nothing else, judged by the networks that it names.
    """

    def __init__(
        self,
        *,
        resolver: AbstractResolver | None = None,
        tls: ssl.SSLContext | None = None,
        home: egress.Home | None = None,
    ) -> None:
        self._inner_resolver = resolver
        self._tls = tls
        self._home = home
        self._allowed = home.admits if home is not None else egress.address_allowed
        self._session: aiohttp.ClientSession | None = None
        self._fresh: aiohttp.ClientSession | None = None
        self._outgoing = wire.Outgoing()
        self._origins: dict[egress.Origin, aiohttp.ClientRequest] = {}
        self._own_headers = {
            "Accept-Encoding": "identity",
            "User-Agent": webhook_settings.USER_AGENT,
        }

    async def __aenter__(self) -> Self:
        self._resolver = egress.GuardResolver(self._inner_resolver, self._allowed)
        self._session = self._open(keep_alive=True)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for session in (self._session, self._fresh):
            if session is not None:
                await session.close()
        await self._resolver.close()

    def _open(self, *, keep_alive: bool) -> aiohttp.ClientSession:
        kept: dict[str, Any] = (
            {"keepalive_timeout": IDLE_SECONDS} if keep_alive else {"force_close": True}
        )
        connector = aiohttp.TCPConnector(
            resolver=TimedResolver(self._resolver),
            socket_factory=partial(dial, allowed=self._allowed),
            ssl=self._tls or tls_context(),
            use_dns_cache=False,  # the answer that was judged is the one that is dialled
            limit=0,  # seats are the engine's business
            happy_eyeballs_delay=None,
            **kept,
        )
        # Private, and harmless if it vanishes: the first byte is then unknown and taken for none.
        connector._factory = partial(  # type: ignore[assignment]
            NotingProtocol, loop=asyncio.get_running_loop()
        )
        return aiohttp.ClientSession(
            connector=connector,
            request_class=NotingRequest,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            max_line_size=wire.MAX_LINE_BYTES,
            max_field_size=wire.MAX_LINE_BYTES,
            headers=self._own_headers,
            timeout=wire.TIMEOUT,
            skip_auto_headers=("Accept", "Content-Type"),
        )

    @property
    def _pool(self) -> aiohttp.ClientSession:
        assert self._session is not None, "use Transport as an async context manager"
        return self._session

    def _fresh_session(self) -> aiohttp.ClientSession:
        """A client that never reuses: the pool may hold more connections that died unnoticed."""
        if self._fresh is None:
            self._fresh = self._open(keep_alive=False)
        return self._fresh

    # -- one webhook ------------------------------------------------------------------------------

    async def send(
        self, url: str, headers: Mapping[str, str], body: bytes, timeout: float | None = None
    ) -> AttemptResult:
        """POST ``body`` to ``url`` and return what came of it; never raises for a receiver's fault.

        Args:
            headers: sent as given; Host, Content-Length, Accept-Encoding and User-Agent are ours.
            timeout: seconds for everything up to the answer's headers; the setting when None.
                Reading the body takes at most ``wire.BODY_SECONDS`` more.
        """
        started_at = time.perf_counter()
        try:
            target = egress.target_of(url, self._home)
        except egress.EgressDenied as denied:
            return AttemptResult(error_code=denied.code, error=denied.message)
        seconds = webhook_settings.TIMEOUT_SECONDS if timeout is None else timeout
        return await self._send(target, headers, body, started_at, seconds)

    async def _send(
        self,
        target: egress.Target,
        headers: Mapping[str, str],
        body: bytes,
        started_at: float,
        seconds: float,
    ) -> AttemptResult:
        attempt, is_repeated = Attempt(), False
        token = current_attempt.set(attempt)
        try:
            request = wire.render_post(target.url, {**self._own_headers, **headers}, body)
            async with asyncio.timeout(seconds):
                try:
                    reply = await self._exchange(self._pool, target, request, attempt)
                except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
                    if attempt.is_new or not attempt.sent_at or attempt.first_byte_at:
                        raise
                    is_repeated, attempt = True, Attempt()
                    current_attempt.set(attempt)
                    reply = await self._exchange(self._fresh_session(), target, request, attempt)
            headers_at = time.perf_counter()
            content = await reply.read(webhook_settings.RESPONSE_BODY_LIMIT)
        except (aiohttp.ClientError, OSError, HttpProcessingError) as error:
            # A TimeoutError is an OSError.
            return _failure(error, attempt, started_at, is_repeated)
        finally:
            current_attempt.reset(token)
        return _answer(
            reply,
            attempt,
            content,
            started_at=started_at,
            headers_at=headers_at,
            is_repeated=is_repeated,
        )

    async def _exchange(
        self,
        session: aiohttp.ClientSession,
        target: egress.Target,
        request: bytes,
        attempt: Attempt,
    ) -> wire.Reply:
        assert session.connector is not None, "closed"
        origin = self._origins.get(target.origin)
        if origin is None:
            if len(self._origins) >= MAX_ORIGINS:
                self._origins.clear()
            origin = aiohttp.ClientRequest(
                "POST", target.url.origin(), loop=asyncio.get_running_loop(), session=session
            )
            self._origins[target.origin] = origin
        return await wire.exchange(session.connector, origin, request, self._outgoing, attempt)

    # -- one download -----------------------------------------------------------------------------

    async def fetch(
        self,
        url: str,
        *,
        max_bytes: int,
        timeout: float,
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
        body: bytes | None = None,
        to: Path | None = None,
    ) -> FetchResult:
        """Download what a client's URL names, under the same policy as a webhook.

        Args:
            max_bytes: a longer body ends in ``too_large``, and nothing is kept.
            timeout: seconds for all of it.
            to: write the body to this file, which is removed again on failure.
        """
        try:
            target = egress.target_of(url, self._home)
        except egress.EgressDenied as denied:
            return FetchResult(error_code=denied.code, error=denied.message)
        attempt = Attempt()
        token = current_attempt.set(attempt)
        try:
            async with (
                asyncio.timeout(timeout),
                self._pool.request(
                    method, target.url, headers=headers, data=body, allow_redirects=False
                ) as response,
            ):
                return await store(response, max_bytes, to)
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            code, text = explain(error, attempt)
            return FetchResult(error_code=code, error=text)
        finally:
            current_attempt.reset(token)


def fetch_sync(url: str, *, resolver: AbstractResolver | None = None, **how: Any) -> FetchResult:
    """``Transport.fetch`` for synchronous callers; takes the same arguments.

    Opens a client for this one download. Not for use inside a running event loop.
    """

    async def fetch() -> FetchResult:
        async with Transport(resolver=resolver) as transport:
            return await transport.fetch(url, **how)

    return asyncio.run(fetch())


def _answer(
    reply: wire.Reply,
    attempt: Attempt,
    body: tuple[bytes, bool],
    *,
    started_at: float,
    headers_at: float,
    is_repeated: bool,
) -> AttemptResult:
    code = status_error_code(reply.status, webhook_settings.SUCCESS_STATUSES)
    return AttemptResult(
        status=reply.status,
        error_code=code,
        error=_STATUS_TEXTS[code].format(reply.status) if code else "",
        response_headers=shown_headers(reply.raw_headers),
        response_body=body[0],
        truncated=body[1],
        remote_address=attempt.remote_address,
        duration_ms=1000 * (time.perf_counter() - started_at),
        phases=attempt.phases(headers_at),
        is_connection_reused=not attempt.is_new,
        reconnected=is_repeated,
        retry_after=_retry_after(reply) if code else None,
        location=printable(reply.headers.get("Location", "")) if code else "",
    )


def _retry_after(reply: wire.Reply) -> float | None:
    return parse_retry_after(reply.headers.get("Retry-After"), time.time())


_STATUS_TEXTS = {
    ErrorCode.HTTP_STATUS: "status {}",
    ErrorCode.REDIRECT_REFUSED: "status {}: redirects are not followed",
}


def _failure(
    error: BaseException, attempt: Attempt, started_at: float, is_repeated: bool
) -> AttemptResult:
    code, text = explain(error, attempt)
    return AttemptResult(
        error_code=code,
        error=text,
        remote_address=attempt.remote_address,
        duration_ms=1000 * (time.perf_counter() - started_at),
        phases=attempt.phases(),
        is_connection_reused=bool(attempt.sent_at) and not attempt.is_new,
        reconnected=is_repeated,
    )
