"""When is old history deleted, without delaying anybody?

Once a day, by one worker at a time: the sweep calls `prune_daily` every few seconds, and each call
does a small part of the day's run. Safe to be killed at any point; the next run continues.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta

from django.db.models.functions import Now

from tasks_app import assets as handed_in
from tasks_app.media.mark import NotOurs
from tasks_app.state import assets as rows
from tasks_app.upkeep import prune
from tasks_app.upkeep.orphans import remove_orphans
from webhooks_app.models import OperatorAction
from webhooks_app.notation import counted
from webhooks_app.operators import record

#: Time that one call of `prune_daily` may take, so that the sweep is not held up.
BUDGET_SECONDS = 1.0
STEP_SECONDS = 0.3
#: Files of an older version that get their project in one step.
FILLED_AT_ONCE = 1_000
#: After a storage failed, wait this long before the next try.
REST_SECONDS = 600.0
#: The daily run is recorded as an operator action with these names; so every worker knows of it.
_ACTOR, _ACTION = "sweep", "prune"


class _Run:
    """A run, which may take many calls, and how many things of each kind it removed."""

    def __init__(self) -> None:
        self.files = self.assets = self.orphans = self.keys = 0
        self.steps = self._work()

    def __str__(self) -> str:
        return (
            f"{counted(self.files, 'file')}, {counted(self.orphans, 'orphaned file')},"
            f" {counted(self.assets, 'asset')}, {counted(self.keys, 'idempotency key')}"
        )

    def _work(self) -> Iterator[None]:
        """Remove everything that is due, in steps of well under a second."""
        is_complete = False
        while not is_complete:
            step = prune.prune(budget_seconds=STEP_SECONDS)
            self.files += step.files
            self.keys += step.keys
            is_complete = step.is_complete
            yield
        is_complete = False
        while not is_complete:
            given = handed_in.prune(budget_seconds=STEP_SECONDS)
            self.assets += given.assets
            is_complete = given.is_complete
            yield
        while rows.fill_projects(FILLED_AT_ONCE):
            yield
        for removed in remove_orphans():
            self.orphans += removed
            yield


_run: _Run | None = None
_rests_until = 0.0


def prune_daily(budget_seconds: float = BUDGET_SECONDS) -> bool:
    """Continue or begin today's run; return True when this call finished it.

    The caller must make sure that only one process at a time calls this.
    """
    global _run, _rests_until
    if time.monotonic() < _rests_until:
        return False
    done = OperatorAction.objects.filter(actor=_ACTOR, action=_ACTION)
    if done.filter(at__gt=Now() - timedelta(days=1)).exists():
        _run = None
        return False
    # The steps may raise whatever a storage raises; then a new run begins after REST_SECONDS.
    run, _run, _rests_until = _run or _Run(), None, time.monotonic() + REST_SECONDS
    try:
        deadline = time.monotonic() + budget_seconds
        is_done = all(time.monotonic() < deadline for _ in run.steps)
    except NotOurs:  # logged by `mark.keep`
        return False
    _rests_until = 0.0
    if is_done:
        record.note(_ACTOR, _ACTION, f"removed {run}", "daily")
    else:
        _run = run
    return is_done
