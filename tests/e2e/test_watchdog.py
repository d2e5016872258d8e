"""Is a web process that no longer answers noticed, and replaced?"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest
from django.db import connections

from moviesvc.run import watchdog
from moviesvc.run.watchdog import SILENT_SECONDS, Silence
from tests.e2e.conftest import Service
from tests.support.ports import free_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.long

#: What the supervisor runs as, with less patience than in production.
IMPATIENT = """
import manage
from moviesvc.run import watchdog
watchdog.SILENT_SECONDS = 6
manage.main()
"""

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
    service.program = ["-c", IMPATIENT]
    service.start()
    yield service
    service.stop()


def test_web_processes_that_do_not_answer_are_replaced(service: Service) -> None:
    """One is stopped by the kernel, in another one thread holds the GIL; the third lives on.

    The main process, which starts what takes their places, is stopped as well.
    """
    wait_until(lambda: len(service.details["web"]) == 3, timeout=20, message=service.log)
    stopped, held, sound = before = sorted(service.details["web"])
    main = psutil.Process(sound).ppid()
    os.kill(main, signal.SIGSTOP)
    os.kill(stopped, signal.SIGSTOP)
    os.kill(held, signal.SIGUSR1)

    def are_replaced() -> bool:
        now = set(service.details.get("web", []))
        return not {stopped, held} & now and len(now) == len(before)

    wait_until(are_replaced, timeout=40, message=service.log)
    assert f"main process {main} was stopped; it goes on" in service.whole_log()
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


def signs_given(
    work: watchdog.Work, monkeypatch: pytest.MonkeyPatch, *, wait_seconds: float = 20.0
) -> tuple[int, bool]:
    """Return the signs of life before the threads count as stuck, and whether another follows."""
    monkeypatch.setattr(watchdog, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(watchdog, "STUCK_SECONDS", 0.5)
    early = 0

    async def watch() -> bool:
        late_at = asyncio.get_running_loop().time() + 0.6
        is_late = asyncio.Event()

        def touch() -> None:
            nonlocal early
            if asyncio.get_running_loop().time() >= late_at:
                is_late.set()
            early += not is_late.is_set()

        beat = asyncio.create_task(watchdog.beat(work, touch))
        with suppress(TimeoutError):
            await asyncio.wait_for(is_late.wait(), wait_seconds)
        beat.cancel()
        return is_late.is_set()

    is_later = asyncio.run(watch())
    return early, is_later


@pytest.mark.django_db(transaction=True)
def test_a_process_whose_threads_are_all_stuck_falls_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If the database answers, the threads are stuck for another reason: replace the process."""
    early, is_later = signs_given(Stuck(), monkeypatch, wait_seconds=1.6)
    assert early
    assert not is_later


@pytest.mark.django_db(transaction=True)
def test_a_process_whose_threads_wait_for_the_database_lives_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If the database is unreachable, a new process would not help: it is not replaced."""
    for name, value in {"HOST": "127.0.0.1", "PORT": str(free_port())}.items():
        # In place: the dictionary is shared with the thread that asks for the database.
        monkeypatch.setitem(connections["default"].settings_dict, name, value)
    early, is_later = signs_given(Stuck(), monkeypatch)
    assert early
    assert is_later


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("error", "answers"),
    [
        (psycopg.OperationalError("connection timeout expired"), False),
        (psycopg.InterfaceError("the connection is closed"), False),
        (psycopg.errors.TooManyConnections("sorry, too many clients already"), False),
        (psycopg.errors.UndefinedObject('unrecognized configuration parameter "a"'), True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_database_is_away_whatever_class_of_error_says_so(
    monkeypatch: pytest.MonkeyPatch, error: psycopg.Error, answers: bool
) -> None:
    """An error of a lost server counts as no answer, and none ends the watch."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr(psycopg, "connect", refuse)
    assert watchdog._database_answers() is answers


@pytest.mark.django_db(transaction=True)
def test_busy_threads_that_get_requests_done_are_not_stuck(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Under full load no thread is ever free, but requests get done, which counts."""

    class Busy(Stuck):
        def has_room(self) -> bool:
            self.finished += 1
            return False

    assert signs_given(Busy(), monkeypatch)[1]


def test_only_looks_without_a_sign_count() -> None:
    """A sign of life resets the count, and a silent process is reported once, not at every look."""
    silence = Silence()
    assert not any(silence.look({1: number, 2: 7}) for number in range(SILENT_SECONDS))
    assert silence.look({1: 99, 2: 7}) == [2]
    assert silence.look({1: 100, 2: 7}) == []
