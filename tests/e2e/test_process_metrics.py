"""Do counters of many processes add up, and does no death of a process change the sum?"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from moviesvc.metrics.processes import ProcessMetrics
from tests.support.waiting import wait_until

#: Counts 3 and observes 0.2, says so, and waits to be killed (or forks, and both count on).
PROGRAM = """
import os, sys, time
from pathlib import Path
from moviesvc.metrics.processes import ProcessMetrics
files = ProcessMetrics(Path(sys.argv[1]))
files.use()
from prometheus_client import Counter, Gauge, Histogram
counter = Counter("things", "Things.", ["kind"]).labels("x")
counter.inc(3)
Histogram("seconds", "Seconds.", ["kind"]).labels("x").observe(0.2)
Gauge("alive", "Alive.", multiprocess_mode="livesum").set(1)
if "fork" in sys.argv and os.fork() == 0:
    counter.inc(100)
    os._exit(0)
print("counted", flush=True)
if "stay" in sys.argv:
    time.sleep(60)
"""


def start(directory: Path, *more: str) -> subprocess.Popen[str]:
    """Start a process that counts, and wait until it has."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(directory), *more], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "counted\n"
    return process


def end(process: subprocess.Popen[str], number: int = signal.SIGKILL) -> None:
    """End a process and close its pipe."""
    process.send_signal(number)
    process.communicate()


def sums(directory: Path) -> dict[str, float]:
    """Return what a scrape would show, without labels."""
    families = ProcessMetrics(directory).collect()
    found = {sample.name: sample.value for family in families for sample in family.samples}
    return {name: value for name, value in found.items() if not name.endswith("_bucket")}


def test_sums_outlive_their_processes_and_gauges_do_not(tmp_path: Path) -> None:
    """Two counting processes, one killed, then both: the sum stays 6, while `alive` falls."""
    first, second = start(tmp_path, "stay"), start(tmp_path, "stay")
    expected = {"things_total": 6.0, "seconds_count": 2.0, "seconds_sum": 0.4, "alive": 2.0}
    assert sums(tmp_path) == expected
    end(first)
    assert sums(tmp_path) == expected | {"alive": 1.0}
    end(second)
    left = {name: value for name, value in expected.items() if name != "alive"}
    assert sums(tmp_path) == left
    assert sums(tmp_path) == left
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"lock", "archive-2"}, "files of dead processes pile up"


def test_processes_that_come_and_go_unscraped_leave_no_pile(tmp_path: Path) -> None:
    """Every starting process archives dead ones, so a crash loop does not fill the disk."""
    for _ in range(4):
        start(tmp_path).communicate()
    assert len(list(tmp_path.glob("*.db"))) == 3, "those of the last one"
    assert sums(tmp_path)["things_total"] == 12


def test_a_forked_child_counts_for_itself(tmp_path: Path) -> None:
    """The child of a fork neither inherits the parent's figures nor holds its lock."""
    process = start(tmp_path, "fork", "stay")
    wait_until(lambda: sums(tmp_path)["things_total"] == 103, message="3 and 100")
    assert sums(tmp_path)["alive"] == 1
    end(process)
    assert "alive" not in sums(tmp_path)
    assert sums(tmp_path)["things_total"] == 103


@pytest.mark.parametrize("stop", ["before", "after"])
def test_a_kill_while_tidying_changes_no_sum(tmp_path: Path, stop: str) -> None:
    """A kill just before or just after the rename neither loses a figure nor counts it twice."""
    for _ in range(2):
        start(tmp_path).communicate()
    files = ProcessMetrics(tmp_path)
    # What the two processes left behind, tidied up as far as to the kill.
    dead = [path for path in files._files().values() if files._archive() not in path.parents]
    files._write_archive(dead)
    if stop == "before":
        archive = files._archive()
        assert archive is not None
        archive.rename(tmp_path / "next-archive")
    assert sums(tmp_path)["things_total"] == 6
    assert sums(tmp_path)["things_total"] == 6


@pytest.mark.parametrize("content", [b"", b"\xff\xff\xff\x7f" + b"\x00torn\xff" * 40])
def test_a_torn_file_spoils_no_scrape(tmp_path: Path, content: bytes) -> None:
    """An incomplete file of a process is left out; the rest is still right."""
    start(tmp_path).communicate()
    (torn,) = tmp_path.glob("histogram_*.db")
    torn.write_bytes(content)
    assert sums(tmp_path) == {"things_total": 3.0}
    process = start(tmp_path, "stay")
    (torn,) = tmp_path.glob("histogram_*.db")
    torn.write_bytes(content)
    assert sums(tmp_path) == {"things_total": 6.0, "alive": 1.0}, "of one that lives"
    end(process)


def test_a_directory_that_cannot_be_written_stops_no_work(tmp_path: Path) -> None:
    """If the files cannot be made, the process counts in its own memory and goes on."""
    (tmp_path / "file").touch()
    directory = tmp_path / "file" / "metrics"
    command = [sys.executable, "-c", PROGRAM, str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Metrics cannot be shared" in done.stdout
    assert done.stdout.endswith("counted\n")
    assert sums(directory) == {}


def test_a_full_disk_neither_kills_nor_changes_a_sum(tmp_path: Path) -> None:
    """With no block left to write, processes go on, and a scrape still shows what was counted."""
    for _ in range(2):
        start(tmp_path).communicate()
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
    command = [sys.executable, "-c", full + PROGRAM, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Metrics cannot be shared" in done.stdout
    reading = full + (
        "import sys; from pathlib import Path\n"
        "sys.path.insert(0, '.')\n"
        "from tests.e2e.test_process_metrics import sums\n"
        "print(sums(Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", reading, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "'things_total': 6.0" in done.stdout
    assert sums(tmp_path)["things_total"] == 6
