"""Who asks, and what may they do? Checks API keys, with a short memory.

A busy thread sees the same key again and again, so it remembers a key that it read for
`REMEMBERED_SECONDS`; no request that begins later than that after a revocation is answered.
"""

from __future__ import annotations

import re
import select
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

from django.conf import settings
from django.db import Error, connection
from django.db.models import Q
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from tasks_app.access import throttling
from tasks_app.instances import columns, fetch
from tasks_app.models import ApiKey
from webhooks_app.api.problems import ApiProblem
from webhooks_app.database import READ_ONLY, why_unusable

_KEY = re.compile(r"([A-Za-z0-9]{8})\.[A-Za-z0-9]{16,64}")
_FIND = f"SELECT {columns(ApiKey)} FROM tasks_app_apikey WHERE prefix = %s"  # noqa: S608 - names
USED_EVERY = timedelta(minutes=1)
#: The longest that a revoked key may go on is a second.
REMEMBERED_SECONDS = 0.5  # without the memory P8 fell from 0.56 to 0.49 by processor time
REMEMBERED_KEYS = 100
CHALLENGE = 'ApiKey realm="api"'


@dataclass(frozen=True)
class Access:
    """What a key may do; views get it as ``request.auth``."""

    key: ApiKey

    @property
    def scope(self) -> str | None:
        """Return the only project this key may use, None for all."""
        return self.key.project_id or None

    def allows(self, action: str) -> bool:
        """Say whether the key has a scope: read, submit or admin."""
        return action in self.key.scopes


def access_of(request: Request) -> Access:
    return cast(Access, request.auth)


def find_key(text: str) -> ApiKey | None:
    """Return the valid key with this clear text; None if unknown, revoked or expired."""
    match = _KEY.fullmatch(text)
    key = _look_up(match[1]) if match else None
    is_good = key and key.is_valid(text) and not key.revoked and not key.has_expired
    return key if is_good else None


class _Memory(threading.local):
    """What one thread read lately: each key by its prefix, and until when it may be used."""

    def __init__(self) -> None:
        self.keys: dict[str, tuple[float, ApiKey]] = {}

    def note(self, key: ApiKey, asked_at: float) -> None:
        """Remember a key that the database was asked for at `asked_at` (monotonic seconds)."""
        if len(self.keys) >= REMEMBERED_KEYS:
            self.keys.clear()
        self.keys[key.prefix] = asked_at + REMEMBERED_SECONDS, key


_memory = _Memory()


def _look_up(prefix: str) -> ApiKey | None:
    """Return the key with this prefix, and make sure that the database connection works.

    Django would first check each kept connection, which costs a round trip. This statement, the
    first of a request, shows that as well, and is repeated on a new connection if it fails. A
    connection that answered a moment ago and has received nothing since is taken to work.
    """
    until, key = _memory.keys.get(prefix, (0.0, None))
    asked_at = time.monotonic()
    is_remembered = asked_at < until and _is_quiet()
    connection.health_check_done = True  # type: ignore[attr-defined]
    if is_remembered:
        return key
    try:
        found = fetch(ApiKey, _FIND, [prefix])
    except Error as error:
        if connection.in_atomic_block or not why_unusable(error):
            raise
        found = fetch(ApiKey, _FIND, [prefix])
    for key in found:
        _memory.note(key, asked_at)
    return found[0] if found else None


def _is_quiet() -> bool:
    """Say whether the server has sent nothing unrequested, as it does when it ends a session."""
    session = connection.connection
    if session is None or session.closed:
        return False
    poll = select.poll()
    poll.register(session.fileno(), select.POLLIN)
    return not poll.poll(0)


def note_use(key: ApiKey) -> None:
    """Store that the key was used, with at most one write per minute."""
    now = timezone.now()
    if key.last_used_at and now - key.last_used_at < USED_EVERY:
        return
    stale = Q(last_used_at=None) | Q(last_used_at__lt=now - USED_EVERY)
    try:
        ApiKey.objects.filter(stale, pk=key.pk).update(last_used_at=now)
    except Error as error:
        # A client that only reads must still work with a read-only database.
        if why_unusable(error) != READ_ONLY:
            raise
        return
    key.last_used_at = now


class ApiKeyAuthentication(BaseAuthentication):
    """Reads ``X-API-Key``; answers 401 to every key that is not valid."""

    #: Text of the 401 for a request without a key.
    hint = "Send your API key in the header X-API-Key."

    def authenticate(self, request: Request) -> tuple[None, Access] | None:
        """Return the access of the request's key, None without a key.

        Raises:
            ApiProblem: 401 for a key that is not valid, 429 for too many of those.
        """
        text = request.META.get("HTTP_X_API_KEY")
        if text is None:
            return None
        key = find_key(text)
        if key is None:
            raise self._refusal(request)
        note_use(key)
        return None, Access(key)

    def authenticate_header(self, request: Request) -> str:
        """Return the challenge; without it DRF would answer 403."""
        return CHALLENGE

    def _refusal(self, request: Request) -> ApiProblem:
        """Count failures per address, so that keys cannot be guessed quickly."""
        address = throttling.client_address(request._request)
        verdict = throttling.take(f"refused:{address}", settings.REFUSED_KEYS_PER_MINUTE)
        if not verdict.is_allowed:
            return throttling.rate_limited(verdict)
        return unauthorized("This API key is not valid: unknown, revoked or expired.")


def unauthorized(detail: str) -> ApiProblem:
    return ApiProblem(401, "unauthorized", detail, headers={"WWW-Authenticate": CHALLENGE})


def scoped(queryset: Any, access: Access) -> Any:
    """Limit a queryset to the projects that the key may see."""
    return queryset if access.scope is None else queryset.filter(project_id=access.scope)
