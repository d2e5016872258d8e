"""What do we tell people when a task fails: one sentence per code, and our own frames.

An exception's text may quote a prompt, a path or a key; so neither the sentence nor
the traceback contains it.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings

TRACEBACK_LIMIT = 2000

SENTENCES = {
    "provider_unavailable": "Task execution failed: the provider could not be reached.",
    "provider_rate_limited": "Task execution failed: the provider asked us to slow down.",
    "provider_rejected": "Task execution failed: the provider refused the request.",
    "content_refused": "Task execution failed: the provider refused the content.",
    "provider_auth": "Task execution failed: the provider did not accept our credentials.",
    "timed_out": "Task execution failed: it took longer than it was allowed to.",
    "render_failed": "Task execution failed: the renderer stopped with an error.",
    "output_invalid": "Task execution failed: what was made is not a valid media file.",
    "storage_failed": "Task execution failed: the media could not be stored.",
    "worker_lost": "Task execution failed: too many workers were lost under it.",
    "internal_error": "Task execution failed",
}


def sentence(error_code: str) -> str:
    """Return the one sentence that goes with an error code."""
    return SENTENCES.get(error_code, SENTENCES["internal_error"])


def own_frames(error: BaseException) -> str:
    """Return a traceback of our own frames: project-relative paths, no values, no messages."""
    lines = [
        f'  File "{path}", line {frame.lineno}, in {frame.name}'
        for frame, path in _frames_inside_project(error)
    ]
    text = "\n".join(["Traceback (most recent call last):", *lines, type(error).__name__])
    return text[-TRACEBACK_LIMIT:] if len(text) > TRACEBACK_LIMIT else text


def _frames_inside_project(
    error: BaseException,
) -> Iterator[tuple[traceback.FrameSummary, str]]:
    root = Path(settings.BASE_DIR)
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename)
        if path.is_relative_to(root) and ".venv" not in path.parts:
            yield frame, path.relative_to(root).as_posix()
