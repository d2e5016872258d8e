"""F2: what if a process dies, fails or freezes at the worst possible line? At every such line.

One task with webhooks per case. The victim reaches its fault, a healthy process takes over when the
leases have expired, a frozen victim continues afterwards; then the ledger is checked.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos import ledger
from tests.chaos.report import Figure
from tests.chaos.stage import ROOT, Stage, Victim
from tests.support.answers import Answer
from tests.support.receiver import Receiver
from tests.support.waiting import wait_until

#: Fault points by the process that reaches them. `find` reads the sources; a test compares them.
SUBMIT = ("submit.before_commit", "submit.after_commit", "submit.after_enqueue")
CANCEL = ("cancel.before_commit", "cancel.after_commit")
SHUTDOWN = ("handback.after_update", "engine.drain")
TASK = (
    "claim.before_commit",
    "claim.after_commit",
    "watch.before_look",
    "progress.before_commit",
    "run.after_generate",
    "media.after_save",
    "run.after_store",
    "retry.after_requeue",
    "publish.before_wake",
    "finish.before_publish",
    "finish.before_commit",
    "finish.after_commit",
    "run.before_more_tickets",
    "sweep.after_requeue",
    "sweep.after_tickets",
)
ENGINE = (
    "engine.after_claim",
    "engine.before_send",
    "engine.after_send",
    "engine.before_record",
    "engine.after_record",
    "engine.after_follow_up",
)
#: Reached only by a process that repairs what another one left.
RECOVERY = ("engine.before_recovered",)
#: Not reached by any task: tested by tests/e2e/test_replay_crash.py.
REPLAY = ("replay.before_commit",)
#: Not reached by any task either: tested by tests/api/test_uploads.py.
ASSETS = ("assets.after_save",)
#: Nor these, which only work at providers reaches: tests/tasks/remote_work/test_paid_once.py.
REMOTE = (
    "remote.before_begin",
    "remote.after_begin",
    "remote.before_submit",
    "remote.after_submit",
    "remote.after_ready",
)
POINTS = (*SUBMIT, *CANCEL, *SHUTDOWN, *TASK, *ENGINE, *RECOVERY)
#: Points at which only the dying engine has the message.
FAST_PATH = (*ENGINE, "finish.before_publish", "finish.after_commit")
ACTIONS = ("kill", "raise", "freeze")
EVENTS = ["task.started", "task.progress", "task.completed", "task.failed", "task.cancelled"]
#: The first attempt fails and is retried; long enough for the lease watch and for progress.
PROVIDER = {"seconds": 0.35, "fail_code": "render_failed", "failures": 1}


@dataclass
class Case:
    """One fault and its result. ``met``: whether the process reached the fault at all."""

    point: str
    action: str
    hit: int
    met: bool = False
    violations: dict[str, list[str]] = field(default_factory=dict)
    duplicates: int = 0
    attempts_interrupted: int = 0

    @property
    def name(self) -> str:
        """Return the entry of ``FAULTS``."""
        return f"{self.point}:{self.action}@{self.hit}"


def find() -> set[str]:
    """Return the names of all fault points in the product's sources."""
    sources = itertools.chain.from_iterable(
        Path(ROOT / app).rglob("*.py") for app in ("tasks_app", "webhooks_app", "moviesvc")
    )
    return {
        name
        for path in sources
        for name in re.findall(r'faultpoint\("([^"]+)"\)', path.read_text())
    }


def cases(points: Iterable[str], actions: Sequence[str], hits: Sequence[int]) -> list[Case]:
    """Return every combination."""
    return [Case(*each) for each in itertools.product(points, actions, hits)]


def play(
    stage: Stage,
    receiver: Receiver,
    case: Case,
    frozen_seconds: float = 5.0,
    *,
    is_ordered: bool = False,
) -> Case:
    """Let one task run into its fault, and check the ledger.

    Args:
        frozen_seconds: a frozen process continues when all is quiet, at the latest after these.
        is_ordered: an endpoint with the callback's URL asks for the task's events in order.
    """
    scope = f"{case.point.replace('.', '-')}-{secrets.token_hex(4)}"
    slow = 0.3 if case.point == "engine.drain" else 0.0
    receiver.answer(Answer(500, delay=slow), Answer(200))
    faults = case.name
    fields: dict[str, Any] = {"webhook_events": EVENTS}
    if is_ordered:
        # The first event is still being retried when the next ones come, and wait for it.
        fields["retry_policy"] = [1.5, 0.1, 0.2, 0.2]
        asked = {"project_id": scope, "url": f"{receiver.url}/{scope}", "ordered": True}
        assert stage.call("POST", "webhooks/endpoints", asked)["status"] == 201
    at_submit = faults if case.point in SUBMIT else ""
    task_id = stage.submit(scope, f"{receiver.url}/{scope}", at_submit, **fields)
    victim = stage.fork("worker", faults)
    if case.point in CANCEL:
        _cancel_at_last(stage, task_id, faults)
    elif case.point in RECOVERY:
        victim = _die_and_recover(stage, victim, faults)
    elif case.point in SHUTDOWN:
        wait_until(lambda: len(receiver.requests) > 0)
        victim.terminate(3)
    _survive(stage, victim, scope, case.action, frozen_seconds)
    case.met = stage.has_met(faults)
    # Three events of a task may be in flight at once.
    history = stage.history(scope, [task_id], receiver, crashes=2, repeats_per_crash=3)
    case.violations = ledger.check(history)
    case.duplicates = ledger.duplicates(history)
    case.attempts_interrupted = sum(row.outcome == "interrupted" for row in history.deliveries)
    return case


def _survive(stage: Stage, victim: Victim, scope: str, action: str, frozen_seconds: float) -> None:
    """Wait for the fault, let a healthy process take over, and continue a frozen one."""

    def is_over() -> bool:
        return victim.wait() != "running" or stage.is_quiet(scope)

    # After a raised fault the process goes on: do not wait until it has used up its lease.
    with contextlib.suppress(AssertionError):
        wait_until(is_over, timeout=1.5 if action == "raise" else 15)
    state = victim.wait()
    stage.age(messages=state != "frozen")
    rescuer = stage.fork("worker")
    # Rows locked by a frozen transaction cannot be recovered; a message's lease lasts 3.6 s.
    is_quiet = stage.settle(scope, frozen_seconds if state == "frozen" else 10.0)
    if victim.wait() == "frozen":
        victim.thaw()
    if not is_quiet:
        stage.settle(scope, 10.0)
    for process in (victim, rescuer):
        if process.wait() == "running":
            process.terminate()


def _cancel_at_last(stage: Stage, task_id: str, faults: str) -> None:
    """Cancel, and repeat it if there was no answer."""
    first = stage.call("DELETE", f"tasks/{task_id}", faults=faults, seconds=1.0)
    if first is None or first["status"] >= 500:
        stage.call("DELETE", f"tasks/{task_id}")


def _die_and_recover(stage: Stage, victim: Victim, faults: str) -> Victim:
    victim.terminate()
    stage.fork("worker", "engine.after_send:kill").wait(5)
    stage.age()
    return stage.fork("worker", faults)


def f2(stage: Stage, where: Iterable[str], actions: Sequence[str], hits: Sequence[int]) -> Figure:
    """Run all points with every action; faults that no process reached are counted apart."""
    played = []
    for case in cases(where, actions, hits):
        with Receiver([200]) as receiver:
            played.append(play(stage, receiver, case))
    return judge(played)


def judge(played: Sequence[Case]) -> Figure:
    """Return the figure of these cases."""
    count, actions = len({case.point for case in played}), sorted({case.action for case in played})
    what = f"{count} fault points: {', '.join(actions)}"
    figure = Figure("F2", what, "ledger clean each time")
    figure.violations = {case.name: _sentences(case) for case in played if case.violations}
    met = [case for case in played if case.met]
    figure.seen = {
        "cases": len(played),
        "met": len(met),
        "clean": sum(not case.violations for case in met),
        "duplicates": sum(case.duplicates for case in played),
    }
    figure.not_met = [case.name for case in played if not case.met]
    return figure


def _sentences(case: Case) -> list[str]:
    return [f"{name} {each}" for name, found in case.violations.items() for each in found]
