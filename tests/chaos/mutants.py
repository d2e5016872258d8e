"""F26: would the tests notice if a safety net were missing? Each is removed in a copied tree.

A mutant is one replacement in one file. The tests named with it must fail with it, and must pass on
the unchanged copy.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.report import Figure
from tests.chaos.stage import ROOT

TREES = ("moviesvc", "tasks_app", "webhooks_app", "tests", "docs", "examples")
FILES = ("manage.py", "pyproject.toml", "README.md")
TEST_SECONDS = 240


@dataclass(frozen=True)
class Mutant:
    """One safety net: its file and lines, what replaces them, and the tests that should fail."""

    net: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


LIFECYCLE = ("tests/tasks/state/test_lifecycle.py",)
REMOTE = (
    "tests/tasks/remote_work/test_contract.py",
    "tests/tasks/remote_work/test_steps.py",
    "tests/tasks/remote_work/test_capacity.py",
)
ENGINE = ("tests/webhooks/delivery/test_engine.py",)
MUTANTS = (
    Mutant(
        "sweep of expired task leases",
        "tasks_app/state/lifecycle.py",
        "    for task in statements.requeue_expired(settings.TASK_LOST_LIMIT):",
        "    for task in []:",
        ("tests/tasks/upkeep/test_sweep_thread.py", *LIFECYCLE),
    ),
    Mutant(
        "tickets sent by the sweep",
        "tasks_app/upkeep/sweep.py",
        "        for _ in range(due - waiting):",
        "        for _ in range(0):",
        ("tests/tasks/test_tickets.py",),
    ),
    Mutant(
        "fencing of the final write",
        "tasks_app/state/lifecycle.py",
        "            statements.OURS,\n            [*values, task.id, task.run_token],",
        '            "id = %s",\n            [*values, task.id],',
        LIFECYCLE,
    ),
    Mutant(
        "fencing of every other write",
        "tasks_app/state/statements.py",
        'WHERE {OURS}",  # noqa: S608 - constants of lifecycle\n'
        "            [*values, task.id, task.run_token],",
        'WHERE id = %s",  # noqa: S608 - constants of lifecycle\n            [*values, task.id],',
        LIFECYCLE,
    ),
    Mutant(
        "the stop that a cancelled task's remote work is owed",
        "tasks_app/state/lifecycle.py",
        '                remote_jobs.owe_stop(task.id, "cancelled")',
        "                pass",
        REMOTE,
    ),
    Mutant(
        "the note that a submit may have gone out",
        "tasks_app/state/remote_jobs.py",
        '    _change(job, "asked_at = now()", [])',
        "    pass",
        REMOTE,
    ),
    Mutant(
        "the fence of a remote job",
        "tasks_app/state/remote_jobs.py",
        "_TAKEN = \"id = %s AND look_token = %s AND state <> 'ended'\"",
        '_TAKEN = "id = %s AND coalesce(%s::uuid, id) IS NOT NULL"',
        REMOTE,
    ),
    Mutant(
        "heartbeat of a task's lease",
        "tasks_app/state/lifecycle.py",
        "    return statements.update_fenced(\n        task,\n"
        '        "lease_expires_at = now() + make_interval(secs => %s)",\n'
        "        [settings.TASK_LEASE_SECONDS],\n    )",
        "    return True",
        ("tests/tasks/work/test_run.py",),
    ),
    Mutant(
        "outbox: the message an end owes",
        "tasks_app/state/lifecycle.py",
        "        targets.append(\n            outbox.Target(task.callback_url, task.retry_policy,"
        " callback_auth=task.callback_auth)\n        )",
        "        pass",
        LIFECYCLE,
    ),
    Mutant(
        "outbox: state and message in one transaction",
        "tasks_app/state/lifecycle.py",
        "    with transaction.atomic():\n        finished = statements",
        "    if True:\n        finished = statements",
        ("tests/chaos/test_chaos.py::test_engine_may_die_at_every_line",),
    ),
    Mutant(
        "order: what a crash left waiting",
        "webhooks_app/delivery/housekeeping.py",
        "        await outbox.release(connection, orphaned)",
        "        pass",
        ("tests/chaos/test_chaos.py::test_no_crash_strands_or_reorders_what_is_sent_in_order",),
    ),
    Mutant(
        "order: the lock on what has to be waited for",
        "webhooks_app/outbox/order.py",
        "            cursor.execute(_LOCK, [blockers, event.subject, supersedes])",
        "            pass",
        ("tests/webhooks/outbox/test_order.py",),
    ),
    Mutant(
        "recovery of a dead engine's messages",
        "webhooks_app/delivery/housekeeping.py",
        "            expired = await outbox.expired_leases(connection)",
        "            expired = []",
        ENGINE,
    ),
    Mutant(
        "closing of a dead engine's attempts",
        "webhooks_app/delivery/housekeeping.py",
        "await outbox.close_ended(connection)",
        "0",
        ENGINE,
    ),
    Mutant(
        "lease of a claimed message",
        "webhooks_app/outbox/claim.py",
        "    lease_expires_at = now() + make_interval(secs => _lease_seconds)",
        "    lease_expires_at = now() - make_interval(secs => _lease_seconds)",
        (*ENGINE, "tests/webhooks/outbox/test_races.py"),
    ),
    Mutant(
        "SKIP LOCKED of the message claim",
        "webhooks_app/outbox/claim.py",
        "LIMIT open_destination.seats FOR UPDATE SKIP LOCKED",
        "LIMIT open_destination.seats",
        ("tests/webhooks/outbox/test_races.py",),
    ),
    Mutant(
        "fencing of a recorded outcome",
        "webhooks_app/outbox/record.py",
        "WHERE message.id = result.message_id AND message.lease_token = result.token\n",
        "WHERE message.id = result.message_id\n",
        (*ENGINE, "tests/webhooks/outbox/test_races.py"),
    ),
    Mutant(
        "guard of the address that is dialled",
        "webhooks_app/egress/policy.py",
        "    if not allowed(sockaddr[0]):",
        "    if False:",
        ("tests/webhooks/egress/test_egress.py",),
    ),
    Mutant(
        "guard of mixed DNS answers",
        "webhooks_app/egress/policy.py",
        'if not all(resolved_allowed(answer["host"], self._allowed) for answer in answers):',
        "if False:",
        ("tests/webhooks/egress/test_egress.py",),
    ),
    Mutant(
        "check of the callback URL at submit",
        "webhooks_app/api/fields.py",
        "        check_url(url)",
        "        pass",
        ("tests/api/test_submit.py",),
    ),
    Mutant(
        "signature over the body",
        "webhooks_app/signing/scheme.py",
        'content = b"%s.%d.%s" % (message_id.encode(), timestamp, _bytes(body))',
        'content = b"%s.%d.%s" % (message_id.encode(), timestamp, b"")',
        ("tests/webhooks/signing/test_signing.py", *ENGINE),
    ),
    Mutant(
        "Idempotency-Key stored with the task",
        "tasks_app/state/submit.py",
        "is_first = not request.idempotency_key or idempotency.insert(",
        "is_first = True or idempotency.insert(",
        ("tests/api/test_idempotency.py",),
    ),
    Mutant(
        "submit without Redis",
        "tasks_app/redis_gate.py",
        "        except FAILURES as error:",
        "        except ZeroDivisionError as error:",
        ("tests/tasks/test_tickets.py",),
    ),
)


def f26(var: Path, count: int) -> Figure:
    """Remove the safety nets one at a time, and run the tests that should fail."""
    figure = Figure("F26", "a safety net removed, one at a time", "every one noticed")
    tree = copy_tree(var / "tree")
    chosen = MUTANTS[:count]
    every_test = sorted({test for mutant in chosen for test in mutant.tests})
    is_green = passes(tree, every_test)
    figure.expect(is_green, "the tests are not green before anything is removed")
    survivors = [mutant.net for mutant in chosen if is_green and survives(tree, mutant)]
    figure.seen = {"mutants": len(chosen), "noticed": len(chosen) - len(survivors)}
    for net in survivors:
        figure.expect(False, f"nobody noticed that this was gone: {net}")
    stop = [sys.executable, "-m", "moviesvc.run.embedded", "stop", str(tree / "var/test")]
    subprocess.run(stop, cwd=tree, check=False)
    return figure


def copy_tree(tree: Path) -> Path:
    """Copy what the tests need of the project, without its state."""
    shutil.rmtree(tree, ignore_errors=True)
    ignore = shutil.ignore_patterns("__pycache__", "var")
    for name in TREES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=ignore)
    for name in FILES:
        shutil.copy(ROOT / name, tree / name)
    return tree


def survives(tree: Path, mutant: Mutant) -> bool:
    """Say whether all tests still pass without this safety net; the file is restored."""
    path = tree / mutant.file
    source = path.read_text()
    if source.count(mutant.old) != 1:
        raise LookupError(f"{mutant.net}: {mutant.file} has {source.count(mutant.old)} such places")
    path.write_text(source.replace(mutant.old, mutant.new))
    try:
        return passes(tree, mutant.tests)
    finally:
        path.write_text(source)


def passes(tree: Path, tests: tuple[str, ...] | list[str]) -> bool:
    """Run tests in the tree, up to the first failure."""
    command = [sys.executable, "-m", "pytest", *tests, "-n", "0", "-x", "-q", "-p", "no:randomly"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    with (tree / "mutants.log").open("ab") as log:
        try:
            done = subprocess.run(
                command,
                cwd=tree,
                env=environment,
                stdout=log,
                stderr=log,
                timeout=TEST_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False
    return done.returncode == 0
