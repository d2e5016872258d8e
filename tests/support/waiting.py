"""How does a test wait for something real? It polls until a predicate holds or time is up."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(
    predicate: Callable[[], T], timeout: float = 10.0, message: str | Callable[[], str] = ""
) -> T:
    """Call `predicate` until it returns something true, and return that.

    Args:
        timeout: seconds.
        message: what was waited for, or what tells, asked when the time is up: a log, say.
    Raises: AssertionError when the time is up.
    """
    deadline = time.monotonic() + timeout
    pause_seconds = 0.005
    while True:
        answer = predicate()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            said = message() if callable(message) else message
            raise AssertionError(f"not within {timeout} s: {said or predicate}")
        time.sleep(pause_seconds)
        pause_seconds = min(pause_seconds * 1.5, 0.1)
