"""Do processes that start together on a fresh machine agree on its secret?"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.e2e.conftest import ROOT

PROCESSES = 8
ROUNDS = 40
# Every process reaches every round at the same moment, by the clock.
_READ_EVERY_ROUND = f"""
import pathlib, sys, time
from moviesvc.run.secret_file import read_or_create
place, start = pathlib.Path(sys.argv[1]), float(sys.argv[2])
for number in range({ROUNDS}):
    while time.time() < start + number * 0.01:
        pass
    print(read_or_create(place / str(number) / "secret_key"))
"""


def test_racing_processes_get_one_whole_secret(tmp_path: Path) -> None:
    """Of eight processes that make the secret at once, all read the same complete one."""
    command = [sys.executable, "-c", _READ_EVERY_ROUND, str(tmp_path), str(time.time() + 0.5)]
    racing = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(PROCESSES)
    ]
    seen = [process.communicate(timeout=30)[0].split("\n")[:-1] for process in racing]
    for secrets in zip(*seen, strict=True):
        assert len(set(secrets)) == 1
        assert len(secrets[0]) == 64
    assert len(seen[0]) == ROUNDS
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"secret_key"}
    assert os.stat(tmp_path / "0/secret_key").st_mode & 0o777 == 0o600
