"""Which OAuth 2 token does the next request carry? Fetched once for all, kept, renewed in time.

A token belongs to one version of one credential and is kept in this process's memory alone. Faults
of the token server are told in words of ours: its answer may repeat the secret.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson

from webhooks_app.credentials.kinds import token_request
from webhooks_app.credentials.store import StoredCredential, Unusable

#: For the whole request to the token server, within the time of an attempt's lease.
FETCH_SECONDS = 10.0
MAX_ANSWER_BYTES = 65_536
#: Of a token whose end the server does not tell (RFC 6749, 5.1: "expires_in" is only recommended).
UNTOLD_LIFETIME_SECONDS = 3_600.0
MAX_LIFETIME_SECONDS = 86_400.0
#: A token is renewed so long before its end, or after four fifths of a short life.
RENEW_BEFORE_SECONDS = 60.0
#: A failed token server is asked again after this time, however many messages wait for it.
REST_SECONDS = 2.0
#: A token on trial that is refused, too, is replaced only when it is this old.
TRIAL_SECONDS = 30.0
MAX_KEPT = 1_000
_CODES = frozenset(
    {
        *("invalid_request", "invalid_client", "invalid_grant", "unauthorized_client"),
        *("unsupported_grant_type", "invalid_scope"),
    }
)

Fetch = Callable[..., Awaitable[Any]]  # as `Transport.fetch`


@dataclass(eq=False, slots=True)
class Token:
    """A token; times are of ``time.monotonic``. ``is_on_trial``: it followed a refused one."""

    text: str
    fetched_at: float
    renew_at: float
    ends_at: float
    is_on_trial: bool


@dataclass(slots=True)
class _Kept:
    token: Token | None = None
    fetching: asyncio.Task[Token] | None = None
    was_refused: bool = False
    failed_at: float = -REST_SECONDS
    fault: str = ""


class Tokens:
    """The tokens of this process; bound to one event loop."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._kept: dict[str, _Kept] = {}

    async def get(self, credential: StoredCredential) -> Token:
        """Return a token that lives; one request to the server serves all who wait for it.

        Raises:
            Unusable: the token server gives none; the text says why.
        """
        kept = self._kept.get(credential.version)
        if kept is None:
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            kept = self._kept[credential.version] = _Kept()
        now = time.monotonic()
        if kept.token is not None and now < kept.token.renew_at:
            return kept.token
        still_good = kept.token if kept.token is not None and now < kept.token.ends_at else None
        try:
            if kept.fetching is None and now - kept.failed_at < REST_SECONDS:
                raise Unusable(kept.fault)
            if kept.fetching is None:
                work = self._renew(credential, kept)
                kept.fetching = asyncio.get_running_loop().create_task(work)
                kept.fetching.add_done_callback(_seen)
            # Shielded: one caller that is cancelled must not leave the others without a token.
            return await asyncio.shield(kept.fetching)
        except Unusable:
            if still_good is None:
                raise
            return still_good

    def refused(self, credential: StoredCredential, token: Token) -> bool:
        """Note that the receiver answered 401; return whether the message goes again for free.

        Once per token: not if the token had itself followed a refused one and never worked, so
        that a receiver which refuses every token uses up its retries as any other.
        """
        kept = self._kept.get(credential.version)
        if kept is not None and kept.token is token:
            is_old = time.monotonic() - token.fetched_at >= TRIAL_SECONDS
            if not token.is_on_trial or is_old:
                kept.token, kept.was_refused = None, True
        return not token.is_on_trial

    async def _renew(self, credential: StoredCredential, kept: _Kept) -> Token:
        try:
            kept.token = await self._ask(credential, is_on_trial=kept.was_refused)
            kept.was_refused = False
            return kept.token
        except Unusable as unusable:
            kept.failed_at, kept.fault = time.monotonic(), str(unusable)
            raise
        finally:
            kept.fetching = None

    async def _ask(self, credential: StoredCredential, *, is_on_trial: bool) -> Token:
        headers, body = token_request(credential.values)
        asked_at = time.monotonic()
        got = await self._fetch(
            credential.values["token_url"],
            method="POST",
            headers=headers,
            body=body,
            max_bytes=MAX_ANSWER_BYTES,
            timeout=FETCH_SECONDS,
        )
        if got.error_code:
            raise Unusable(f"the token server could not be asked: {got.error}")
        said = _object_in(got.body)
        if got.status != 200:
            code = said.get("error")
            why = f" ({code})" if isinstance(code, str) and code in _CODES else ""
            raise Unusable(f"the token server answered {got.status}{why}")
        text, kind = said.get("access_token"), said.get("token_type")
        if not isinstance(text, str) or not (text.isascii() and text.isprintable() and text):
            raise Unusable("the token server's answer has no usable access_token")
        if not isinstance(kind, str) or kind.lower() != "bearer":
            raise Unusable("the token server's answer is no token of the type Bearer")
        seconds = _lifetime(said.get("expires_in"))
        renew_at = asked_at + seconds - min(RENEW_BEFORE_SECONDS, seconds / 5)
        return Token(text, asked_at, renew_at, asked_at + seconds, is_on_trial)


def _seen(task: asyncio.Task[Token]) -> None:
    """Look at the outcome, which nobody else does where every caller was cancelled meanwhile."""
    if not task.cancelled():
        task.exception()


def _object_in(body: bytes) -> dict[str, Any]:
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return said if isinstance(said, dict) else {}


def _lifetime(told: object) -> float:
    if isinstance(told, str) and told.isdigit() and len(told) < 12:  # some send it as a string
        told = int(told)
    if isinstance(told, bool) or not isinstance(told, int | float) or not told > 0:
        return UNTOLD_LIFETIME_SECONDS
    return float(min(told, MAX_LIFETIME_SECONDS))
