"""How many requests may a key make, counted once over all processes?

A bucket of tokens per key in Redis, refilled evenly, taken from by one atomic script. When
Redis is away each process counts for itself: the limit then holds per process, and no request
is refused for Redis's sake.
"""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import redis
from django.conf import settings
from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from tasks_app import wake
from webhooks_app.problems import ApiProblem

if TYPE_CHECKING:
    # DRF's views import this module while they load.
    from rest_framework.views import APIView

MINUTE = 60.0
LOCAL_BUCKETS = 10_000  # the oldest are forgotten, so that addresses cannot fill the memory

# The bucket as one point in time (GCRA): when it would be full again. KEYS[1] the bucket,
# ARGV: seconds per token, tokens. Answers {allowed, tokens left, microseconds until full,
# microseconds until the next token}. The clock is Redis's, since those of the machines differ.
_SCRIPT = """
local now = redis.call('TIME')
now = now[1] * 1000000 + now[2]
local gap = tonumber(ARGV[1]) * 1000000
local size = gap * tonumber(ARGV[2])
local full = tonumber(redis.call('GET', KEYS[1]) or now)
if full < now then full = now end
local next_full = full + gap
if next_full - now > size then
  return {0, 0, math.ceil(full - now), math.ceil(next_full - now - size)}
end
redis.call('SET', KEYS[1], string.format('%.0f', next_full),
           'PX', math.ceil((next_full - now) / 1000) + 1000)
return {1, math.floor((size - (next_full - now)) / gap), math.ceil(next_full - now), 0}
"""


@dataclass(frozen=True)
class Verdict:
    """What the bucket said; times in seconds."""

    is_allowed: bool
    limit: int
    remaining: int
    full_in: float
    retry_in: float

    def headers(self) -> dict[str, str]:
        """Return the ``RateLimit-*`` headers."""
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(math.ceil(self.full_in)),
        }


def take(bucket: str, per_minute: int) -> Verdict:
    """Take one token from a bucket that holds, and gains, ``per_minute`` of them a minute."""
    answer = wake.gate.call(lambda: _take_from_redis(bucket, per_minute))
    if answer is None:
        answer = _local.take(bucket, per_minute)
    is_allowed, remaining, full_in, retry_in = answer
    return Verdict(bool(is_allowed), per_minute, int(remaining), full_in, retry_in)


_NAME = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()


def _take_from_redis(bucket: str, per_minute: int) -> tuple[bool, int, float, float]:
    key, gap = f"rate:{bucket}", MINUTE / per_minute
    client: Any = wake.client()
    try:
        answer = client.evalsha(_NAME, 1, key, gap, per_minute)
    except redis.exceptions.NoScriptError:  # Redis is new, or was told to forget
        answer = client.eval(_SCRIPT, 1, key, gap, per_minute)
    allowed, remaining, full_in, retry_in = answer
    return bool(allowed), int(remaining), full_in / 1e6, retry_in / 1e6


class LocalBuckets:
    """The same buckets in this process's memory."""

    def __init__(self) -> None:
        self._full_at: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, bucket: str, per_minute: int) -> tuple[bool, int, float, float]:
        """Answer as the script does."""
        gap = MINUTE / per_minute
        with self._lock:
            now = time.monotonic()
            full_at = max(self._full_at.get(bucket, now), now)
            next_full = full_at + gap
            if next_full - now > MINUTE:
                return False, 0, full_at - now, next_full - now - MINUTE
            self._full_at[bucket] = next_full
            self._full_at.move_to_end(bucket)
            if len(self._full_at) > LOCAL_BUCKETS:
                self._full_at.popitem(last=False)
        return True, int((MINUTE - (next_full - now)) / gap), next_full - now, 0.0


_local = LocalBuckets()


def client_address(request: HttpRequest) -> str:
    """Return who connected, seen past exactly the proxies that the operator declared."""
    proxies = settings.TRUSTED_PROXIES
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
    if proxies and len(forwarded) >= proxies and forwarded[-proxies].strip():
        return str(forwarded[-proxies].strip()[:64])
    return str(request.META.get("REMOTE_ADDR", ""))


def rate_limited(verdict: Verdict) -> ApiProblem:
    """Return the 429 of an empty bucket."""
    seconds = max(1, math.ceil(verdict.retry_in))
    return ApiProblem(
        429,
        "rate_limited",
        f"More than {verdict.limit} requests a minute. Try again in {seconds} s.",
        headers={"Retry-After": str(seconds), **verdict.headers()},
    )


class KeyRateThrottle(BaseThrottle):
    """Count every request of a key against the key's own limit, or the service's."""

    def allow_request(self, request: Request, view: APIView) -> bool:
        """Take one token.

        Raises:
            ApiProblem: 429, when there is none.
        """
        access = cast(Any, request.auth)
        if access is None:
            return True
        limit = access.key.rate_limit_per_minute or settings.RATE_LIMIT_PER_MINUTE
        verdict = take(f"key:{access.key.pk}", limit)
        # The middleware copies them to the answer, whatever view or error makes it.
        cast(Any, request._request).rate_limit_headers = verdict.headers()
        if not verdict.is_allowed:
            raise rate_limited(verdict)
        return True
