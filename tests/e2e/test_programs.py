"""Which programs does `manage.py run` start for which settings?"""

from __future__ import annotations

import pytest

from moviesvc import service


@pytest.mark.parametrize(
    ("processes", "names"), [("1", ["worker"]), ("3", ["worker1", "worker2", "worker3"])]
)
def test_every_worker_process_is_a_program_of_its_own(
    monkeypatch: pytest.MonkeyPatch, processes: str, names: list[str]
) -> None:
    """A worker that dies takes no other one with it: each has a main process to itself."""
    monkeypatch.setenv("WORKER_PROCESSES", processes)
    workers = [each for each in service.programs({}) if each.role == "worker"]
    assert [worker.name for worker in workers] == names
    for worker in workers:
        assert worker.command[worker.command.index("-p") + 1] == "1"
