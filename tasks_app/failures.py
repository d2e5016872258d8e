"""How can a task fail, and what may people know of it? The codes, and our own frames.

An exception's text may quote a prompt, a path or a key, so neither contains it. Django is not
needed here, since render processes ask, too.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path

from tasks_app import PROJECT_ROOT

#: Most characters of a traceback; part of the contract with receivers.
TRACEBACK_LIMIT = 2000


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """Why an attempt at a task failed: the sentence that clients get, and whether to try again.

    A provider may raise codes of its own: they are permanent, and told as ``internal_error``.
    """

    name: str
    text: str
    is_retryable: bool

    @property
    def sentence(self) -> str:
        """The one sentence that goes with the code."""
        return f"Task execution failed: {self.text}" if self.text else "Task execution failed"


#: All that is known of a code stands here: API page, metrics and providers read it.
ERROR_CODES: dict[str, ErrorCode] = {
    code.name: code
    for code in (
        ErrorCode("provider_unavailable", "the provider could not be reached.", True),
        ErrorCode("provider_rate_limited", "the provider asked us to slow down.", True),
        ErrorCode("provider_rejected", "the provider refused the request.", False),
        ErrorCode("content_refused", "the provider refused the content.", False),
        ErrorCode("provider_auth", "the provider did not accept our credentials.", False),
        ErrorCode("timed_out", "it took longer than it was allowed to.", True),
        ErrorCode("render_failed", "the renderer stopped with an error.", True),
        ErrorCode(
            "renderer_incomplete",
            "the built-in renderer misses system libraries"
            " (Debian, Ubuntu: apt-get install libgl1 libegl1 libexpat1).",
            False,
        ),
        ErrorCode("output_invalid", "what was made is not a valid media file.", True),
        # It was tried again already, with the same file.
        ErrorCode(
            "probe_timed_out", "what was made could not be checked in the time there is.", False
        ),
        ErrorCode("storage_failed", "the media could not be stored.", True),
        ErrorCode("input_failed", "one of its inputs cannot be used.", False),
        ErrorCode("unsupported_by_provider", "its provider does not take it.", False),
        ErrorCode("worker_lost", "too many workers were lost under it.", False),
        ErrorCode("internal_error", "", True),
    )
}

#: Why an asset could not be fetched, and what clients are told of it.
ASSET_ERRORS: dict[str, str] = {
    "blocked_address": "The URL leads to an address that may not be called.",
    "invalid_url": "The URL, or one that it redirects to, cannot be called.",
    "unreachable": "The server could not be reached, or did not answer in time.",
    "http_status": "The server answered with an error; does the URL open without a login?",
    "too_many_redirects": "The URL redirects without end.",
    "too_large": "There are more bytes than an asset may have.",
    "unsupported_media": "The content is no picture, film or sound of a kind that is known here.",
    "quota_exceeded": "The project has no room for it.",
    "upload_missing": "Nothing was uploaded with the form.",
    "storage_failed": "The media storage could not be used.",
    "worker_lost": "Too many workers were lost while they fetched it.",
    "internal_error": "Something went wrong here; it is logged.",
}


def error_code(name: str) -> ErrorCode:
    """Return what is known of a code, that of ``internal_error`` for a provider's own."""
    return ERROR_CODES.get(name, ERROR_CODES["internal_error"])


def is_retryable(name: str) -> bool:
    """Say whether a later attempt may succeed; a provider's own codes count as permanent."""
    return name in ERROR_CODES and ERROR_CODES[name].is_retryable


def own_frames(error: BaseException) -> str:
    """Return a traceback of our own frames only; if it is too long, the innermost are kept."""
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
    """Return one of our frames as Python prints it, "" for frames of other code."""
    path = Path(frame.filename)
    if not path.is_relative_to(PROJECT_ROOT) or {".venv", "site-packages"} & set(path.parts):
        return ""
    shown = path.relative_to(PROJECT_ROOT).as_posix()
    return f'  File "{shown}", line {frame.lineno}, in {frame.name}'
