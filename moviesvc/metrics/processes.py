"""How are the figures of many processes added up? By files in one directory of this machine.

Web, worker and delivery processes share no memory, and most have no port. So each keeps its
counters and histograms in files of its own (`prometheus_client`'s multiprocess mode), and
`/metrics` adds them up. Three things that the library does not solve:

- *Which process is alive?* Each holds a file lock until it ends; the kernel frees it, even after
  kill -9. A pid does not work: it is reused, and means nothing in the next container.
- *A counter must not fall* when a process dies. Its files are added to an archive, which replaces
  the previous one by a single rename: a kill at any moment loses nothing and counts nothing twice.
- *A full disk must not kill.* A write to a hole of a mapped file would be a SIGBUS, so the files'
  blocks are allocated first; where that fails, the process counts in its own memory only.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import re
import secrets
import shutil
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import structlog
from prometheus_client import Metric, values
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

logger = structlog.get_logger(__name__)

#: Bytes that each process allocates on disk; all our series fill about a third of them.
SIZES = {"counter": 1 << 16, "histogram": 1 << 17, "gauge_livesum": 1 << 12}
#: Kinds that outlive their process; a gauge ends with it.
LASTING = ("counter", "histogram")
_FILE = re.compile(rf"(?:{'|'.join(SIZES)})_([0-9a-f]{{16}})\.db")


class ProcessMetrics:
    """The shared files in ``directory``; also a collector for a registry."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._pid = 0
        self._identity = ""
        self._alive: IO[str] | None = None

    def use(self) -> None:
        """Keep the values of every metric made from now on in the shared files."""
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(self._directory)
        values.ValueClass = self._value

    def collect(self) -> Iterable[Metric]:
        """Return the sums over all processes, including dead ones."""
        try:
            with self._alone():
                self._bury()
                archive = self._archive()
                files = [*self._files().values(), *(archive.glob("*.db") if archive else ())]
                names = [str(file) for file in files if _values_in(file) is not None]
                return list(MultiProcessCollector.merge(names))  # type: ignore[no-untyped-call]
        except OSError as error:
            logger.warning("Metrics of the processes cannot be read", error=type(error).__name__)
            return []

    # -- this process ---------------------------------------------------------------------

    def _value(self, *arguments: Any, **options: Any) -> Any:
        return self._value_class(*arguments, **options)

    @functools.cached_property
    def _value_class(self) -> Any:
        """Return the class of values in files; called when the first value is made."""
        try:
            return values.MultiProcessValue(self._own_identity)  # type: ignore[no-untyped-call]
        except OSError as error:
            logger.warning("Metrics cannot be shared", error=type(error).__name__)
            return values.MutexValue

    def _own_identity(self) -> str:
        """Return the name of this process's files; called at every change of a value."""
        if os.getpid() != self._pid:
            self._enter()
        return self._identity

    def _enter(self) -> None:
        if self._alive:  # inherited by a fork: the lock belongs to the parent
            self._alive.close()
        self._directory.mkdir(parents=True, exist_ok=True)
        identity = secrets.token_hex(8)
        # Locked before it is named, so that nobody takes a starting process for a dead one.
        unnamed = self._directory / f"{identity}.new"
        self._alive = unnamed.open("w")
        fcntl.flock(self._alive, fcntl.LOCK_EX)
        unnamed.rename(self._directory / f"{identity}.alive")
        for kind, size in SIZES.items():
            _allocate(self._directory / f"{kind}_{identity}.db", size)
        self._pid, self._identity = os.getpid(), identity
        with contextlib.suppress(BlockingIOError), self._alone(fcntl.LOCK_NB):
            self._bury()

    # -- all processes --------------------------------------------------------------------

    @contextlib.contextmanager
    def _alone(self, more: int = 0) -> Iterator[None]:
        """Let only one process on this machine read or archive at a time."""
        descriptor = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | more)
            yield
        finally:
            os.close(descriptor)

    def _files(self) -> dict[str, Path]:
        """Return the files of single processes that are not in the archive, by name."""
        archive = self._archive()
        merged = set((archive / "merged").read_text().split()) if archive else set()
        found = {path.name: path for path in self._directory.glob("*.db")}
        return {name: path for name, path in found.items() if name not in merged}

    def _archive(self) -> Path | None:
        """Return the newest archive: the sums of dead processes, and the names of their files."""
        found = self._directory.glob("archive-*")
        return max(found, key=lambda path: int(path.name.partition("-")[2]), default=None)

    def _bury(self) -> None:
        """Archive dead processes; on a full disk their files stay, and are still counted."""
        try:
            living: dict[str, bool] = {}
            dead = []
            for name, path in self._files().items():
                match = _FILE.fullmatch(name)
                if match and not living.setdefault(match[1], self._is_alive(match[1])):
                    dead.append(path)
            if dead:
                self._write_archive(dead)
            self._tidy()
        except OSError as error:
            logger.warning("Metrics of the dead cannot be put away", error=type(error).__name__)

    def _is_alive(self, identity: str) -> bool:
        if identity == self._identity:
            return True
        try:
            with (self._directory / f"{identity}.alive").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def _write_archive(self, dead: list[Path]) -> None:
        old = self._archive()
        number = int(old.name.partition("-")[2]) + 1 if old else 1
        new = self._directory / "next-archive"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        for kind in LASTING:
            before = [old / f"{kind}_archive.db"] if old else []
            _write_sums(
                [*before, *(path for path in dead if path.name.startswith(kind))],
                new / f"{kind}_archive.db",
            )
        (new / "merged").write_text("\n".join(path.name for path in dead))
        new.rename(self._directory / f"archive-{number}")  # from now on the files do not count

    def _tidy(self) -> None:
        """Remove outdated files; an interrupted run is completed by the next one."""
        archive = self._archive()
        for name in (archive / "merged").read_text().split() if archive else ():
            (self._directory / name).unlink(missing_ok=True)
        for lock in self._directory.glob("*.alive"):
            if not self._is_alive(lock.stem):
                lock.unlink(missing_ok=True)
        for other in self._directory.glob("archive-*"):
            if other != archive:
                shutil.rmtree(other, ignore_errors=True)


def _allocate(path: Path, size_bytes: int) -> None:
    """Make a file of zeros with allocated blocks; it gets its name when it is complete."""
    unnamed = path.with_suffix(".new")
    try:
        with unnamed.open("wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size_bytes)
            else:
                file.write(bytes(size_bytes))
        unnamed.rename(path)
    except OSError:
        unnamed.unlink(missing_ok=True)
        raise


def _write_sums(files: Iterable[Path], target: Path) -> None:
    sums: dict[str, float] = {}
    for file in files:
        for key, value in _values_in(file) or ():
            sums[key] = sums.get(key, 0.0) + value
    _allocate(target, 2 * sum(len(key) + 32 for key in sums) + (1 << 12))
    archive: Any = MmapedDict(str(target))  # type: ignore[no-untyped-call]
    for key, value in sums.items():
        archive.write_value(key, value, 0.0)
    archive.close()


def _values_in(file: Path) -> list[tuple[str, float]] | None:
    """Return the values in a file, None if its process left it damaged."""
    library: Any = MmapedDict  # it carries no types
    try:
        return [(key, value) for key, value, *_ in library.read_all_values_from_file(file)]
    except (OSError, RuntimeError, ValueError, struct.error) as error:
        logger.warning("Metrics of a process are torn", error=type(error).__name__)
        return None
