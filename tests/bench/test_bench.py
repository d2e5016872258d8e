"""Does the benchmark still run and report? No time is checked here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests import ROOT
from tests.support.servers.programs import program

KEYS = {"id", "what", "ours", "reference", "ratio", "rounds", "unit", "machine", "commit"}


def run(module: str, *arguments: str, **environment: str) -> None:
    """Run a module of the project to its end."""
    command = [sys.executable, "-m", module, *arguments]
    subprocess.run(command, cwd=ROOT, env=os.environ | environment, check=True, timeout=90)


def test_tiny_bench_delivers_all_and_writes_its_figures(tmp_path: Path) -> None:
    """The program compares receiver and rows with what was published, and writes every key."""
    var = tmp_path / "bench"
    try:
        run("tests.bench", BENCH_VAR=str(var), QUICK="tiny", ONLY="P1,P4")
    finally:
        run("moviesvc.run.embedded", "stop", str(var))
    rows = json.loads((tmp_path / "bench.json").read_text())
    assert [row["id"] for row in rows] == ["P1", "P1", "P4", "P4"]
    assert all(set(row) >= KEYS and row["rounds"] and row["ours"] > 0 for row in rows)


def test_a_stock_server_is_measured_too(tmp_path: Path) -> None:
    """`BENCH_SERVER=stock` starts Debian's PostgreSQL, and the deliveries go over it."""
    program("pg_ctlcluster")
    var = tmp_path / "bench"
    try:
        run("tests.bench", BENCH_VAR=str(var), BENCH_SERVER="stock", QUICK="tiny", ONLY="P4")
    finally:
        run("moviesvc.run.embedded", "stop", str(var))
    rows = json.loads((tmp_path / "bench.json").read_text())
    assert [row["id"] for row in rows] == ["P4", "P4"]
    assert "PostgreSQL 18" not in rows[0]["machine"]
