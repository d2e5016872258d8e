"""Which programs does `manage.py run` start for which settings?"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from moviesvc.run import lifeline, service


@pytest.mark.parametrize(
    ("processes", "names"), [("1", ["worker"]), ("3", ["worker1", "worker2", "worker3"])]
)
def test_every_worker_process_is_a_program_of_its_own(
    monkeypatch: pytest.MonkeyPatch, processes: str, names: list[str]
) -> None:
    """A worker that dies ends no other one: each has its own main process."""
    monkeypatch.setenv("WORKER_PROCESSES", processes)
    workers = [each for each in service.programs({}) if each.role == "worker"]
    assert [worker.name for worker in workers] == names
    for worker in workers:
        assert worker.command[worker.command.index("-p") + 1] == "1"


def test_programs_of_one_role_are_listed_beside_each_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Listing the processes of one worker program does not affect those of another."""
    monkeypatch.setenv("WORKER_PROCESSES", "2")
    workers = [each for each in service.programs({}) if each.role == "worker"]
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    processes = [subprocess.Popen(sleep, start_new_session=True) for _ in workers]
    try:
        for worker, process in zip(workers, processes, strict=True):
            lifeline.announce(tmp_path, worker.environment[lifeline.ROLE_VARIABLE])
            own = tmp_path / "run/announced" / f"{worker.name}.{os.getpid()}"
            own.rename(own.with_suffix(f".{process.pid}"))
        children = [
            SimpleNamespace(program=worker, process=process)
            for worker, process in zip(workers, processes, strict=True)
        ]
        for _ in range(2):
            found = service.pids_by_role(SimpleNamespace(children=children), tmp_path)
            assert found["worker"] == [process.pid for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
