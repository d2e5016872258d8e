"""Does the delivery promise hold when processes die? The short form of ``make chaos``.

Every crash point of the delivery engine, the parts of the harness that all runs depend on, and a
few kills of the whole service under load. The long form is ``python -m tests.chaos``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection

from tests.chaos import kills, ledger, mutants, points
from tests.chaos.points import Case
from tests.chaos.stage import ROOT, Stage
from tests.support.receiver import Receiver
from tests.support.waiting import wait_until

pytestmark = pytest.mark.long


def test_every_fault_point_is_played() -> None:
    """The list of `points` names exactly the fault points in the sources."""
    beside = {*points.REPLAY, *points.ASSETS, *points.REMOTE}
    assert {*points.POINTS, *beside} == points.find()


def test_production_cannot_inject_faults() -> None:
    """The settings of production refuse the variable that arms the fault points."""
    environment = {
        **os.environ,
        "ENVIRONMENT": "production",
        "FAULT_INJECTION": "1",
        "SECRET_KEY": "x" * 60,
        "PUBLIC_URL": "https://movies.example.org",
        "ALLOWED_HOSTS": "movies.example.org",
    }
    command = [sys.executable, "-c", "import moviesvc.settings"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    assert "FAULT_INJECTION" in done.stderr


@pytest.fixture(scope="module")
def _database(django_db_setup: None) -> None:
    """The test database exists."""


@pytest.fixture
def stage(_database: None, transactional_db: None, tmp_path: Path) -> Iterator[Stage]:
    """Quick forks on this process's test database and Redis."""
    parameters = connection.get_connection_params()
    host = urllib.parse.quote(parameters["host"], safe="")
    url = f"postgresql://postgres@:{parameters['port']}/{parameters['dbname']}?host={host}"
    urls = {"DATABASE_URL": url, "REDIS_URL": os.environ["REDIS_URL"]}
    with Stage(tmp_path / "stage", points.PROVIDER, direct_url=url, **urls) as stage:
        yield stage


def test_engine_may_die_at_every_line(stage: Stage) -> None:
    """kill -9 at each crash point of the fast path: nothing lost, nothing doubled without cause."""
    played = []
    for point in points.FAST_PATH:
        with Receiver([200]) as receiver:
            played.append(points.play(stage, receiver, Case(point, "kill", 1)))
    assert {case.name: case.violations for case in played if case.violations} == {}
    assert [case.name for case in played if not case.met] == []
    assert any(case.attempts_interrupted for case in played), "no crash came during an attempt"


def test_no_crash_strands_or_reorders_what_is_sent_in_order(stage: Stage) -> None:
    """kill -9 before and after an end is recorded, while others wait for it: all in order."""
    for point in ("engine.after_send", "engine.after_record"):
        with Receiver([200]) as receiver:
            case = points.play(stage, receiver, Case(point, "kill", 2), is_ordered=True)
            numbers = [json.loads(request.body)["sequence"] for request in receiver.requests]
        assert (case.met, case.violations) == (True, {}), point
        assert numbers == sorted(numbers), point
        assert len(set(numbers)) > 1, point


def test_late_commit_of_a_frozen_worker_is_fenced(stage: Stage) -> None:
    """A worker that continues after its task was taken over and finished changes nothing."""
    with Receiver([200]) as receiver:
        case = points.play(stage, receiver, Case("run.after_store", "freeze", 1), 30.0)
    assert (case.met, case.violations) == (True, {})
    wait_until(lambda: "its work was discarded" in stage.log.read_text())


@pytest.mark.e2e
def test_service_survives_kills_under_load(tmp_path: Path) -> None:
    """Five kill -9 of random processes, servers included, lose no task and no webhook."""
    figure = kills.f1(tmp_path, 5, seed=4)
    assert (figure.violations, figure.missed) == ({}, [])
    assert figure.seen["tasks"] > 5


def test_ledger_is_not_blind(stage: Stage) -> None:
    """The ledger finds a loss in real rows."""
    with Receiver([200]) as receiver:
        task_id = stage.submit("blind", f"{receiver.url}/blind")
        worker = stage.fork("worker")
        assert stage.settle("blind")
        worker.terminate()
        assert ledger.check(stage.history("blind", [task_id], receiver)) == {}
        stage.execute("DELETE FROM webhooks_app_webhookdelivery")
        found = ledger.check(stage.history("blind", [task_id], receiver))
    assert set(found) == {"I5", "I10"}


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.net)
def test_mutants_name_one_place_each(mutant: mutants.Mutant) -> None:
    """The safety nets that F26 removes are at the named places."""
    assert (ROOT / mutant.file).read_text().count(mutant.old) == 1
    for test in mutant.tests:
        assert (ROOT / test.partition("::")[0]).exists()
