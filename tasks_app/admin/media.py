"""How is a task's media shown on its page?"""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings
from django.template.defaultfilters import filesizeformat

from tasks_app.media.serve import media_url
from tasks_app.models import MediaFile, Task

# Types that are shown in the page; others are a link to download. No SVG, no HTML: scripts.
_PLAYERS = {"video": "video", "audio": "audio"}
_IMAGES = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif"})
_ORDER = {"primary": 0, "poster": 2, "thumbnail": 3, "waveform": 4}


@dataclass(frozen=True)
class Preview:
    """One file: ``kind`` is video, audio, image or file."""

    file: MediaFile
    url: str
    kind: str
    facts: str
    poster: str = ""


def previews(task: Task) -> list[Preview]:
    """Return the files of a task, the main one first."""
    files = sorted(task.files.all(), key=lambda f: (_ORDER.get(f.role, 1), f.role))
    poster = next((link(f) for f in files if f.role == "poster"), "")
    return [Preview(f, link(f), _kind(f), _facts(f), poster) for f in files]


def link(file: MediaFile) -> str:
    """Return a file's link for the admin's own pages."""
    # Without a host: the admin may be open under another name than PUBLIC_URL's, and its content
    # security policy allows media only from the page's own origin.
    return media_url(file).removeprefix(settings.PUBLIC_URL)


def _kind(file: MediaFile) -> str:
    if file.media_type in _IMAGES:
        return "image"
    return _PLAYERS.get(file.media_type.partition("/")[0], "file")


def _facts(file: MediaFile) -> str:
    parts = [file.media_type, filesizeformat(file.size_bytes)]
    if file.width and file.height:
        parts.append(f"{file.width} x {file.height}")
    if file.duration:
        parts.append(f"{file.duration:.2f} s")
    if file.fps:
        parts.append(f"{file.fps:g} frames/s")
    if file.codecs:
        parts.append(" + ".join(file.codecs))
    return " · ".join(parts)
