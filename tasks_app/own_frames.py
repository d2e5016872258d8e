"""Which part of a traceback may leave the house? Our own frames, without what they worked on.

Project-relative paths, no line of source, no message: an exception's text may quote a prompt, a
path or a key. Django is not needed here, since render processes ask, too.
"""

from __future__ import annotations

import traceback
from pathlib import Path

from tasks_app import PROJECT_ROOT

#: Characters; the contract with receivers.
LIMIT = 2000


def own_frames(error: BaseException) -> str:
    """Return where our code was when it failed, the innermost frames where not all fit."""
    head, last = "Traceback (most recent call last):", type(error).__name__[:100]
    room = LIMIT - len(head) - len(last) - 2
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
