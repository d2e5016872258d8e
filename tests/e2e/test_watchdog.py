"""Is a web process that no longer answers noticed, and replaced?"""

from __future__ import annotations

import os
import signal

import pytest

from moviesvc.watchdog import SILENT_SECONDS, Silence
from tests.e2e.conftest import Service
from tests.waiting import wait_until

pytestmark = pytest.mark.long


def test_a_stopped_web_process_is_replaced(still_service: Service) -> None:
    """A process that the kernel has stopped, like one whose GIL is held, gives no sign of life."""
    before = set(still_service.details["web"])
    stopped = min(before)
    os.kill(stopped, signal.SIGSTOP)

    def is_replaced() -> bool:
        now = set(still_service.details.get("web", []))
        return stopped not in now and len(now) == len(before)

    wait_until(is_replaced, timeout=40, message=still_service.log)
    assert f"web process {stopped} does not answer any more" in still_service.whole_log()
    for _ in range(20):
        assert still_service.call("GET", "health")[0] == 200
    assert before - {stopped} <= set(still_service.details["web"]), "the others live on"


def test_only_looks_without_a_sign_count() -> None:
    """A sign starts the count anew, and a process is named once, not at every look after it."""
    silence = Silence()
    assert not any(silence.look({1: number, 2: 7}) for number in range(SILENT_SECONDS))
    assert silence.look({1: 99, 2: 7}) == [2]
    assert silence.look({1: 100, 2: 7}) == []
