"""How do a task's files reach a model on fal? By fal's storage: initiate, PUT, and the file's URL.

As fal's own clients do it. The key goes to FAL_STORAGE_URL alone; the address for the bytes comes
in its answer, and is judged like any URL that we did not choose.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import orjson

from tasks_app.providers.base import ProviderError
from tasks_app.providers.remote.client import ProviderClient, Server, Unreachable

if TYPE_CHECKING:
    from tasks_app.media.inputs import InputFile
    from tasks_app.providers.remote.base import Work

INITIATE = "storage/upload/initiate?storage_type=fal-cdn-v3"
#: What fal takes in one piece; its clients send more in parts.
MAX_UPLOAD_BYTES = 90 << 20
UPLOAD_SECONDS = 300.0
#: fal keeps a file for as long as the task may take, and so much longer.
KEPT_LONGER_SECONDS = 3600
#: Uploads that are remembered, of tasks whose request was not accepted yet.
MOST_REMEMBERED = 1000
MAX_URL = 2048


class FalStorage:
    """The uploads of a process; one that was done is not repeated when its submit is."""

    def __init__(self) -> None:
        self._done: OrderedDict[tuple[str, str], tuple[float, str]] = OrderedDict()

    async def place_of(self, file: InputFile, work: Work, server: Server) -> str:
        """Return the URL at which a model can read a file, which is uploaded if it must be.

        Raises:
            Unreachable: it was not uploaded, so that nothing was asked of the model.
            ProviderError: fal refuses the upload, or names an address that may not be dialled.
        """
        key = (work.task_id, file.sha256)
        good_until, place = self._done.get(key, (0.0, ""))
        if time.monotonic() < good_until:
            return place
        path = await _copied(file, work.directory)
        try:
            async with ProviderClient(server) as line:
                place = await _uploaded(file, path, work.seconds_left + KEPT_LONGER_SECONDS, line)
        except ProviderError as error:
            raise _without_submit(error) from None
        finally:
            await asyncio.to_thread(path.unlink, missing_ok=True)
        self._done[key] = (time.monotonic() + work.seconds_left, place)
        while len(self._done) > MOST_REMEMBERED:
            self._done.popitem(last=False)
        return place

    def forget(self, work: Work) -> None:
        """Forget the uploads of a task, whose next attempt then begins with new ones."""
        for files in work.inputs.values():
            for file in files:
                self._done.pop((work.task_id, file.sha256), None)


async def _copied(file: InputFile, directory: Path) -> Path:
    try:
        return await asyncio.to_thread(file.copied_to, directory)
    except OSError:
        text = "An input could not be read from the storage."
        raise ProviderError("storage_failed", text) from None


async def _uploaded(file: InputFile, path: Path, seconds: int, line: ProviderClient) -> str:
    """Upload one file, which fal may delete after so many seconds; return its URL there."""
    lifecycle = orjson.dumps({"expiration_duration_seconds": seconds}).decode()
    answer = await line.call(
        "POST",
        INITIATE,
        {"content_type": file.media_type, "file_name": file.filename},
        headers={"X-Fal-Object-Lifecycle": lifecycle},
    )
    told = answer.json()
    target, place = str(told.get("upload_url")), str(told.get("file_url"))
    if not (_is_url(target, "http", "https") and _is_url(place, "https")):
        raise ProviderError("provider_unavailable", "fal's storage named no place for a file.")
    await line.upload(target, path, file.media_type, UPLOAD_SECONDS)
    return place


def _is_url(value: str, *schemes: str) -> bool:
    if len(value) > MAX_URL:
        return False
    try:
        return urlsplit(value).scheme in schemes
    except ValueError:
        return False


def _without_submit(error: ProviderError) -> ProviderError:
    """Return an error that does not read as a submit whose answer was lost: there was none."""
    if error.code != "provider_unavailable" or isinstance(error, Unreachable):
        return error
    fault = Unreachable(f"fal's storage: {error.message}")
    fault.retry_after, fault.words = error.retry_after, error.words
    return fault
