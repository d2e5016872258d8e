"""Does the Makefile install what a machine lacks, or say what to run?"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not shutil.which("make"), reason="make is not installed here"),
]


def look_for_skia(tmp_path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the step that checks what the renderer's drawing library needs."""
    loads = tmp_path / "skia-loads"
    told = [f"{name}={value}" for name, value in variables.items()]
    return subprocess.run(
        # -o: the environment that runs this test is not made anew.
        ["make", "-s", "-o", ".venv/.installed-from-lock", f"SKIA={loads}", *told, str(loads)],
        cwd=ROOT,
        env=os.environ | {"LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )


def test_missing_system_libraries_are_named_and_stop_nothing(tmp_path: Path) -> None:
    """Without root the set-up prints one command for OpenGL, goes on, and checks again later."""
    (tmp_path / "libGL.so.1").touch()  # found before the real one, and no library
    done = look_for_skia(tmp_path, CAN_INSTALL="false")
    assert done.returncode == 0, done.stderr
    assert "Type: sudo apt-get install libgl1 libegl1 libexpat1" in done.stdout
    assert not (tmp_path / "skia-loads").exists()


def test_missing_system_libraries_are_installed_by_root(tmp_path: Path) -> None:
    """With root the set-up installs them, reports it, and does not do it twice."""
    fake = tmp_path / "libGL.so.1"
    fake.touch()
    done = look_for_skia(
        tmp_path, CAN_INSTALL="true", APT_UPDATE="true", APT_INSTALL=f"rm {fake}; echo installing"
    )
    assert done.returncode == 0, done.stderr
    assert "installing libgl1 libegl1 libexpat1" in done.stdout
    assert (tmp_path / "skia-loads").exists()
    assert look_for_skia(tmp_path).stdout == ""


def look_for_redis(tmp_path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the step that looks for a Redis; it finds none until ``redis-server`` appears."""
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n[ -e {tmp_path}/redis-server ]\n")
    python.chmod(0o755)
    found = tmp_path / "redis-found"
    told = {"BIN": str(tmp_path), "REDIS": str(found), **variables}
    return subprocess.run(
        ["make", "-s", "-o", f"{tmp_path}/.installed", f"READY={tmp_path}/.installed"]
        + [f"{name}={value}" for name, value in told.items()]
        + [str(found)],
        cwd=ROOT,
        env=os.environ | {"REDIS_URL": ""},
        capture_output=True,
        text=True,
    )


def test_without_any_redis_one_line_says_what_to_type(tmp_path: Path) -> None:
    """Without root the set-up ends with what to install or to set."""
    done = look_for_redis(tmp_path, CAN_INSTALL="false")
    assert done.returncode != 0
    assert "Type: sudo apt-get install redis-server. Or set REDIS_URL." in done.stdout
    assert not (tmp_path / "redis-found").exists()


def test_redis_is_installed_by_root(tmp_path: Path) -> None:
    """With root the set-up installs a Redis, reports it, and does not do it twice."""
    install = f"touch {tmp_path}/redis-server; echo installing"
    done = look_for_redis(tmp_path, CAN_INSTALL="true", APT_UPDATE="true", APT_INSTALL=install)
    assert done.returncode == 0, done.stderr
    assert "installing redis-server" in done.stdout
    assert look_for_redis(tmp_path).stdout == ""
