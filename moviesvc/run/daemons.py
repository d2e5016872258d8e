"""Which daemon lives in this directory, and how is one found, asked, run and ended?

Holds what embedded.py needs from the operating system: sockets, processes, owners, private
directories. It knows nothing of PostgreSQL and Redis but the signals that stop them.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from moviesvc.run.lock_file import in_the_way, make_private, open_lock, take

# 107 bytes is the kernel's limit for a socket's path.
SOCKET_PATH_LIMIT = 100
#: More than a start or a stop of a server takes.
LOCK_SECONDS = 120.0


class EmbeddedError(RuntimeError):
    """A server could not be started; the message says what to do about it."""


def as_owner(directory: Path) -> list[str]:
    """Return a command prefix that runs a program as the directory's owner; [] unless root.

    DAC_OVERRIDE lets the program traverse a private home. `no_setuid_fixup` makes access(2), with
    which PostgreSQL looks for its own programs, respect that capability.
    """
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise EmbeddedError(
            "PostgreSQL refuses to run as root, and setpriv (util-linux) is not there to run it"
            " as somebody else. Start as an ordinary user, or set DATABASE_URL."
        )
    owner = directory.stat()
    if owner.st_uid == 0:
        raise EmbeddedError(f"{directory} belongs to root, which PostgreSQL refuses: remove it.")
    who = [f"--reuid={owner.st_uid}", f"--regid={owner.st_gid}", "--clear-groups"]
    rights = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return [setpriv, *who, *rights, "--securebits=+no_setuid_fixup"]


def accepts(path: Path) -> bool:
    """Whether a process listens there. A full queue (EAGAIN) means busy, not dead."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.setblocking(False)
        try:
            connection.connect(str(path))
        except BlockingIOError:
            return True
        except OSError:
            return False
    return True


def works_in(pid: int, name: str, directory: Path) -> bool:
    """Whether this pid is the named program, alive, with that working directory.

    Both servers change to their data directory, so a foreign or reused pid does not match.
    """
    import psutil  # here, because production installs neither it nor the servers

    try:
        process = psutil.Process(pid)
        if process.name() != name or process.status() == psutil.STATUS_ZOMBIE:
            return False
        with contextlib.suppress(psutil.AccessDenied):
            return str(process.cwd()).removesuffix(" (deleted)") == str(directory)
    except psutil.Error:
        return False
    # Root without CAP_SYS_PTRACE (a container) may not read this; the server's own user may.
    owner = as_owner(directory) if directory.exists() else []
    if not owner:
        return False  # another user's process
    look = [*owner, "readlink", f"/proc/{pid}/cwd"]
    seen = subprocess.run(look, capture_output=True, text=True, check=False).stdout
    return seen.strip().removesuffix(" (deleted)") == str(directory)


def processes(name: str, directory: Path) -> list[int]:
    import psutil

    return [pid for pid in psutil.pids() if works_in(pid, name, directory)]


def end_leftovers(name: str, directory: Path) -> None:
    """End what a killed server left behind, or a server that no longer answers."""
    # SIGQUIT: PostgreSQL ends at once and recovers at the next start; Redis shuts down on TERM.
    gentle = signal.SIGQUIT if name == "postgres" else signal.SIGTERM
    for end, patience_seconds in ((gentle, 5.0), (signal.SIGKILL, 5.0)):
        deadline = time.monotonic() + patience_seconds
        pids = processes(name, directory)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, end)
        while pids and time.monotonic() < deadline:
            time.sleep(0.02)
            pids = [pid for pid in pids if works_in(pid, name, directory)]
        if not pids:
            return
    raise EmbeddedError(f"{name} in {directory} does not end (pids {pids}).")


def socket_directory(var: Path, longest_name: str) -> Path:
    """Make the private directory for sockets: var/run, or one in /tmp if that path is too long."""
    directory = var / "run"
    longest = os.fsencode(directory / longest_name)
    if len(longest) >= SOCKET_PATH_LIMIT or set("\"',@") & set(str(directory)):
        mark = hashlib.sha256(os.fsencode(var)).hexdigest()[:12]
        directory = Path(tempfile.gettempdir()) / f"ms-{os.geteuid()}-{mark}"
    make_directory(directory)
    found = directory.lstat()
    if found.st_uid != os.geteuid() or found.st_mode & 0o077 or directory.is_symlink():
        raise EmbeddedError(f"{directory} must be a directory of mode 0700 of your own: remove it.")
    return directory


def make_directory(directory: Path) -> None:
    try:
        make_private(directory)
    except OSError as problem:
        raise EmbeddedError(f"Cannot make {directory}: {problem.strerror}.") from problem


def set_aside(directory: Path) -> None:
    """Rename a directory that cannot be used, instead of deleting it: somebody may examine it."""
    if directory.exists():
        directory.rename(directory.with_name(f"{directory.name}.broken-{time.time_ns()}"))


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock for the time of a start or stop, so that only one process does it."""
    with open_lock(path) as lock:
        if not take(lock, fcntl.LOCK_EX, LOCK_SECONDS):
            raise EmbeddedError(f"{in_the_way(path)}, and has been for {LOCK_SECONDS:.0f} s.")
        yield


def run(command: list[str], cwd: Path) -> "subprocess.CompletedProcess[bytes]":
    """Run without pipes: a daemon would keep them open, and its starter would wait for ever."""
    quiet = subprocess.DEVNULL
    return subprocess.run(
        command, cwd=cwd, env=clean_environment(), stdin=quiet, stdout=quiet, stderr=quiet
    )


def run_or_raise(command: list[str], cwd: Path, what: str, input_text: str = "") -> None:
    done = subprocess.run(
        command, cwd=cwd, env=clean_environment(), input=input_text, capture_output=True, text=True
    )
    if done.returncode:
        raise EmbeddedError(f"{what} failed:\n{(done.stdout + done.stderr)[-2000:]}")


def clean_environment() -> dict[str, str]:
    """Return the environment without what reconfigures PostgreSQL or translates its messages."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "LC_"))}
    return kept | {"LC_ALL": "C", "TZ": "UTC"}


def tail(log: Path) -> str:
    with contextlib.suppress(OSError):
        return log.read_text(errors="replace")[-2000:]
    return "(no log)"
