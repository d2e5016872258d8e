"""How many requests may a key make, counted over all processes together?

One token bucket per key in Redis, refilled evenly, and used by one atomic script.
Without Redis each process counts alone: the limit then holds per process, and no request is refused
because of Redis.
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

from tasks_app import redis_gate
from webhooks_app.api.problems import ApiProblem

if TYPE_CHECKING:
    # DRF's views import this module while they load.
    from rest_framework.views import APIView

MINUTE = 60.0
LOCAL_BUCKETS = 10_000  # then the oldest are dropped, so that addresses cannot fill the memory
# The bucket is stored as one point in time (GCRA): when it will be full again. KEYS[1]: the bucket;
# ARGV: seconds per token, size. Returns {allowed, tokens left, microseconds until full,
# microseconds until the next token}. Uses Redis's clock, since those of the machines differ.
_SCRIPT = """
local now = redis.call('TIME')
now = now[1] * 1000000 + now[2]
local gap = tonumber(ARGV[1]) * 1000000
local size = gap * tonumber(ARGV[2])
local full = tonumber(redis.call('GET', KEYS[1]) or now)
if full < now then full = now end
local allowed = full + gap - now <= size
if allowed then full = full + gap end
redis.call('SET', KEYS[1], string.format('%.0f', full),
           'PX', math.ceil((full - now) / 1000) + 1000)
local left = math.max(0, math.floor((size - (full - now)) / gap))
return {allowed and 1 or 0, left, math.ceil(full - now),
        allowed and 0 or math.ceil(full + gap - now - size)}
"""


@dataclass(frozen=True)
class Verdict:
    """The bucket's answer; times in seconds."""

    is_allowed: bool
    limit: int
    remaining: int
    full_in: float
    retry_in: float

    def headers(self) -> dict[str, str]:
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(math.ceil(self.full_in)),
        }


def take(bucket: str, per_minute: int) -> Verdict:
    """Take a token from a bucket of ``per_minute`` tokens, which refills in a minute."""
    verdict = redis_gate.gate.call(lambda: _take_from_redis(bucket, per_minute))
    return verdict or _local.take(bucket, per_minute)


_NAME = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()


def _take_from_redis(bucket: str, per_minute: int) -> Verdict:
    key, gap = f"rate:{bucket}", MINUTE / per_minute
    client: Any = redis_gate.client()
    arguments = (1, key, gap, per_minute)
    try:
        answer = client.evalsha(_NAME, *arguments)
    except redis.exceptions.NoScriptError:  # Redis was restarted, or its scripts were flushed
        answer = client.eval(_SCRIPT, *arguments)
    allowed, remaining, full_in, retry_in = answer
    return Verdict(bool(allowed), per_minute, int(remaining), full_in / 1e6, retry_in / 1e6)


class LocalBuckets:
    """The same buckets in this process's memory."""

    def __init__(self) -> None:
        self._full_at: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, bucket: str, per_minute: int) -> Verdict:
        gap = MINUTE / per_minute
        with self._lock:
            now = time.monotonic()
            full_at = max(self._full_at.get(bucket, now), now)
            is_allowed = full_at + gap - now <= MINUTE
            if is_allowed:
                full_at += gap
            self._full_at[bucket] = full_at
            self._full_at.move_to_end(bucket)
            if len(self._full_at) > LOCAL_BUCKETS:
                self._full_at.popitem(last=False)
        # A little more, since 60 s less one gap are not quite a whole number of gaps as floats.
        left = max(0, int((MINUTE - (full_at - now)) / gap + 1e-6))
        retry_in = 0.0 if is_allowed else full_at + gap - now - MINUTE
        return Verdict(is_allowed, per_minute, left, full_at - now, retry_in)


_local = LocalBuckets()


def client_address(request: HttpRequest) -> str:
    """Return the client's address, behind exactly as many proxies as the operator declared."""
    proxies = settings.TRUSTED_PROXIES
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
    if proxies and len(forwarded) >= proxies and forwarded[-proxies].strip():
        return str(forwarded[-proxies].strip()[:64])
    return str(request.META.get("REMOTE_ADDR", ""))


def rate_limited(verdict: Verdict) -> ApiProblem:
    seconds = max(1, math.ceil(verdict.retry_in))
    return ApiProblem(
        429,
        "rate_limited",
        f"More than {verdict.limit} requests a minute. Try again in {seconds} s.",
        headers={"Retry-After": str(seconds), **verdict.headers()},
    )


class KeyRateThrottle(BaseThrottle):
    """Counts every request against the key's own or the service's limit, and its project's."""

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
        shared = settings.PROJECT_RATE_LIMIT_PER_MINUTE
        if verdict.is_allowed and access.scope and shared:
            of_project = take(f"project:{access.scope}", shared)
            verdict = min(verdict, of_project, key=lambda it: (it.is_allowed, it.remaining))
        # A middleware copies these to the response, whichever view or error makes it.
        cast(Any, request._request).rate_limit_headers = verdict.headers()
        if not verdict.is_allowed:
            raise rate_limited(verdict)
        return True
