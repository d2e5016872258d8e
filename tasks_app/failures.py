"""What may people know of a failure? One sentence per code, and our own frames.

An exception's text may quote a prompt, a path or a key, so neither contains it. Django is not
needed here, since render processes ask, too.
"""

from __future__ import annotations

import traceback
from pathlib import Path

from tasks_app import PROJECT_ROOT

#: Characters of our own frames; the contract with receivers.
TRACEBACK_LIMIT = 2000

SENTENCES = {
    "provider_unavailable": "Task execution failed: the provider could not be reached.",
    "provider_rate_limited": "Task execution failed: the provider asked us to slow down.",
    "provider_rejected": "Task execution failed: the provider refused the request.",
    "content_refused": "Task execution failed: the provider refused the content.",
    "provider_auth": "Task execution failed: the provider did not accept our credentials.",
    "timed_out": "Task execution failed: it took longer than it was allowed to.",
    "render_failed": "Task execution failed: the renderer stopped with an error.",
    "renderer_incomplete": (
        "Task execution failed: the built-in renderer misses system libraries"
        " (Debian, Ubuntu: apt-get install libgl1 libegl1 libexpat1)."
    ),
    "output_invalid": "Task execution failed: what was made is not a valid media file.",
    "probe_timed_out": (
        "Task execution failed: what was made could not be checked in the time there is."
    ),
    "storage_failed": "Task execution failed: the media could not be stored.",
    "worker_lost": "Task execution failed: too many workers were lost under it.",
    "internal_error": "Task execution failed",
}


def sentence(error_code: str) -> str:
    """Return the one sentence that goes with an error code."""
    return SENTENCES.get(error_code, SENTENCES["internal_error"])


def own_frames(error: BaseException) -> str:
    """Return where our code was when it failed, the innermost frames where not all fit."""
    head, last = "Traceback (most recent call last):", type(error).__name__[:100]
    room = TRACEBACK_LIMIT - len(head) - len(last) - 2
    kept: list[str] = []
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        line = _line(frame)
        room -= len(line) + 1 if line else 0
        if room < 0:
            break
        kept += [line] if line else []
    return "\n".join([head, *reversed(kept), last])


def _line(frame: traceback.FrameSummary) -> str:
    """Return a frame of ours as Python shows it, nothing for anybody else's."""
    path = Path(frame.filename)
    if not path.is_relative_to(PROJECT_ROOT) or {".venv", "site-packages"} & set(path.parts):
        return ""
    shown = path.relative_to(PROJECT_ROOT).as_posix()
    return f'  File "{shown}", line {frame.lineno}, in {frame.name}'
