"""How does a worker fetch what a URL names, or what a client sent to the bucket?

Under a lease, like a task. The URL, each redirect and each address are judged by the egress guard;
nothing that the far side says becomes part of an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urljoin

import structlog
from django.conf import settings
from django.core.files.storage import default_storage
from django.db import connection
from django.utils import timezone

from tasks_app.media import staging, store
from tasks_app.models import AssetOrigin, MediaFile
from tasks_app.providers.base import Cancelled
from tasks_app.state import assets, inputs
from tasks_app.tickets import stopping
from webhooks_app.database import why_unusable
from webhooks_app.egress import read_proxy
from webhooks_app.retry import PROXY_WAIT_MAX_SECONDS
from webhooks_app.transport import FetchResult, Transport

logger = structlog.get_logger(__name__)

#: For one request, redirects not counted.
FETCH_SECONDS = 600.0
MAX_REDIRECTS = 5
REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TRY_AGAIN = frozenset({408, 425, 429})
#: How often a fetch looks whether it is still wanted.
LOOK_SECONDS = 0.25
#: Codes of the transport that are told as they are; all others mean "unreachable".
_TOLD = ("blocked_address", "invalid_url", "too_large")
#: Assets that one process fetches at once, so that threads are left for tasks.
FETCHES_AT_ONCE = 4
#: How old an asset may become that waits for the forward proxy; then it fails.
PROXY_WAITS_SECONDS = 86_400.0
_seats = threading.BoundedSemaphore(FETCHES_AT_ONCE)


class FetchFailed(Exception):
    """The asset cannot be had (now); ``code`` is one of `failures.ASSET_ERRORS`."""

    def __init__(self, code: str, *, is_passing: bool = False) -> None:
        super().__init__(code)
        self.code, self.is_passing = code, is_passing


class HeldBack(Exception):
    """The forward proxy made no connection: the asset waits, and uses up no attempt."""


def fetch_due() -> None:
    """Fetch what is due, one after the other, until nothing is; or leave it to who is at it."""
    if not _seats.acquire(blocking=False):
        return
    try:
        while not stopping.is_set() and _fetch_one():
            pass
    finally:
        _seats.release()


def _fetch_one() -> bool:
    """Say whether an asset was due."""
    file = assets.claim(settings.TASK_LEASE_SECONDS)
    if file is None:
        return False
    with (
        structlog.contextvars.bound_contextvars(asset_id=file.pk),
        _Claim(file) as claim,
        staging.work_directory() as directory,
    ):
        try:
            if file.attempts > settings.TASK_LOST_LIMIT:
                raise FetchFailed("worker_lost")
            _fetch(file, directory / "asset", claim)
        except FetchFailed as failed:
            _failed(file, failed)
        except HeldBack:
            _held_back(file)
        except (assets.Overtaken, Cancelled):
            assets.retry_later(file, 0, "")
            logger.info("Asset was not fetched to its end")
        except Exception as error:
            if why_unusable(error):
                raise  # its lease will run out
            logger.exception("Fetching an asset crashed")
            _failed(file, FetchFailed("internal_error", is_passing=True))
    inputs.settle(file.pk)
    return True


def _failed(file: MediaFile, failed: FetchFailed) -> None:
    waits = settings.TASK_RETRY_WAITS
    if failed.is_passing and file.attempts <= len(waits):
        assets.retry_later(file, waits[file.attempts - 1], failed.code)
    else:
        assets.fail(file, failed.code)
    logger.warning("Asset not fetched", error_code=failed.code, attempts=file.attempts)


def _held_back(file: MediaFile) -> None:
    """Let an asset wait for the forward proxy: as long again as it has waited, a minute at most."""
    age = (timezone.now() - file.created_at).total_seconds()
    if age < PROXY_WAITS_SECONDS:
        wait = min(max(age, 1.0), PROXY_WAIT_MAX_SECONDS)
        assets.retry_later(file, wait, "unreachable", is_free=True)
    else:
        assets.fail(file, "unreachable")


def _fetch(file: MediaFile, path: Path, claim: _Claim) -> None:
    if file.origin == AssetOrigin.URL:
        asyncio.run(_download(file.source_url, path, claim))
    else:
        _from_bucket(file, path)
    try:
        found = staging.decoded(path, claim)
    except staging.NotMedia as problem:
        logger.info("Asset is no media", reason=str(problem))
        raise FetchFailed("unsupported_media") from None
    try:
        staging.stored(path, found, file)
    except OSError:
        raise FetchFailed("storage_failed", is_passing=True) from None
    try:
        is_new = assets.finish(file).pk == file.pk
    except (assets.QuotaExceeded, assets.Overtaken) as refused:
        store.discard([file])
        if isinstance(refused, assets.Overtaken):
            raise
        raise FetchFailed("quota_exceeded") from None
    if not is_new:
        store.discard([file])
    if file.origin == AssetOrigin.UPLOAD:  # what was uploaded is stored under another name now
        with contextlib.suppress(OSError):
            default_storage.delete(assets.bucket_name(file))
    logger.info("Asset ready", is_new=is_new)


async def _download(url: str, path: Path, claim: _Claim) -> None:
    """Fetch a URL into a file; redirects are followed, each judged anew.

    Raises:
        FetchFailed, HeldBack, Cancelled
    """
    proxy = read_proxy(settings.ASSET_PROXY, is_guard=settings.ASSET_PROXY_GUARDS)
    async with Transport(proxy=proxy) as transport:
        for _ in range(MAX_REDIRECTS + 1):
            found = await _watched(transport, url, path, claim)
            status = found.status or 0
            if found.error_code in _TOLD:
                raise FetchFailed(found.error_code)
            if found.error_code == "proxy":
                logger.warning("Asset waits for the forward proxy", reason=found.error)
                raise HeldBack
            if found.error_code:
                raise FetchFailed("unreachable", is_passing=True)
            if status not in REDIRECTS:
                break
            url = urljoin(url, (found.headers or {}).get("location", ""))
        else:
            raise FetchFailed("too_many_redirects")
    if not 200 <= status < 300:
        raise FetchFailed("http_status", is_passing=status >= 500 or status in _TRY_AGAIN)


async def _watched(transport: Transport, url: str, path: Path, claim: _Claim) -> FetchResult:
    headers = {"Accept": "image/*, video/*, audio/*"}
    work = asyncio.ensure_future(
        transport.fetch(
            url,
            headers=headers,
            max_bytes=settings.ASSET_MAX_BYTES,
            timeout=FETCH_SECONDS,
            to=path,
        )
    )
    while not (await asyncio.wait({work}, timeout=LOOK_SECONDS))[0]:
        if claim.cancelled():
            work.cancel()
            await asyncio.wait({work})
            raise Cancelled
    return work.result()


def _from_bucket(file: MediaFile, path: Path) -> None:
    """Fetch what a client sent with a presigned form.

    Raises:
        FetchFailed: ``upload_missing``, ``too_large``, ``storage_failed``.
    """
    most = settings.ASSET_MAX_BYTES
    try:
        with (
            default_storage.open(assets.bucket_name(file), "rb") as source,
            staging.StagedFile(path, most) as target,
        ):
            for piece in source.chunks(1 << 20):
                target.write(piece)
    except FileNotFoundError:
        raise FetchFailed("upload_missing") from None
    except staging.TooLarge:
        raise FetchFailed("too_large") from None
    except OSError:
        raise FetchFailed("storage_failed", is_passing=True) from None


class _Claim:
    """Extends the lease from a thread of its own; says whether the asset is still ours to fetch."""

    def __init__(self, file: MediaFile) -> None:
        self._file = file
        self._done = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._loop, name=f"asset-{file.pk}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()

    def _loop(self) -> None:
        try:
            while not self._done.wait(settings.TASK_LEASE_SECONDS / 3):
                try:
                    if not assets.extend(self._file, settings.TASK_LEASE_SECONDS):
                        self._lost.set()
                        return
                except Exception as error:  # the attempt's number decides, once it can be asked
                    if not why_unusable(error):
                        raise
        finally:
            connection.close()

    # As a probe's context (`providers.base.Context`).

    def cancelled(self) -> bool:
        """Say whether to stop."""
        return self._lost.is_set() or stopping.is_set()

    def is_over(self) -> bool:
        """Say whether the asset is not ours any more."""
        return self._lost.is_set()

    def seconds_left(self) -> float:
        """Return the time that is left: nobody sets an end."""
        return float("inf")

    def progress(self, fraction: float, step: str, detail: str = "") -> None:
        """Do nothing: an asset shows no progress."""

    def save_remote(self, state: dict[str, object]) -> None:
        """Do nothing: there is nothing remote."""
