"""F1, F3, F10: what if processes of the running service are killed, or told to stop?"""

from __future__ import annotations

import random
import re
import signal
import time
from pathlib import Path
from typing import Any

from tests.chaos import victims
from tests.chaos.report import Figure
from tests.chaos.victims import Scene
from tests.support.waiting import wait_until

GRACE_SECONDS = 40.0
START_SECONDS = 5.0
WORKERS = 2
_RUN_TOKEN = "SELECT run_token, started_at FROM tasks_app_task WHERE id = %s"


def f1(var: Path, kills: int, seed: int) -> Figure:
    """kill -9 of a random process of any kind, again and again, under load."""
    figure = Figure("F1", f"{kills} x kill -9 of a random process under load", "ledger clean")
    rng = random.Random(seed)
    with victims.running(var, "f1") as scene:
        before = _warm(scene)
        with scene.load() as load:
            killed = [_kill_and_wait(scene, rng) for _ in range(kills)]
        scene.settle(60)
        resources = {name: (before[name], now) for name, now in scene.resources().items()}
        figure.judge(scene.history(load.accepted, crashes=kills, resources=resources))
        figure.expect(not load.lost, f"{len(load.lost)} submits were never answered")
    kinds = {kind: killed.count(kind) for kind in sorted(set(killed))}
    figure.seen |= {"killed": kinds, "seed": seed}
    return figure


def _warm(scene: Scene) -> dict[str, int]:
    """Let every process do some work before its resources are counted."""
    with scene.load() as warm:  # with as many clients as later, so that as many threads start
        wait_until(lambda: len(warm.accepted) >= 20, timeout=30)
    scene.settle(30)
    # These tasks get a project of their own, which the run's ledger does not read.
    counted = scene.resources()
    scene.scope += "-run"
    scene.url = scene.url.replace("?token", "-run?token")
    scene.secret = scene._signing_secret()
    return counted


def _kill_and_wait(scene: Scene, rng: random.Random) -> str:
    kind = scene.kill_one(rng)
    time.sleep(rng.uniform(0.4, 1.6))
    return kind


def f3(var: Path, kills: int) -> Figure:
    """Measure the time from the kill of a worker until another has started its task."""
    figure = Figure("F3", f"{kills} x kill -9 of the worker at work (lease 2 s)", "at most 4 s")
    waits = []
    accepted: list[str] = []
    with victims.running(var, "f3", seconds=3.0) as scene:
        for _ in range(kills):
            wait_until(lambda: len(scene.workers()) == WORKERS, timeout=60)
            with scene.load(threads=1, pause=3600) as load:
                wait_until(lambda load=load: bool(load.accepted), timeout=30)
            accepted += load.accepted
            waits.append(_recovery_seconds(scene, load.accepted[0]))
        scene.settle(30)
        figure.judge(scene.history(accepted, crashes=kills))
    figure.seen |= {"median s": sorted(waits)[len(waits) // 2], "longest s": max(waits)}
    figure.expect(max(waits) <= 4.0, f"a recovery took {max(waits)} s")
    return figure


def _recovery_seconds(scene: Scene, task_id: str) -> float:
    def run() -> Any:
        token, started_at = scene.query(_RUN_TOKEN, [task_id])[0]
        return token and (token, started_at)

    first = wait_until(run, timeout=30)
    victims.send(_worker_of(scene, task_id), signal.SIGKILL)
    killed_at = time.monotonic()
    wait_until(lambda: run() not in (None, first), timeout=60)
    return round(time.monotonic() - killed_at, 2)


def _worker_of(scene: Scene, task_id: str) -> int:
    """Return the worker process that runs the task; the supervisor prefixes each one's lines."""
    mark = rf"^worker(\d+) .*Task started task_id={task_id}"

    def found() -> list[str]:
        return re.findall(mark, scene.service.whole_log(), re.MULTILINE)

    number = int(wait_until(found, timeout=5)[-1])
    return scene.workers()[number - 1]


def f10(var: Path, stops: int) -> Figure:
    """Send SIGTERM under load: the service ends in time, sends nothing twice, and restarts fast."""
    figure = Figure("F10", f"{stops} x SIGTERM under load", "0 duplicates, start <= 5 s")
    ends, starts = [], []
    with victims.running(var, "f10", seconds=0.5) as scene:
        with scene.load() as load:
            for _ in range(stops):
                time.sleep(1.5)
                ends.append(_timed(lambda: _terminate(scene)))
                starts.append(_timed(scene.service.start))
        scene.settle(30)
        figure.judge(scene.history(load.accepted))
        figure.expect(not load.lost, f"{len(load.lost)} submits were never answered")
    figure.seen |= {"longest stop s": max(ends), "longest start s": max(starts)}
    figure.expect(max(ends) <= GRACE_SECONDS, f"a stop took {max(ends)} s")
    figure.expect(max(starts) <= START_SECONDS, f"a start took {max(starts)} s")
    return figure


def _terminate(scene: Scene) -> None:
    process = scene.service.process
    assert process
    process.send_signal(signal.SIGTERM)
    process.wait(60)


def _timed(do: Any) -> float:
    began = time.monotonic()
    do()
    return round(time.monotonic() - began, 2)
