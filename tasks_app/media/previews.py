"""What does a task look like while it is made? The newest preview of its job, in Redis for a while.

A preview comes from a server that may send anything, and goes to clients and to the admin. It is
not decoded here, only taken apart: what is kept is a JPEG or PNG of a bounded size without anything
that is no picture. It is gone with its job, and without Redis there is none.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import cast

from django.conf import settings
from django.http import HttpResponse

from tasks_app import redis_gate
from tasks_app.models import RemoteJob, RemoteJobState, Task, TaskStatus

#: The largest preview that is kept, in bytes, and its longest side, in pixels.
MAX_BYTES, MAX_SIDE = 256 << 10, 2048
#: How often a job's preview is replaced at most, and how long one is kept, in seconds.
PREVIEW_SECONDS, KEPT_SECONDS = 3.0, 60
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
#: The parts of a PNG that are the picture; others hold texts, times, places or further frames.
_PNG_PARTS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
#: Of a JPEG: the markers of a frame's size, those with texts or other data (APP1 to APP13, APP15,
#: COM), and those without a length.
_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_TEXTS = (frozenset(range(0xE1, 0xF0)) - {0xEE}) | {0xFE}
_SCAN, _BARE = 0xDA, frozenset({0x01, *range(0xD0, 0xDA)})


def keep(job_id: str, content: bytes) -> bool:
    """Keep a picture as the newest preview of a job; False if it is none, or Redis is away."""
    picture = plain_picture(content)
    if picture is None:
        return False
    kept = redis_gate.gate.call(
        lambda: redis_gate.client().set(_key(job_id), picture, ex=KEPT_SECONDS)
    )
    return bool(kept)


def of_task(task: Task) -> bytes | None:
    """Return the newest preview of a task whose work runs; None if there is none."""
    job_id = _running_job(task)
    if job_id is None:
        return None
    found = redis_gate.gate.call(lambda: redis_gate.client().get(_key(job_id)))
    return cast("bytes | None", found)


def has_one(task: Task) -> bool:
    """Say whether a task whose work runs has a preview."""
    job_id = _running_job(task)
    if job_id is None:
        return False
    return bool(redis_gate.gate.call(lambda: redis_gate.client().exists(_key(job_id))))


def answer(picture: bytes) -> HttpResponse:
    """Return the answer with a picture that was kept, which the next one replaces soon."""
    media_type = "image/png" if picture.startswith(_PNG) else "image/jpeg"
    response = HttpResponse(picture, content_type=media_type)
    response["Cache-Control"] = "no-store"
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = "default-src 'none'; frame-ancestors 'none'"
    return response


def _running_job(task: Task) -> str | None:
    if task.status != TaskStatus.PROCESSING:
        return None
    running = RemoteJob.objects.filter(task=task.pk, state=RemoteJobState.RUNNING)
    job_id = running.order_by("-created_at").values_list("pk", flat=True).first()
    return str(job_id) if job_id else None


def _key(job_id: str) -> str:
    return f"{settings.DRAMATIQ_BROKER['OPTIONS']['namespace']}:preview:{job_id}"


# -- what is a picture ---------------------------------------------------------------------------


def plain_picture(content: bytes) -> bytes | None:
    """Return a JPEG or PNG without its texts and whatever follows it; None for anything else."""
    if len(content) > MAX_BYTES:
        return None
    try:
        if content.startswith(_PNG):
            return _PNG + b"".join(_png_parts(content))
        if content.startswith(_JPEG):
            return _JPEG + b"".join(_jpeg_parts(content))
    except (struct.error, IndexError, ValueError):
        pass
    return None


def _png_parts(content: bytes) -> Iterator[bytes]:
    """Yield the picture's chunks: length, type, data and checksum of each (PNG, section 5.3)."""
    place, kind = len(_PNG), b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", content, place)
        if (place == len(_PNG)) != (kind == b"IHDR"):
            raise ValueError("the header is the first chunk, and only that")
        if kind == b"IHDR":
            _check_size(*struct.unpack_from(">II", content, place + 8))
        end = place + 12 + length
        if end > len(content):
            raise ValueError("a chunk is cut short")
        if kind in _PNG_PARTS:
            yield content[place:end]
        place = end


def _jpeg_parts(content: bytes) -> Iterator[bytes]:
    """Yield the picture's segments up to its first scan, and then the rest (T.81, annex B)."""
    place, has_size = len(_JPEG), False
    while True:
        start, marker, length = struct.unpack_from(">BBH", content, place)
        if start != 0xFF or marker in _BARE or length < 2:
            raise ValueError("no segment")
        if marker in _SIZES:
            _check_size(*struct.unpack_from(">HH", content, place + 5))
            has_size = True
        if marker == _SCAN:
            break
        if marker not in _TEXTS:
            yield content[place : place + 2 + length]
        place += 2 + length
    end = content.find(b"\xff\xd9", place)
    if end < 0 or not has_size:
        raise ValueError("it has no end, or no size")
    yield content[place : end + 2]


def _check_size(*sides: int) -> None:
    if not all(0 < side <= MAX_SIDE for side in sides):
        raise ValueError("it has no side, or is too large")
