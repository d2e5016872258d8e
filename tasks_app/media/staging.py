"""Where does a file lie until it is known to be media?

In a work directory of its own, like a task's run: it is locked while it is used, and what a crash
leaves there is deleted by the sweep. Nothing is in the storage before it was decoded.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from django.conf import settings

from tasks_app.media import probe, store
from tasks_app.media.serve import EXTENSIONS
from tasks_app.models import MediaFile, new_media_id
from tasks_app.providers.base import Context, ProviderError

#: Decoders at work at once in one process, each with a processor and up to 4 GiB of its own.
_decoders = threading.BoundedSemaphore(os.cpu_count() or 1)


_BEGINNINGS = (
    *probe.IMAGE_SIGNATURES,
    b"\x1a\x45\xdf\xa3",  # Matroska, WebM
    b"OggS",
    b"fLaC",
    b"ID3",
)
KINDS = "PNG, JPEG, WebP, GIF, MP4, WebM, WAV, MP3, M4A, Ogg or FLAC"
#: The first atoms of MP4 and QuickTime files, after their length.
_ATOMS = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")


class TooLarge(Exception):
    """More bytes than one asset may have."""


class NotMedia(Exception):
    """The content cannot be decoded; the text says why, without paths."""


@contextmanager
def work_directory() -> Iterator[Path]:
    """Make a directory for one file, and delete it afterwards with all that is in it."""
    directory = Path(settings.WORK_ROOT) / str(uuid.uuid4())
    directory.mkdir(parents=True)
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield directory
    finally:
        os.close(descriptor)
        shutil.rmtree(directory, ignore_errors=True)


class StagedFile:
    """A file that is written piece by piece, and hashed meanwhile.

    Args:
        most: bytes that it may have.
    """

    def __init__(self, path: Path, most: int) -> None:
        self.path = path
        self.size_bytes = 0
        self._most = most
        self._digest = hashlib.sha256()
        self._handle = path.open("wb", buffering=1 << 20)

    @property
    def sha256(self) -> str:
        """Return the hash of what was written, in hex."""
        return self._digest.hexdigest()

    def write(self, piece: bytes) -> None:
        """Append a piece.

        Raises:
            TooLarge: nothing more fits.
        """
        self.size_bytes += len(piece)
        if self.size_bytes > self._most:
            raise TooLarge
        self._digest.update(piece)
        self._handle.write(piece)

    def close(self) -> None:
        """Write out what is buffered; nothing can be appended any more."""
        self._handle.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def decoded(path: Path, context: Context | None = None) -> probe.ProbedFile:
    """Decode a file and return what is in it, whatever its name or sender say.

    Raises:
        NotMedia: it is none, or it took too long to find out.
    """
    if not _may_be_media(path):
        raise NotMedia(f"no media of a kind that is known here: send {KINDS}")
    with _decoders:
        try:
            return probe.probe(path, context=context)
        except ProviderError as error:
            raise NotMedia(error.message.removeprefix(f"{path.name}: ").rstrip(".")) from None


def _may_be_media(path: Path) -> bool:
    """Say whether a file begins like one of the known kinds: most others need no decoder."""
    with path.open("rb") as file:
        head = file.read(12)
    is_frame = head[:1] == b"\xff" and len(head) > 1 and head[1] & 0xE0 == 0xE0  # MPEG audio
    return head.startswith(_BEGINNINGS) or head[4:8] in _ATOMS or is_frame


def stored(path: Path, found: probe.ProbedFile, file: MediaFile | None = None) -> MediaFile:
    """Move a decoded file into the storage, and return its (unsaved) row.

    Args:
        file: the row to fill in; a new one if there is none yet.

    Raises:
        OSError: the storage cannot be used.
    """
    file = file or MediaFile(id=new_media_id())
    file.path = store.keep(path, f"assets/{file.id}/asset.{EXTENSIONS[found.media_type]}")
    file.media_type = found.media_type
    file.size_bytes, file.sha256 = found.size_bytes, found.sha256
    file.width, file.height = found.width, found.height
    file.duration, file.fps, file.codecs = found.duration, found.fps, list(found.codecs)
    return file
