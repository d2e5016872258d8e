"""Does a traceback for clients show our own frames and nothing else?"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from tasks_app.failures import TRACEBACK_LIMIT, own_frames


def caught(work: Callable[[], object]) -> Exception:
    """Return what a call raises."""
    try:
        work()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def test_library_frames_values_and_paths_stay_here() -> None:
    """Of an error deep in the standard library only the call in our own file is shown."""
    text = own_frames(caught(lambda: json.loads('{"secret": nonsense}')))
    first, *frames, last = text.split("\n")
    assert (first, last) == ("Traceback (most recent call last):", "JSONDecodeError")
    assert all(
        re.fullmatch(r'  File "tests/tasks/test_failures.py", line \d+, in \S+', frame)
        for frame in frames
    )
    assert len(frames) == 2
    assert "nonsense" not in text


def test_longest_traceback_keeps_its_innermost_frames_whole() -> None:
    """Two thousand characters at most, with the innermost frames, no frame cut in two."""

    def deeper(level: int) -> None:
        if not level:
            raise ValueError
        deeper(level - 1)

    text = own_frames(caught(lambda: deeper(200)))
    first, *frames, last = text.split("\n")
    assert TRACEBACK_LIMIT - 100 < len(text) <= TRACEBACK_LIMIT == 2000
    assert (first, last) == ("Traceback (most recent call last):", "ValueError")
    assert all(frame.startswith('  File "tests/') for frame in frames)
