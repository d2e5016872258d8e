"""How is something downloaded that a client's URL names, whole or not at all?

Uses aiohttp, since any web server may be on the other side; every address is checked by the same
guard as a webhook's. What a status means is for the caller to decide.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from webhooks_app import egress
from webhooks_app.retry import ErrorCode
from webhooks_app.shown import printable
from webhooks_app.transport.failure import LookupFailedError, ProxyFault, Trace
from webhooks_app.transport.proxy import tunnel

CONNECT_SECONDS = 10.0
MAX_HEADER_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class FetchResult:
    """Result of a guarded download. ``error_code`` is empty when the whole body was stored.

    ``body`` is empty when the body went to a file. Besides the codes of an attempt there is
    ``too_large``. Any HTTP status counts as success here: the caller checks ``status``.
    """

    status: int | None = None
    error_code: str = ""
    error: str = ""
    headers: Mapping[str, str] | None = None
    body: bytes = b""
    size: int = 0


def open_session(
    resolver: egress.GuardResolver,
    allowed: Callable[[str], bool],
    tls: ssl.SSLContext,
    *,
    is_kept: bool,
    proxy: egress.Proxy | None = None,
) -> aiohttp.ClientSession:
    """Return a client that dials only addresses that are ``allowed``; the caller closes it.

    ``is_kept``: keep connections for further requests. ``proxy``: by way of this one.
    """
    make = partial(_ProxyConnector, proxy, allowed) if proxy else aiohttp.TCPConnector
    connector = make(
        resolver=_NoResolver() if proxy and proxy.is_guard else resolver,
        socket_factory=partial(egress.guarded_socket, allowed=allowed),
        ssl=tls,
        use_dns_cache=False,  # the checked answer must be the one that is dialled
        force_close=not is_kept,
        limit=0,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        max_line_size=MAX_HEADER_BYTES,
        max_field_size=MAX_HEADER_BYTES,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
        skip_auto_headers=("Accept", "Content-Type"),
    )


class _NoResolver(AbstractResolver):
    """Leaves names as they are, for a proxy that judges what they lead to."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host=host, port=port, family=family, proto=0, flags=0)]

    async def close(self) -> None:
        pass


class _ProxyConnector(aiohttp.TCPConnector):
    """Gets its connections as the deliveries do; the rest of aiohttp does not notice."""

    def __init__(self, proxy: egress.Proxy, allowed: Callable[[str], bool], **named: Any) -> None:
        super().__init__(**named)
        self._proxy, self._allowed = proxy, allowed

    async def _wrap_create_connection(  # type: ignore[override]
        self,
        factory: Any,
        *,
        addr_infos: list[Any],
        req: aiohttp.ClientRequest,
        timeout: aiohttp.ClientTimeout,
        client_error: type[aiohttp.ClientConnectorError] = aiohttp.ClientConnectorError,
        **named: Any,
    ) -> Any:
        key = req.connection_key
        try:
            sock = await tunnel(self._proxy, list(addr_infos), self._allowed, Trace())
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError from error
        except OSError as error:
            raise client_error(key, error) from error
        finally:
            addr_infos.clear()  # all were tried: aiohttp would begin again with the next
        try:
            return await asyncio.get_running_loop().create_connection(factory, sock=sock, **named)
        except ssl.SSLCertVerificationError as error:
            raise aiohttp.ClientConnectorCertificateError(key, error) from error
        except ssl.SSLError as error:
            raise aiohttp.ClientConnectorSSLError(key, error) from error
        except OSError as error:
            raise client_error(key, error) from error


async def keep(
    request: AbstractAsyncContextManager[aiohttp.ClientResponse],
    max_bytes: int,
    timeout: float,
    to: Path | None,
) -> FetchResult:
    """Send a request and keep the body of its answer; see ``Transport.fetch``."""
    try:
        async with asyncio.timeout(timeout), request as response:
            return await _store(response, max_bytes, to)
    except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
        code, text = explain(error)
        return FetchResult(error_code=code, error=text)


async def _store(response: aiohttp.ClientResponse, max_bytes: int, to: Path | None) -> FetchResult:
    kept = BytesIO()
    size = 0
    is_complete = False
    try:
        # Writing blocks the loop briefly; a download has a loop of its own.
        with to.open("wb") if to is not None else kept as file:
            async for chunk in response.content.iter_any():
                size += len(chunk)
                if size > max_bytes:
                    return FetchResult(response.status, "too_large", f"more than {max_bytes} bytes")
                file.write(chunk)
            body = kept.getvalue()
        is_complete = True
    finally:
        if to is not None and not is_complete:
            to.unlink(missing_ok=True)
    headers = {
        name.decode("latin-1").lower(): printable(value.decode("latin-1"), MAX_HEADER_BYTES)
        for name, value in response.raw_headers
    }
    return FetchResult(response.status, headers=headers, body=body, size=size)


def explain(error: BaseException) -> tuple[ErrorCode, str]:
    """Return error code and text of a failed download.

    The text is always our own: aiohttp's messages contain receiver bytes, URLs and addresses.
    """
    if _below(error, egress.PolicyBlocked):
        return ErrorCode.BLOCKED_ADDRESS, "the address is not allowed"
    if fault := _below(error, ProxyFault):
        return ErrorCode.PROXY, str(fault)
    if _below(error, LookupFailedError):
        return ErrorCode.DNS, "the host name could not be resolved"
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return ErrorCode.CONNECT, "no connection in time"
    if isinstance(error, TimeoutError):
        return ErrorCode.TIMEOUT, "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return ErrorCode.DNS, "the host name could not be resolved"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return ErrorCode.TLS, "the certificate is not valid"
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return ErrorCode.TLS, "the TLS handshake failed"
    if isinstance(error, aiohttp.ClientConnectorError):
        return ErrorCode.CONNECT, "no connection"
    if isinstance(error, aiohttp.ClientResponseError | aiohttp.ClientPayloadError):
        return ErrorCode.PROTOCOL, "the answer is not valid HTTP"
    return ErrorCode.RESET, "the connection was closed before the answer was complete"


def _below(error: Any, kind: type[BaseException]) -> BaseException | None:
    """Search aiohttp's error and its causes for one of a kind (one cause per address)."""
    if isinstance(error, kind):
        return error
    below = [getattr(error, "os_error", None), error.__cause__, error.__context__]
    below += getattr(error, "exceptions", ())
    found = (_below(each, kind) for each in below if isinstance(each, BaseException))
    return next((each for each in found if each), None)
