"""How is a remote provider called, and what does its answer mean?

Every request goes through the guarded transport. Credentials are sent to the configured origin
only; a URL from an answer is treated like any client's URL. Nothing the provider says becomes part
of an error text, since it may quote a prompt or a key.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urljoin

import aiohttp
import orjson

from tasks_app.providers.base import ProviderError
from webhooks_app import traces
from webhooks_app.conf import Network
from webhooks_app.egress import EgressDenied, Home, Proxy, origin_of
from webhooks_app.retry import parse_retry_after
from webhooks_app.shown import printable
from webhooks_app.transport import FetchResult, Transport

S = TypeVar("S", str, bytes, str | bytes)

CALL_SECONDS = 60.0
#: For protocols whose answer is the result itself.
WORK_SECONDS = 3600.0
DOWNLOAD_SECONDS = 600.0
MAX_ANSWER_BYTES = 32 << 20  # a synchronous answer may carry an image as base64
MAX_REDIRECTS = 3
#: Most of an error's body that is kept for operators, in characters.
MAX_WORDS = 500
#: Longest wait that a provider can ask for: its server gets nothing meanwhile.
MAX_RETRY_AFTER = 3600.0
#: Wait after a fault of the forward proxy, in seconds.
PROXY_AGAIN_SECONDS = 10.0
#: Shorter parts of a header ("Key", "Bearer") are no secrets.
SHORTEST_SECRET = 8
REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: Names without dots before them, between slashes.
PLAIN_PATH = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")
RETRYABLE_STATUSES = frozenset({408, 409, 425})
#: Failures before a request was sent.
NOT_RECEIVED = frozenset({"connect", "dns", "tls"})
#: Words in answers that refuse the content, not the form, of a request.
REFUSALS = (b"content_policy", b"content policy", b"moderation", b"safety", b"nsfw")


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer: its status, headers in lower case, and body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """Return the body's JSON object.

        Raises:
            ProviderError: ``provider_unavailable``, as the body is not a JSON object.
        """
        try:
            document = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            document = None
        if not isinstance(document, dict):
            raise ProviderError("provider_unavailable", "The provider's answer is not JSON.")
        return document


@dataclass(frozen=True, slots=True)
class Server:
    """A configured server of a provider.

    ``label`` names it in receipts, metrics and the admin. ``headers`` are the credentials, for this
    origin only. ``networks``: private networks it may be in, see `Home`. ``limit``: most jobs at
    once, None for no limit of ours. ``proxy``: the forward proxy to it and to its results.
    """

    label: str
    base_url: str
    headers: Mapping[str, str]
    networks: tuple[Network, ...] = ()
    limit: int | None = None
    proxy: Proxy | None = None


class Unreachable(ProviderError):
    """There was no connection, so the request was certainly not received."""

    def __init__(self, message: str) -> None:
        super().__init__("provider_unavailable", message)


class ProxyDown(Unreachable):
    """Our forward proxy made no connection, which says nothing of the provider."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.retry_after = PROXY_AGAIN_SECONDS


class Unclear(ProviderError):
    """The request may have been received, but there is no answer: it may be paid for."""

    def __init__(self, message: str) -> None:
        super().__init__("provider_unavailable", message)


class ProviderClient:
    """The connection to one server of a provider; an async context manager, of one event loop.

    Args:
        server: its address and credentials.

    Raises:
        ProviderError: ``provider_rejected``, since the base URL may not be called.
    """

    def __init__(self, server: Server) -> None:
        self._base = server.base_url.rstrip("/") + "/"
        try:
            self._home = Home(origin_of(self._base), server.networks)
        except EgressDenied as denied:
            raise ProviderError("provider_rejected", f"The base URL: {denied.message}.") from None
        self._headers = dict(server.headers)
        self._secrets = [word for value in self._headers.values() for word in value.split()]
        self._to_home = Transport(home=self._home, proxy=server.proxy)
        self._to_others = Transport(proxy=server.proxy)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._to_home.close()
        await self._to_others.close()

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        seconds: float = CALL_SECONDS,
        accepted: Collection[int] = (),
    ) -> Answer:
        """Send one request with our credentials to the configured origin.

        Args:
            path: relative to the base URL, or a whole URL of the same origin.
            body: sent as JSON, unless it is an aiohttp ``FormData``.
            seconds: for the whole request.
            accepted: statuses besides 2xx whose answers are returned, since they say something.

        Raises:
            Unreachable, ProxyDown: it was not received.
            Unclear: it may have been received.
            ProviderError: with the code that fits the answer's status.
        """
        sent = {**self._headers, "Accept": "application/json", **(headers or {})}
        if traceparent := traces.current.get():
            sent[traces.HEADER] = traceparent
        if body is not None and not isinstance(body, aiohttp.FormData):
            sent["Content-Type"] = "application/json"
            body = orjson.dumps(body)
        if isinstance(body, aiohttp.FormData):
            body = body()
            sent["Content-Type"] = body.content_type  # it names the boundary
        found = await self._to_home.fetch(
            # What `urljoin` would return, at a twentieth of its cost.
            self._base + path if PLAIN_PATH.fullmatch(path) else urljoin(self._base, path),
            method=method,
            headers=sent,
            body=body,
            max_bytes=MAX_ANSWER_BYTES,
            timeout=seconds,
        )
        if not found.error_code and (status := found.status) and status in accepted:
            return Answer(status, found.headers or {}, found.body)
        return _judged(found, self._secrets)

    def masked(self, words: str) -> str:
        """Return the server's own words as they may be kept: their beginning, without our keys."""
        return _masked(words.encode(), self._secrets)

    async def listen(self, path: str) -> AsyncIterator[dict[str, Any] | bytes]:
        """Yield the JSON objects and the bytes that come over a WebSocket, until it closes.

        Raises:
            ProviderError: there was no connection, or it broke.
        """
        url = urljoin(self._base, path)
        async for told in _followed(self._to_home.listen(url, headers=self._headers)):
            if isinstance(told, bytes):
                yield told
            elif event := _object(told):
                yield event

    async def events(self, path: str) -> AsyncIterator[dict[str, Any]]:
        """Yield the JSON objects that come as server-sent events, until the stream ends.

        Args:
            path: as for `call`.

        Raises:
            ProviderError: there was no such stream, it broke, was silent, or said too much.
        """
        url = urljoin(self._base, path)
        async for told in _followed(self._to_home.events(url, headers=self._headers)):
            if event := _object(told):
                yield event

    async def upload(self, url: str, path: Path, media_type: str, seconds: float) -> None:
        """Send a file's bytes to ``url``, which an answer named, without our credentials.

        Raises:
            ProviderError: ``provider_rejected``: the URL may not be dialled, or the file is too
                large for it; ``provider_unavailable``: it was not taken.
        """
        way = self._to_home if _is_of(url, self._home) else self._to_others
        with path.open("rb") as content:
            found = await way.fetch(
                url,
                method="PUT",
                headers={"Content-Type": media_type},
                body=aiohttp.BufferedReaderPayload(content, content_type=media_type),
                max_bytes=MAX_ANSWER_BYTES,
                timeout=seconds,
            )
        try:
            _judged(found, self._secrets)
        except ProviderError as error:
            if error.status in (None, 413):
                raise
            # The URL carries its own permission: a refusal says nothing of our key.
            words, wait = error.words, error.retry_after
            raise ProviderError(
                "provider_unavailable", error.message, retry_after=wait, words=words
            ) from None

    async def download(self, url: str, to: Path, max_bytes: int) -> None:
        """Download ``url`` to a file; redirects are followed, each target checked again.

        Raises:
            ProviderError: ``output_invalid``: the URL may not be dialled, or the body is too large.
        """
        url = urljoin(self._base, url)
        for _ in range(MAX_REDIRECTS + 1):
            is_home = _is_of(url, self._home)
            found = await (self._to_home if is_home else self._to_others).fetch(
                url,
                headers=self._headers if is_home else {},
                max_bytes=max_bytes,
                timeout=DOWNLOAD_SECONDS,
                to=to,
            )
            if found.error_code in ("blocked_address", "invalid_url", "too_large"):
                text = f"The result could not be fetched: {found.error}."
                raise ProviderError("output_invalid", text, retryable=False)
            if found.status not in REDIRECTS:
                _judged(found, self._secrets)
                return
            url = urljoin(url, (found.headers or {}).get("location", ""))
        raise ProviderError("output_invalid", "The result redirects without end.")


def _object(text: str | bytes) -> dict[str, Any]:
    """Return the JSON object that a message is; empty if it is none."""
    with contextlib.suppress(orjson.JSONDecodeError):
        if isinstance(event := orjson.loads(text), dict):
            return event
    return {}


async def _followed(told: AsyncIterator[S]) -> AsyncIterator[S]:
    try:
        async for one in told:
            yield one
    except EgressDenied as denied:
        raise ProviderError("provider_rejected", f"The provider: {denied.message}.") from None
    except ConnectionError as error:
        raise Unreachable(f"The provider: {error}.") from None


def setting(name: str) -> str:
    """Return a Django setting as text, empty when there is none."""
    from django.conf import settings

    return str(getattr(settings, name, ""))


def _is_of(url: str, home: Home) -> bool:
    try:
        return origin_of(url) == home.origin
    except EgressDenied:
        return False


def _judged(found: FetchResult, secrets: Sequence[str]) -> Answer:
    """Return a 2xx answer; raise the error that fits any other."""
    if found.error_code in ("blocked_address", "invalid_url", "too_large"):
        raise ProviderError("provider_rejected", f"The provider: {found.error}.")
    if found.error_code == "proxy":
        raise ProxyDown(f"{found.error[:1].upper()}{found.error[1:]}.")
    if found.error_code in NOT_RECEIVED:
        raise Unreachable(f"The provider: {found.error}.")
    if found.error_code or found.status is None:
        raise Unclear(f"The provider: {found.error}.")
    headers = found.headers or {}
    if 200 <= found.status < 300:
        return Answer(found.status, headers, found.body)
    code, retryable = _meaning(found.status, found.body)
    wait = parse_retry_after(headers.get("retry-after"), time.time())
    text = f"The provider answered with status {found.status}."
    raise ProviderError(
        code,
        text,
        retryable=retryable,
        retry_after=None if wait is None else min(wait, MAX_RETRY_AFTER),
        status=found.status,
        words=_masked(found.body, secrets),
    )


def _masked(body: bytes, secrets: Sequence[str]) -> str:
    """Return the beginning of an answer as printable text, without our credentials in it."""
    text = body[: 4 * MAX_WORDS].decode("utf-8", "replace")
    for secret in secrets:
        if len(secret) >= SHORTEST_SECRET:
            text = text.replace(secret, "***")
    return printable(text, MAX_WORDS)


def _meaning(status: int, body: bytes) -> tuple[str, bool]:
    if status == 429:
        return "provider_rate_limited", True
    if status >= 500 or status in RETRYABLE_STATUSES:
        return "provider_unavailable", True
    if status in (401, 403):
        return "provider_auth", False
    if is_refusal(body):
        return "content_refused", False
    return "provider_rejected", False


def is_refusal(text: bytes) -> bool:
    """Say whether an error is about the content and not the form of the request."""
    return any(word in text.lower() for word in REFUSALS)
