"""Which secret does a machine use that was given none? One kept in a file, made on first use.

Several processes start at the same moment (web, workers, a command), so the file appears
under its name only when it is whole, and the first to name it wins. Django must not be
imported here: the settings call this.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path


def read_or_create(path: Path) -> str:
    """Return the secret in ``path``; every process gets the same one, however many race."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        _create(path)
    return path.read_text()


def _create(path: Path) -> None:
    """Write beside and link: unlike rename, a link never replaces what another just made."""
    own = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_urlsafe(48))
        file.flush()
        os.fsync(file.fileno())
    try:
        with contextlib.suppress(FileExistsError):
            os.link(own, path)
    finally:
        own.unlink()
