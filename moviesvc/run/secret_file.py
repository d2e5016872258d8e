"""Which secret is used where none is configured? One kept in a file, created on first use.

Several processes may start at once (web, workers, a command): the file gets its name only when it
is complete, and the first process to name it wins. Must not import Django: the settings call this.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path


def read_or_create(path: Path) -> str:
    """Return the secret in ``path``; concurrent processes all get the same one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        return path.read_text()
    own = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_urlsafe(48))
        file.flush()
        os.fsync(file.fileno())
    try:
        with contextlib.suppress(FileExistsError):
            os.link(own, path)  # unlike rename, a link never replaces another's file
    finally:
        own.unlink()
    return path.read_text()
