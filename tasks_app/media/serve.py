"""What is the link of a media file, and how is it served?

A link is a capability: its random part is the right to read the file.
"""

from __future__ import annotations

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

from tasks_app.models import MediaFile
from webhooks_app.api.problems import ApiProblem

logger = structlog.get_logger(__name__)

#: The extension of each type that is shown in the browser; everything else is a download.
EXTENSIONS = {
    "video/mp4": "mp4",
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/webp": "webp",
    "image/gif": "gif",
    "video/webm": "webm",
    "video/ogg": "ogv",
    "audio/webm": "weba",
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/mpeg": "mp3",
    "audio/mp4": "m4a",
    "audio/ogg": "ogg",
    "audio/flac": "flac",
    "text/vtt": "vtt",
}
_SALT, _SHORT = "media", "media.short"
_ID = re.compile(r"[\x21-\x7e]{1,32}")
#: One range of bytes. A longer number does not match, and then the whole file is sent.
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


def media_url(file: MediaFile) -> str:
    """Return the absolute URL of a file, which contains the right to read it."""
    name = quote(f"{file.role}{PurePosixPath(file.path).suffix}", safe="")
    url = f"{settings.PUBLIC_URL}/media/{file.id}/{file.link_token}/{name}"
    if settings.MEDIA_URL_TTL:
        expires = int(time.time()) + settings.MEDIA_URL_TTL
        url += f"?expires={signing.Signer(salt=_SALT).sign(f'{file.id}:{expires}')}"
    return url


def short_link(file: MediaFile, seconds: int) -> str:
    """Return the absolute URL of a file that only works for so many seconds."""
    name = quote(f"{file.role}{PurePosixPath(file.path).suffix}", safe="")
    until = str(int(time.time()) + seconds)
    signature = signing.Signer(salt=_SHORT).signature(f"{file.id}:{until}")
    return f"{settings.PUBLIC_URL}/media/{file.id}/{until}.{signature}/{name}"


def _opens(file: MediaFile, token: str) -> bool:
    """Say whether a link's token is the file's own, or one of a short link that still lives."""
    until, dot, signature = token.partition(".")
    if not dot:
        return constant_time_compare(file.link_token, token)
    known = signing.Signer(salt=_SHORT).signature(f"{file.id}:{until}")
    return constant_time_compare(known, signature) and int(until) > time.time()


def foreign_origin() -> str:
    """Return the origin that media links redirect to (a bucket's), "" if they do not."""
    if not settings.S3_BUCKET:
        return ""
    try:
        place = urlsplit(default_storage.url("any"))
    except OSError:  # no credentials: then no link works
        return ""
    return f"{place.scheme}://{place.netloc}"


def presigned_form(name: str, media_type: str, size_bytes: int) -> dict[str, Any]:
    """Return where, and with which fields, a client may POST one file to the bucket."""
    return default_storage.form(name, media_type, size_bytes)  # type: ignore[attr-defined,no-any-return]


def serve(request: HttpRequest, media_id: str, token: str, name: str) -> HttpResponseBase:
    """Answer a media link: whole file or one byte range (RFC 9110, section 14)."""
    file = MediaFile.objects.filter(pk=media_id).first() if _ID.fullmatch(media_id) else None
    if file is None or not _opens(file, token):
        raise Http404
    if request.method not in ("GET", "HEAD"):
        return HttpResponse(status=405, headers={"Allow": "GET, HEAD"})
    is_short = "." in token
    if (
        settings.MEDIA_URL_TTL
        and not is_short
        and not _is_fresh(file, request.GET.get("expires", ""))
    ):
        raise Http404
    try:
        if settings.S3_BUCKET:
            link = default_storage.link(file.path, file.media_type, _disposition(file))  # type: ignore[attr-defined]
            return HttpResponseRedirect(link)
        if settings.MEDIA_ACCEL_PREFIX:
            # nginx sends the file; it keeps our content type, and drops most other headers.
            place = quote(settings.MEDIA_ACCEL_PREFIX + file.path)  # nginx decodes it
            headers = {"X-Accel-Redirect": place}
            response: HttpResponseBase = HttpResponse(content_type=file.media_type, headers=headers)
        else:
            response = _from_disk(request, file)
    except OSError as error:
        logger.warning("Media storage cannot be used", error=type(error).__name__)
        text = "The media storage cannot be used just now."
        raise ApiProblem(503, "storage_unavailable", text, headers={"Retry-After": "5"}) from error
    response["Accept-Ranges"] = "bytes"
    response["ETag"] = f'"{file.sha256}"'
    response["Last-Modified"] = http_date(file.created_at.timestamp())
    response["Cache-Control"] = "private, max-age=3600"
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = "default-src 'none'; frame-ancestors 'none'"
    response["Content-Disposition"] = _disposition(file)
    return response


def _disposition(file: MediaFile) -> str:
    name = f"{file.task_id or file.id}-{PurePosixPath(file.path).name}"
    return content_disposition_header(file.media_type not in EXTENSIONS, name) or ""


def _is_fresh(file: MediaFile, signed: str) -> bool:
    try:
        value = signing.Signer(salt=_SALT).unsign(signed)
    except signing.BadSignature:
        return False
    media_id, _, expires = value.partition(":")
    return media_id == file.id and int(expires) > time.time()


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
        raise ApiProblem(
            416,
            "range_not_satisfiable",
            f"The file has {file.size_bytes} bytes.",
            headers={"Content-Range": f"bytes */{file.size_bytes}"},
        )
    first, last = wanted
    handle.seek(first)
    part = _Part(handle, last - first + 1)
    response = FileResponse(part, status=206, content_type=file.media_type)
    response["Content-Range"] = f"bytes {first}-{last}/{file.size_bytes}"
    response["Content-Length"] = str(last - first + 1)
    return response


class _Part:
    """The next ``length`` bytes of an open file, in a form that the web server sends itself."""

    def __init__(self, handle: File[bytes], length: int) -> None:
        self.name, self.tell, self.close = handle.name, handle.tell, handle.close
        self._handle, self._left = handle, length

    def read(self, size: int) -> bytes:
        chunk: bytes = self._handle.read(min(size, self._left))
        self._left -= len(chunk)
        return chunk


def _range(request: HttpRequest, file: MediaFile) -> tuple[int, int] | tuple[()] | None:
    """Return the range of bytes: None for all, () for one that cannot be satisfied."""
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
