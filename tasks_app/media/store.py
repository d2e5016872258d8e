"""Where do media files lie, what are their links, and how are they served?

A stored file lies at ``results/{task_id}/{run_token}/{role}.{ext}``: a fenced-out run
never touches the winner's files. A link is a capability: its random part is the right
to read the file.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote, urlsplit

import structlog
from django.conf import settings
from django.core import signing
from django.core.files import File
from django.core.files.storage import default_storage
from django.http import (
    FileResponse,
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseRedirect,
)
from django.utils.crypto import constant_time_compare
from django.utils.http import content_disposition_header, http_date

from tasks_app.models import MediaFile, Task
from tasks_app.providers.base import MediaOutput, ProviderError, Result
from webhooks_app.api.problems import ApiProblem
from webhooks_app.crash_points import faultpoint

logger = structlog.get_logger(__name__)

_EXTENSIONS = {
    "video/mp4": "mp4",
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/webp": "webp",
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/mpeg": "mp3",
    "audio/mp4": "m4a",
    "audio/ogg": "ogg",
    "audio/flac": "flac",
    "text/vtt": "vtt",
}
#: Shown in place; everything else is offered as a download.
INLINE_TYPES = frozenset(_EXTENSIONS)
_SALT = "media"
_ID = re.compile(r"[\x21-\x7e]{1,32}")
#: One range of bytes. A number longer than any file is none: the whole file is an answer to that.
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


class _Rendered(File):  # type: ignore[type-arg]
    """A finished file that the file system storage may move instead of copying."""

    def temporary_file_path(self) -> str:
        """Return where the file lies now (the name Django's storage looks for)."""
        return str(self.name)


def store(task: Task, result: Result) -> list[MediaFile]:
    """Put a result's files into the storage and return their (unsaved) rows.

    Raises:
        ProviderError: ``storage_failed``, worth another attempt.
    """
    stored: list[MediaFile] = []
    try:
        for output in result.files:
            stored.append(_store_one(task, output))
    except OSError as error:
        discard(stored)
        raise ProviderError("storage_failed") from error
    return stored


def _store_one(task: Task, output: MediaOutput) -> MediaFile:
    extension = _EXTENSIONS.get(output.media_type) or output.path.suffix.lstrip(".") or "bin"
    name = f"results/{task.id}/{task.run_token}/{output.role}.{extension}"
    with open(output.path, "rb") as handle:
        os.fsync(handle.fileno())
        path = default_storage.save(name, _Rendered(handle, name=str(output.path)))
    faultpoint("media.after_save")
    return MediaFile(
        task=task,
        run_token=task.run_token or "",
        role=output.role,
        path=path,
        media_type=output.media_type,
        size_bytes=output.size_bytes,
        sha256=output.sha256,
        width=output.width,
        height=output.height,
        duration=output.duration,
        fps=output.fps,
        codecs=list(output.codecs),
    )


def discard(files: list[MediaFile]) -> None:
    """Delete stored files that no committed row names."""
    for file in files:
        with contextlib.suppress(OSError):
            default_storage.delete(file.path)


def receipt(file: MediaFile) -> dict[str, Any]:
    """Return what the webhook says of one file; keys without a value are left out."""
    facts = {
        "role": file.role,
        "media_url": media_url(file),
        "payload_media_id": file.id,
        "media_type": file.media_type,
        "size_bytes": file.size_bytes,
        "sha256": file.sha256,
        "width": file.width,
        "height": file.height,
        "duration": file.duration,
        "fps": file.fps,
        "codecs": file.codecs,
    }
    return {key: value for key, value in facts.items() if value is not None}


def describe(result: Result, files: list[MediaFile]) -> dict[str, Any]:
    """Return a completed task's ``result``: the main file's receipt, all files, who made it."""
    primary = next(file for file in files if file.role == "primary")
    head = {key: value for key, value in receipt(primary).items() if key != "role"}
    return {
        **head,
        "files": [receipt(file) for file in files],
        "provider": result.provider,
        "model": result.model,
        "seed": result.seed,
        "cost": result.cost,
        "provider_metadata": result.metadata,
    }


def media_url(file: MediaFile) -> str:
    """Return the absolute capability link of a file."""
    name = quote(f"{file.role}{PurePosixPath(file.path).suffix}", safe="")
    url = f"{settings.PUBLIC_URL}/media/{file.id}/{file.link_token}/{name}"
    if settings.MEDIA_URL_TTL:
        expires = int(time.time()) + settings.MEDIA_URL_TTL
        url += f"?expires={signing.Signer(salt=_SALT).sign(f'{file.id}:{expires}')}"
    return url


def foreign_origin() -> str:
    """Return the origin that media links redirect to, where that is not ours: a bucket's."""
    if not settings.S3_BUCKET:
        return ""
    try:
        place = urlsplit(default_storage.url("any"))
    except OSError:  # no credentials: no link leads there either
        return ""
    return f"{place.scheme}://{place.netloc}"


def serve(request: HttpRequest, media_id: str, token: str, name: str) -> HttpResponseBase:
    """Answer a media link: whole file or one byte range (RFC 9110, section 14)."""
    file = MediaFile.objects.filter(pk=media_id).first() if _ID.fullmatch(media_id) else None
    if file is None or not constant_time_compare(file.link_token, token):
        raise Http404
    if request.method not in ("GET", "HEAD"):
        return HttpResponse(status=405, headers={"Allow": "GET, HEAD"})
    if settings.MEDIA_URL_TTL and not _is_fresh(file, request.GET.get("expires", "")):
        raise Http404
    try:
        if settings.S3_BUCKET:
            link = default_storage.link(file.path, file.media_type, _disposition(file))  # type: ignore[attr-defined]
            return HttpResponseRedirect(link)
        response = _accelerated(file) if settings.MEDIA_ACCEL_PREFIX else _from_disk(request, file)
    except OSError as error:
        logger.warning("Media storage cannot be used", error=type(error).__name__)
        text = "The media storage cannot be used just now."
        raise ApiProblem(503, "storage_unavailable", text, headers={"Retry-After": "5"}) from error
    return _with_headers(response, file)


def _disposition(file: MediaFile) -> str:
    name = f"{file.task_id}-{PurePosixPath(file.path).name}"
    return content_disposition_header(file.media_type not in INLINE_TYPES, name) or ""


def _is_fresh(file: MediaFile, signed: str) -> bool:
    try:
        value = signing.Signer(salt=_SALT).unsign(signed)
    except signing.BadSignature:
        return False
    media_id, _, expires = value.partition(":")
    return media_id == file.id and int(expires) > time.time()


def _accelerated(file: MediaFile) -> HttpResponse:
    """Have nginx send the file; it keeps our type, and drops most of our other headers."""
    place = quote(settings.MEDIA_ACCEL_PREFIX + file.path)  # nginx decodes it
    return HttpResponse(content_type=file.media_type, headers={"X-Accel-Redirect": place})


def _from_disk(request: HttpRequest, file: MediaFile) -> HttpResponseBase:
    try:
        handle = default_storage.open(file.path, "rb")
    except FileNotFoundError as error:
        raise Http404 from error
    wanted = _range(request, file)
    if wanted is None:
        return FileResponse(handle, content_type=file.media_type)
    if not wanted:
        handle.close()
        raise _no_such_range(file)
    first, last = wanted
    handle.seek(first)
    part = _Part(handle, last - first + 1)
    response = FileResponse(part, status=206, content_type=file.media_type)
    response["Content-Range"] = f"bytes {first}-{last}/{file.size_bytes}"
    response["Content-Length"] = str(last - first + 1)
    return response


class _Part:
    """The next ``length`` bytes of an open file, as a file: the web server sends it by its name."""

    def __init__(self, handle: File[bytes], length: int) -> None:
        self.name, self.tell, self.close = handle.name, handle.tell, handle.close
        self._handle, self._left = handle, length

    def read(self, size: int) -> bytes:
        chunk: bytes = self._handle.read(min(size, self._left))
        self._left -= len(chunk)
        return chunk


def _no_such_range(file: MediaFile) -> ApiProblem:
    return ApiProblem(
        416,
        "range_not_satisfiable",
        f"The file has {file.size_bytes} bytes.",
        headers={"Content-Range": f"bytes */{file.size_bytes}"},
    )


def _range(request: HttpRequest, file: MediaFile) -> tuple[int, int] | tuple[()] | None:
    """Return the bytes asked for: None for all, () for a range that cannot be satisfied."""
    found = _RANGE.fullmatch(request.headers.get("Range", "").replace(" ", ""))
    start, end = found.groups() if found else ("", "")
    condition = request.headers.get("If-Range")
    if not (start or end) or (condition and condition != f'"{file.sha256}"'):
        return None
    size = file.size_bytes
    first = int(start) if start else max(0, size - int(end))
    last = min(int(end), size - 1) if start and end else size - 1
    is_empty_suffix = not start and int(end) == 0
    return () if first > last or is_empty_suffix else (first, last)


def _with_headers(response: HttpResponseBase, file: MediaFile) -> HttpResponseBase:
    response["Accept-Ranges"] = "bytes"
    response["ETag"] = f'"{file.sha256}"'
    response["Last-Modified"] = http_date(file.created_at.timestamp())
    response["Cache-Control"] = "private, max-age=3600"
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = "default-src 'none'; frame-ancestors 'none'"
    response["Content-Disposition"] = _disposition(file)
    return response
