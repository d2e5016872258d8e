"""How are models on fal called? By its queue: submit, status, response, cancel."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import threading
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tasks_app.providers.base import BadSignature, Callback, CancelOutcome, ProviderError
from tasks_app.providers.proxies import proxy_for
from tasks_app.providers.remote.base import (
    LISTS,
    JobStatus,
    RemoteProvider,
    Submitted,
    Work,
    WorkFailed,
    place_of,
    places,
    safe_id,
)
from tasks_app.providers.remote.client import ProviderClient, is_refusal, setting
from tasks_app.providers.remote.fal_storage import MAX_UPLOAD_BYTES, FalStorage
from tasks_app.providers.remote.replicate import known
from webhooks_app.transport import FetchResult, Transport

URLS = ("status_url", "response_url", "cancel_url")
#: How far a callback's time may be from ours, in seconds (fal's documentation of its webhooks).
LEEWAY_SECONDS = 300
#: fal asks for at most 24 hours; a key that was withdrawn is gone sooner.
KEYS_FRESH_SECONDS = 3600.0
#: Between two tries while the keys cannot be fetched.
KEYS_AGAIN_SECONDS = 30.0
MAX_KEYS_BYTES, KEYS_SECONDS = 65_536, 5.0
#: How tqdm writes a bar: " 43%|####      | 12/28 [00:05<00:07]". The newest lines are read, and
#: the end of each, in characters.
BAR, MOST_LOGS, MAX_LOG = re.compile(r"\b(\d{1,3})%\|"), 50, 2_000

_lock = threading.Lock()
_kept: dict[str, tuple[float, list[bytes]]] = {}


class FalProvider(RemoteProvider):
    """``model``: ``owner/app`` with any further path, for example ``fal-ai/flux/dev``."""

    name = "fal"
    url_setting = "FAL_BASE_URL"
    key_setting = "FAL_API_KEY"
    streams = 64

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._storage = FalStorage()

    def headers(self, key: str) -> dict[str, str]:
        """Return fal's form of the Authorization header."""
        return {"Authorization": f"Key {key}"}

    async def submit(self, work: Work, line: ProviderClient) -> Submitted:
        """Queue a request; its URLs are kept as answered, since their form is fal's own."""
        is_called = work.callback_url.startswith("https://")
        query = f"?fal_webhook={quote(work.callback_url, safe='')}" if is_called else ""
        body = await self._body(work)
        answer = (await line.call("POST", work.model + query, body)).json()
        self._storage.forget(work)
        urls = {name: str(answer.get(name, "")) for name in URLS}
        if not all(urls.values()):
            raise ProviderError("provider_unavailable", "The provider's answer lacks its URLs.")
        return Submitted({"id": safe_id(answer.get("request_id")), **urls})

    async def _body(self, work: Work) -> dict[str, Any]:
        """Return the model's inputs, with the task's files where fal can read them."""
        base = setting("FAL_STORAGE_URL")
        server = replace(self.servers(work.model)[0], label="fal's storage", base_url=base)
        files: dict[str, Any] = {}
        for name, given in work.inputs.items():
            found = [
                await self._storage.place_of(file, work, server)
                if base and file.size_bytes <= MAX_UPLOAD_BYTES
                else place_of(file, work.seconds_left)
                for file in given
            ]
            files[name] = found if name in LISTS else found[0]
        return self.body(work.task_type, work.task_data, work.model, files)

    async def look_one(self, work: Work, line: ProviderClient) -> JobStatus:
        """Ask for the status, and for the response once it is there."""
        status = await known(line, "GET", work.remote["status_url"])
        if status.get("status") in ("IN_QUEUE", "IN_PROGRESS"):
            return _running(status)
        if status.get("status") != "COMPLETED":
            text = "The provider's answer has no known status."
            raise ProviderError("provider_unavailable", text)
        if words := str(status.get("error") or ""):
            code = "content_refused" if is_refusal(words.encode()) else "render_failed"
            raise WorkFailed(code, "The provider's model failed.", words=words)
        try:
            response = (await line.call("GET", work.remote["response_url"])).json()
        except ProviderError as error:
            # The model ended the request with an error: this status is the response's own.
            if error.code in ("provider_rejected", "content_refused"):
                raise WorkFailed(error.code, error.message, words=error.words) from None
            raise
        return JobStatus(is_done=True, outputs=places(response))

    async def follow(self, work: Work, line: ProviderClient) -> AsyncGenerator[JobStatus]:
        """Yield what the stream of the status says; it ends with ``COMPLETED``, as the work does.

        https://fal.ai/docs/inference-api/queue/status-stream
        """
        async for status in line.events(f"{work.remote['status_url']}/stream?logs=1"):
            if status.get("status") == "COMPLETED":
                yield JobStatus(is_done=True)
            elif status.get("status") in ("IN_QUEUE", "IN_PROGRESS"):
                yield _running(status)

    async def stop(self, work: Work, line: ProviderClient) -> CancelOutcome:
        """Ask fal to cancel; a request that is running already may run on."""
        try:
            await known(line, "PUT", work.remote["cancel_url"])
        except ProviderError as error:
            if error.status != 400:  # ALREADY_COMPLETED
                raise
            return CancelOutcome.ENDED
        return CancelOutcome.REQUESTED

    def read_callback(self, headers: Mapping[str, str], body: bytes, token: str) -> Callback:
        """Check the Ed25519 signature with fal's published keys."""
        names = ("request-id", "user-id", "timestamp", "signature")
        told = [headers.get(f"x-fal-webhook-{name}", "") for name in names]
        try:
            is_recent = abs(time.time() - int(told[2])) <= LEEWAY_SECONDS
            signature = bytes.fromhex(told[3])
        except ValueError:
            raise BadSignature from None
        content = "\n".join([*told[:3], hashlib.sha256(body).hexdigest()]).encode()
        if not is_recent or not any(_is_signed(k, signature, content) for k in published_keys()):
            raise BadSignature
        return Callback()


def _running(status: Mapping[str, Any]) -> JobStatus:
    """Return how far work is that has not ended: fal has no number, but many models log a bar."""
    if status["status"] == "IN_QUEUE":
        return JobStatus(is_done=False, step="queued")
    logs = status.get("logs")
    share = 0
    for row in logs[-MOST_LOGS:] if isinstance(logs, list) else ():
        if isinstance(row, dict) and (bars := BAR.findall(str(row.get("message"))[-MAX_LOG:])):
            share = max(share, min(100, int(bars[-1])))
    return JobStatus(is_done=False, fraction=0.3 + 0.6 * share / 100)


def _is_signed(key: bytes, signature: bytes, content: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, content)
    except (InvalidSignature, ValueError):
        return False
    return True


def published_keys() -> list[bytes]:
    """Return fal's public keys (32 bytes each); the last known ones while FAL_JWKS_URL is away."""
    url = setting("FAL_JWKS_URL")
    with _lock:
        good_until, keys = _kept.get(url, (0.0, []))
        if time.monotonic() < good_until:
            return keys
        found = asyncio.run(_fetch(url))
        fresh = _keys_in(found.body) if found.status == 200 else []
        seconds = KEYS_FRESH_SECONDS if fresh else KEYS_AGAIN_SECONDS
        _kept[url] = (time.monotonic() + seconds, fresh or keys)
        return _kept[url][1]


async def _fetch(url: str) -> FetchResult:
    async with Transport(proxy=proxy_for("fal")) as transport:
        return await transport.fetch(url, max_bytes=MAX_KEYS_BYTES, timeout=KEYS_SECONDS)


def _keys_in(body: bytes) -> list[bytes]:
    try:
        rows = orjson.loads(body)["keys"]
        return [base64.urlsafe_b64decode(row["x"] + "==") for row in rows if row["kty"] == "OKP"]
    except (ValueError, KeyError, TypeError):
        return []
