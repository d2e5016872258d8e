"""Is a web process that no longer answers noticed, and replaced?"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from django.db import connections

from moviesvc import watchdog
from moviesvc.watchdog import SILENT_SECONDS, Silence
from tests.e2e.conftest import Service
from tests.ports import free_port
from tests.waiting import wait_until

pytestmark = pytest.mark.long

#: Loaded by each Python of the service: a signal makes it sleep in C without releasing the GIL.
HOLDS_THE_GIL = """
import ctypes, signal
signal.signal(signal.SIGUSR1, lambda *_: ctypes.PyDLL(None).sleep(600))
"""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service of three web processes that can be told to hold their GIL."""
    (tmp_path / "sitecustomize.py").write_text(HOLDS_THE_GIL)
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    service = Service(tmp_path / "var", WEB_PROCESSES="3", PYTHONPATH=path)
    service.start()
    yield service
    service.stop()


def test_web_processes_that_do_not_answer_are_replaced(service: Service) -> None:
    """One is stopped by the kernel, in another one thread holds the GIL; the third lives on."""
    wait_until(lambda: len(service.details["web"]) == 3, timeout=20, message=service.log)
    stopped, held, sound = before = sorted(service.details["web"])
    os.kill(stopped, signal.SIGSTOP)
    os.kill(held, signal.SIGUSR1)

    def are_replaced() -> bool:
        now = set(service.details.get("web", []))
        return not {stopped, held} & now and len(now) == len(before)

    wait_until(are_replaced, timeout=40, message=service.log)
    for pid in (stopped, held):
        assert f"web process {pid} does not answer any more" in service.whole_log()
    for _ in range(20):
        assert service.call("GET", "health")[0] == 200
    assert sound in service.details["web"]


class Stuck:
    """A process whose threads are all busy with requests that never end."""

    finished = 7

    def has_room(self) -> bool:
        return False


def signs_given(work: watchdog.Work, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Return the signs of life before the threads count as stuck, and in a second after it."""
    monkeypatch.setattr(watchdog, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(watchdog, "STUCK_SECONDS", 0.5)
    signs: list[float] = []

    async def watch() -> float:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        with suppress(TimeoutError):
            async with asyncio.timeout(1.6):
                await watchdog.beat(work, lambda: signs.append(loop.time()))
        return begin + 0.6

    late = asyncio.run(watch())
    return sum(sign < late for sign in signs), sum(sign >= late for sign in signs)


@pytest.mark.django_db(transaction=True)
def test_a_process_whose_threads_are_all_stuck_falls_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The database answers, so it is not what they wait for: the supervisor is to replace it."""
    early, late = signs_given(Stuck(), monkeypatch)
    assert early
    assert not late


@pytest.mark.django_db(transaction=True)
def test_a_process_whose_threads_wait_for_the_database_lives_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A new process would wait just as long for a database that is away."""
    for name, value in {"HOST": "127.0.0.1", "PORT": str(free_port())}.items():
        # In place: the dictionary is shared with the thread that asks for the database.
        monkeypatch.setitem(connections["default"].settings_dict, name, value)
    early, late = signs_given(Stuck(), monkeypatch)
    assert early
    assert late


@pytest.mark.django_db(transaction=True)
def test_busy_threads_that_get_requests_done_are_not_stuck(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Under full load no thread is ever free, and each look finds more requests done."""

    class Busy(Stuck):
        def has_room(self) -> bool:
            self.finished += 1
            return False

    assert signs_given(Busy(), monkeypatch)[1]


def test_only_looks_without_a_sign_count() -> None:
    """A sign starts the count anew, and a process is named once, not at every look after it."""
    silence = Silence()
    assert not any(silence.look({1: number, 2: 7}) for number in range(SILENT_SECONDS))
    assert silence.look({1: 99, 2: 7}) == [2]
    assert silence.look({1: 100, 2: 7}) == []
