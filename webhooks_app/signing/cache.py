"""Which secrets sign a message, without asking the database for each one?

A few seconds old at most, so a rotation reaches every engine within its overlap.
"""

from __future__ import annotations

import asyncio
import time
import uuid

from webhooks_app.database import DatabaseThread

FRESH_SECONDS = 5.0

_Key = tuple[str, uuid.UUID | None]


class SecretCache:
    """Signing secrets by scope and endpoint; one look-up at a time for each."""

    def __init__(self) -> None:
        self._found: dict[_Key, tuple[float, list[str]]] = {}
        self._asking: dict[_Key, asyncio.Future[list[str]]] = {}
        self._thread = DatabaseThread("secrets")

    async def get(self, scope: str, endpoint_id: uuid.UUID | None) -> list[str]:
        """Return the secrets that sign now, newest first; the first is made on first use."""
        key = (scope, endpoint_id)
        found = self._found.get(key)
        if found and time.monotonic() - found[0] < FRESH_SECONDS:
            return found[1]
        if key not in self._asking:
            asking = self._thread.call(_read, scope, endpoint_id)
            self._asking[key] = asking
            asking.add_done_callback(lambda done: self._asking.pop(key, None))
        secrets = await asyncio.shield(self._asking[key])
        self._found[key] = (time.monotonic(), secrets)
        return secrets

    async def close(self) -> None:
        """Give the database connection back."""
        await self._thread.close()


def _read(scope: str, endpoint_id: uuid.UUID | None) -> list[str]:
    from webhooks_app.signing.store import current_secrets

    return current_secrets(scope, endpoint_id)
