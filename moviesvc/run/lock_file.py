"""How are files kept private, and how is a lock taken that no other user can block?

Whoever may open a file, even only for reading, may lock it. So our directories are 0700 and our
lock files 0600, and older ones are tightened. If another user's process holds a lock already (it
opened the file before), a new file replaces the old one. Every wait is limited, and its error names
the processes that hold the lock. Must not import Django.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import time
from pathlib import Path
from typing import IO, Any


def make_private(directory: Path) -> None:
    """Make a directory for its owner alone; does the same to an existing one of ours.

    A directory that belongs to others, or that everybody may write to (`/tmp`), is left as it is.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(OSError):
        if directory.stat().st_mode & stat.S_ISVTX:
            return
        for path in (directory, *directory.iterdir()):
            found = path.lstat()
            if stat.S_ISLNK(found.st_mode) or found.st_uid != os.geteuid():
                continue
            if found.st_mode & 0o077 and (path.is_dir() or path.is_file()):
                path.chmod(stat.S_IMODE(found.st_mode) & 0o700)


def write_private(path: Path, content: dict[str, Any]) -> None:
    """Replace a file by this JSON, at once, readable for its owner only."""
    new = path.with_suffix(".new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(content, file, indent=2)
    new.rename(path)


def open_lock(path: Path) -> IO[str]:
    """Open a lock file for reading and appending, and create it if necessary."""
    with contextlib.suppress(OSError):
        if any(user not in (0, os.geteuid()) for _, user in holders(path)):
            path.unlink()
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    with contextlib.suppress(OSError):
        os.fchmod(descriptor, 0o600)
    return os.fdopen(descriptor, "a+")


def take(lock: IO[str], how: int, seconds: float) -> bool:
    """Take a lock (LOCK_SH or LOCK_EX) within ``seconds``; False if others keep it."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, how | fcntl.LOCK_NB)
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)


def in_the_way(path: Path) -> str:
    """Say which processes hold a lock."""
    pids = ", ".join(f"{pid} of user {user}" for pid, user in holders(path))
    return f"{path} is locked by {f'process {pids}' if pids else 'a process that cannot be seen'}"


def holders(path: Path) -> list[tuple[int, int]]:
    """Return pid and user id of the processes that hold a lock on a file (Linux; else none)."""
    found: list[tuple[int, int]] = []
    with contextlib.suppress(OSError):
        file = path.stat()
        device = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()
            if device in words and "FLOCK" in words and "->" not in words:
                pid = int(words[words.index(device) - 1])
                with contextlib.suppress(OSError):
                    found.append((pid, Path(f"/proc/{pid}").stat().st_uid))
    return found
