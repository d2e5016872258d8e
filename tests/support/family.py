"""What do running processes say of themselves? One of a list may be gone when it is asked.

Between listing processes and asking one of them it can end, and psutil then raises. Whoever asks
more than one process, or one that is meant to end, asks through here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeVar

import psutil

T = TypeVar("T")


def family(root: psutil.Process | int) -> list[psutil.Process]:
    """Return a process and all below it, itself first; none if it has ended."""
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(root) if isinstance(root, int) else root
        return [parent, *parent.children(recursive=True)]
    return []


def answers(
    processes: Iterable[psutil.Process], question: Callable[[psutil.Process], T]
) -> list[T]:
    """Ask each process, and return the answers of those that have not ended meanwhile."""
    given = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # a zombie, too: nothing is left of it to be read
            given.append(question(process))
    return given


def matching(
    processes: Iterable[psutil.Process], question: Callable[[psutil.Process], bool]
) -> list[psutil.Process]:
    """Return the processes that answer yes; one that has ended meanwhile does not."""
    asked = answers(processes, lambda process: (process, question(process)))
    return [process for process, is_yes in asked if is_yes]


def kill(processes: Iterable[psutil.Process]) -> None:
    """kill -9 each process, in this order; some are faster than we are."""
    answers(processes, psutil.Process.kill)


def is_running(process: psutil.Process | int) -> bool:
    """Say whether a process runs; a zombie does not, nor does another one with its pid."""
    with suppress(psutil.NoSuchProcess):
        known = psutil.Process(process) if isinstance(process, int) else process
        return known.is_running() and known.status() != psutil.STATUS_ZOMBIE
    return False
