"""How is a remote provider called, and what does its answer mean?

Every request goes through the guarded transport. Credentials are sent to the configured origin
only; a URL from an answer is treated like any client's URL. Nothing the provider says becomes part
of an error text, since it may quote a prompt or a key.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import orjson

from tasks_app.providers.base import Cancelled, Context, ProviderError
from webhooks_app.conf import Network
from webhooks_app.egress import EgressDenied, Home, origin_of
from webhooks_app.retry import parse_retry_after
from webhooks_app.transport import FetchResult, Transport

CALL_SECONDS = 60.0
#: For protocols whose answer is the result itself.
WORK_SECONDS = 3600.0
#: How often a running request checks whether it is still wanted; a cancel must work within 2 s.
LOOK_SECONDS = 0.25
MAX_ANSWER_BYTES = 32 << 20  # a synchronous answer may carry an image as base64
MAX_REDIRECTS = 3
REDIRECTS = frozenset({301, 302, 303, 307, 308})
RETRYABLE_STATUSES = frozenset({408, 409, 425})
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


class ProviderClient:
    """The connection to one provider for one job; used from the job's thread only.

    Args:
        base_url: the only origin that gets the credentials.
        headers: the credentials.
        networks: private networks that origin may be in, see `Home`.
        context: asked whether the work is still wanted; None after the job has ended.
    """

    def __init__(
        self,
        base_url: str,
        headers: Mapping[str, str],
        networks: tuple[Network, ...],
        context: Context | None,
    ) -> None:
        self._base = base_url.rstrip("/") + "/"
        try:
            self._home = Home(origin_of(self._base), networks)
        except EgressDenied as denied:
            raise ProviderError("provider_rejected", f"The base URL: {denied.message}.") from None
        self._headers = dict(headers)
        self._context = context

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        seconds: float = CALL_SECONDS,
    ) -> Answer:
        """Send one request with our credentials to the configured origin.

        Args:
            path: relative to the base URL, or a whole URL of the same origin.
            seconds: for the whole request, or the time left to the task, if that is less.

        Raises:
            ProviderError: with the code that fits the status or failure.
            Cancelled: the work is no longer wanted.
        """
        sent = {**self._headers, "Accept": "application/json", **(headers or {})}
        if body is not None:
            sent["Content-Type"] = "application/json"
        found = self._fetch(
            urljoin(self._base, path),
            self._home,
            method=method,
            headers=sent,
            body=None if body is None else orjson.dumps(body),
            max_bytes=MAX_ANSWER_BYTES,
            timeout=self._seconds(seconds),
        )
        return _judged(found)

    def download(self, url: str, to: Path, max_bytes: int) -> None:
        """Download ``url`` to a file; redirects are followed, each target checked again.

        Raises:
            ProviderError: ``output_invalid``: the URL may not be dialled, or the body is too large.
            Cancelled: the work is no longer wanted.
        """
        url = urljoin(self._base, url)
        for _ in range(MAX_REDIRECTS + 1):
            found = self._download_once(url, to, max_bytes)
            if found.error_code in ("blocked_address", "invalid_url", "too_large"):
                text = f"The result could not be fetched: {found.error}."
                raise ProviderError("output_invalid", text, retryable=False)
            if found.status not in REDIRECTS:
                _judged(found)
                return
            url = urljoin(url, (found.headers or {}).get("location", ""))
        raise ProviderError("output_invalid", "The result redirects without end.")

    def _download_once(self, url: str, to: Path, max_bytes: int) -> FetchResult:
        is_home = _is_of(url, self._home)
        return self._fetch(
            url,
            self._home if is_home else None,
            headers=self._headers if is_home else {},
            max_bytes=max_bytes,
            timeout=self._seconds(600.0),
            to=to,
        )

    def _seconds(self, most: float) -> float:
        if self._context is None:
            return min(most, 5.0)
        left = self._context.seconds_left()
        if left <= 0:
            raise ProviderError("timed_out", "The task's time is over.")
        return min(most, left)

    def _fetch(self, url: str, home: Home | None, **how: Any) -> FetchResult:
        return asyncio.run(self._watched(url, home, how))

    async def _watched(self, url: str, home: Home | None, how: dict[str, Any]) -> FetchResult:
        """Fetch, and stop as soon as the work is no longer wanted."""
        async with Transport(home=home) as transport:
            work = asyncio.ensure_future(transport.fetch(url, **how))
            while not (await asyncio.wait({work}, timeout=LOOK_SECONDS))[0]:
                if self._context is not None and self._context.cancelled():
                    work.cancel()
                    await asyncio.wait({work})
                    raise Cancelled
            return work.result()


def _is_of(url: str, home: Home) -> bool:
    try:
        return origin_of(url) == home.origin
    except EgressDenied:
        return False


def _judged(found: FetchResult) -> Answer:
    """Return a 2xx answer; raise the error that fits any other."""
    if found.error_code in ("blocked_address", "invalid_url", "too_large"):
        raise ProviderError("provider_rejected", f"The provider: {found.error}.")
    if found.error_code or found.status is None:
        raise ProviderError("provider_unavailable", f"The provider: {found.error}.")
    headers = found.headers or {}
    if 200 <= found.status < 300:
        return Answer(found.status, headers, found.body)
    code, retryable = _meaning(found.status, found.body)
    wait = parse_retry_after(headers.get("retry-after"), time.time())
    text = f"The provider answered with status {found.status}."
    raise ProviderError(code, text, retryable=retryable, retry_after=wait)


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
