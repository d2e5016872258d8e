"""Is everything in var/ for its owner alone, and can no other user's lock block a start?"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from moviesvc.run import daemons, lifeline
from moviesvc.run.lock_file import holders, make_private, open_lock
from tests import ROOT

pytestmark = pytest.mark.e2e
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
HOLD = """
import fcntl, sys, time
file = open(sys.argv[1])
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder that every user can reach, like an ordinary checkout."""
    folder = Path("/tmp") / f"var-{os.getpid()}-{tmp_path.name}"
    folder.mkdir()
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@contextmanager
def held_by_nobody(path: Path) -> Iterator[int]:
    """Let another user's process hold a lock on a file that it may read."""
    command = [*AS_NOBODY, "/usr/bin/python3", "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield process.pid
        process.kill()


def loose(root: Path) -> set[str]:
    """Return the paths that other users may access."""
    paths = [root, *root.rglob("*")]
    return {str(one) for one in paths if not one.is_symlink() and one.lstat().st_mode & 0o077}


def test_a_first_start_leaves_nothing_that_others_may_open(place: Path) -> None:
    """With the usual umask of 022, every file is private; sockets are in a 0700 directory."""
    var = place / "var"
    code = "import os; os.umask(0o022); import django; django.setup()"
    environment = {"PATH": os.environ["PATH"], "VAR_DIR": str(var), "EMBEDDED": "off"}
    environment |= {"DJANGO_SETTINGS_MODULE": "moviesvc.settings"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)
    assert (var / "secret_key").is_file()
    assert (var / "static").is_dir()
    assert loose(var) == set()


def test_an_older_var_is_tightened(place: Path) -> None:
    """Files of an earlier version with looser modes are private after the next start."""
    var = place / "var"
    (var / "media").mkdir(parents=True)
    (var / "run.lock").touch()
    for path in (var, var / "media"):
        path.chmod(0o755)
    (var / "run.lock").chmod(0o644)
    make_private(var)
    assert loose(var) == set()


def test_a_directory_for_everybody_is_left_as_it_is(place: Path) -> None:
    """VAR_DIR=/tmp is unwise, but must not make /tmp private."""
    place.chmod(0o1777)
    make_private(place)
    assert place.stat().st_mode & 0o7777 == 0o1777


@needs_root
def test_a_stranger_cannot_open_a_lock(place: Path) -> None:
    """Another user can open none of the files, so there is nothing to lock."""
    var = place / "var"
    daemons.make_directory(var)
    with daemons.locked(var / ".pg.lock"):
        done = subprocess.run([*AS_NOBODY, "cat", str(var / ".pg.lock")], capture_output=True)
        assert b"Permission denied" in done.stderr
    assert (var / ".pg.lock").stat().st_mode & 0o777 == 0o600


@needs_root
def test_a_lock_that_a_stranger_holds_already_stops_nobody(place: Path) -> None:
    """Another user holds locks on files of an earlier version; everything still starts."""
    names = ("run.lock", "children.lock", ".pg.lock")
    for name in names:
        (place / name).touch()
        (place / name).chmod(0o644)
    with (
        held_by_nobody(place / "run.lock"),
        held_by_nobody(place / "children.lock"),
        held_by_nobody(place / ".pg.lock") as pid,
    ):
        assert (pid, 65534) in holders(place / ".pg.lock")
        with (
            lifeline.hold(place, {"pid": os.getpid()}, wait_seconds=1),
            daemons.locked(place / ".pg.lock"),
        ):
            assert all((place / name).stat().st_mode & 0o077 == 0 for name in names)


def test_a_wait_for_our_own_process_ends_and_names_it(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hung process of our own keeps its lock, and the error of the one that waits names it."""
    monkeypatch.setattr(daemons, "LOCK_SECONDS", 0.1)
    with open_lock(place / ".pg.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        named = f"locked by process {os.getpid()} of user"
        with pytest.raises(daemons.EmbeddedError, match=named), daemons.locked(place / ".pg.lock"):
            pass
