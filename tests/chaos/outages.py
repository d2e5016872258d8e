"""F4, F5, F6, F28: what if Redis, PostgreSQL or the disk is unavailable for a while?"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg

from moviesvc.run import embedded
from tests.chaos import victims
from tests.chaos.load import Load
from tests.chaos.report import Figure
from tests.chaos.tcpproxy import TcpProxy
from tests.chaos.victims import Scene
from tests.support.waiting import wait_until

_BACK_SECONDS = 30.0


def f4(var: Path, losses: int) -> Figure:
    """All of Redis is lost, by FLUSHALL and by kill -9 in turn, under load."""
    figure = Figure("F4", f"{losses} x FLUSHALL or kill -9 of Redis", "0 lost, 0 refused")
    with victims.running(var, "f4") as scene:
        with scene.load() as load:
            for number in range(losses):
                time.sleep(1.5)
                _lose_redis(scene, by_kill=bool(number % 2))
            time.sleep(1.0)
        scene.settle(60)
        figure.judge(scene.history(load.accepted))
        _expect_no_refusal(figure, load)
    return figure


def _lose_redis(scene: Scene, *, by_kill: bool) -> None:
    if not by_kill:
        with scene.redis() as client:
            client.flushall()
        return
    for process in scene.processes().get("redis-server", []):
        victims.send(process.pid, signal.SIGKILL)


def _expect_no_refusal(figure: Figure, load: Load) -> None:
    figure.seen |= {"refused": len(load.refused)}
    figure.expect(not load.refused, f"refused with {sorted(set(load.refused))}")
    figure.expect(not load.lost, f"{len(load.lost)} submits were never answered")


def f5(var: Path, tasks: int) -> Figure:
    """Redis refuses connections, then hangs, while tasks are submitted; later it is back."""
    figure = Figure("F5", f"Redis away while {tasks} tasks are submitted", "all taken, p99 <= 1 s")
    with (
        _own_redis(var / "redis") as socket,
        TcpProxy(socket) as proxy,
        victims.running(var, "f5", REDIS_URL=f"redis://127.0.0.1:{proxy.port}/0") as scene,
    ):
        accepted, latencies = [], []
        for mode in ("refuse", "hang"):
            proxy.set_mode(mode)
            with scene.load(threads=2, pause=0.01) as load:
                wait_until(lambda load=load: len(load.accepted) >= tasks // 2, timeout=120)
            accepted += load.accepted
            latencies += load.latencies
            _expect_no_refusal(figure, load)
        proxy.set_mode("pass")
        scene.settle(90)
        figure.judge(scene.history(accepted))
    worst = statistics.quantiles(latencies, n=100)[98]
    figure.seen |= {"submit p99 s": round(worst, 3)}
    figure.expect(worst <= 1.0, f"a submit took {worst:.2f} s")
    return figure


@contextmanager
def _own_redis(var: Path) -> Iterator[str]:
    """Start a Redis that is reached only through a proxy; return its socket."""
    embedded.redis(var)
    try:
        yield victims.redis_socket(var)
    finally:
        embedded.leave(var)


def f6(var: Path, restarts: int) -> Figure:
    """PostgreSQL ends at once (immediate mode) under load and is started again."""
    figure = Figure("F6", f"{restarts} x PostgreSQL stopped in immediate mode", "recovery <= 5 s")
    gaps = []
    with victims.running(var, "f6", seconds=0.3) as scene:
        own = scene.service.details["web"] + scene.service.details["worker"]
        with scene.load() as load:
            for _ in range(restarts):
                time.sleep(2)
                gaps.append(_restart_postgres(scene, load))
        scene.settle(60)
        figure.judge(scene.history(load.accepted))
        figure.expect(not load.lost, f"{len(load.lost)} submits were never answered")
        now = scene.service.details["web"] + scene.service.details["worker"]
        figure.expect(set(own) <= set(now), f"processes of ours ended: {own} became {now}")
    figure.seen |= {"longest recovery s": max(gaps)}
    figure.expect(max(gaps) <= 5.0, f"the first submit came {max(gaps)} s after the database")
    return figure


def _restart_postgres(scene: Scene, load: Load) -> float:
    """Return the seconds from the database's return to the first task that is accepted."""
    postmaster = scene.postmaster()
    postmaster.send_signal(signal.SIGQUIT)  # what `pg_ctl stop -m immediate` sends
    with contextlib.suppress(psutil.TimeoutExpired):
        postmaster.wait(10)

    def is_back() -> bool:
        with contextlib.suppress(psycopg.Error):
            return bool(scene.query("SELECT 1"))
        return False

    wait_until(is_back, timeout=_BACK_SECONDS)
    back_at = time.monotonic()
    wait_until(lambda: load.last_accepted_at > back_at, timeout=_BACK_SECONDS)
    return round(load.last_accepted_at - back_at, 2)


def f28(var: Path, tasks: int) -> Figure:
    """The media disk is full; then there is room again."""
    figure = Figure("F28", f"media disk full for {tasks} tasks", "API unharmed, recovers by itself")
    media = var / "media"
    with _small_disk(media) as fill, victims.running(var, "f28", MEDIA_ROOT=str(media)) as scene:
        accepted = []
        for is_full in (True, False):
            fill(is_full)
            with scene.load(threads=1) as load:
                wait_until(lambda load=load: len(load.accepted) >= tasks, timeout=60)
            scene.settle(60)
            accepted += load.accepted
            _expect_no_refusal(figure, load)
            states = _states(scene, load.accepted)
            wanted = ("failed", "storage_failed") if is_full else ("completed", "")
            figure.expect(states == {wanted}, f"disk full is {is_full}: tasks were {states}")
        figure.judge(scene.history(accepted))
    return figure


def _states(scene: Scene, ids: list[str]) -> set[tuple[str, str]]:
    sql = "SELECT DISTINCT status, error_code FROM tasks_app_task WHERE id = ANY(%s::uuid[])"
    return {
        (status, code if status == "failed" else "") for status, code in scene.query(sql, [ids])
    }


@contextmanager
def _small_disk(path: Path) -> Iterator:
    """Make a disk of 1 MB if the system allows it, otherwise a folder that can be blocked."""
    path.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=777", "tmpfs", str(path)]
    is_mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield lambda is_full: (_fill if is_mounted else _block)(path, is_full)
    finally:
        if is_mounted:
            subprocess.run(["umount", "-l", str(path)], check=True)


def _fill(path: Path, is_full: bool) -> None:
    ballast = path / "ballast"
    if not is_full:
        ballast.unlink()
        return
    with contextlib.suppress(OSError), ballast.open("wb") as file:
        while True:
            os.write(file.fileno(), b"\0" * 4096)


def _block(path: Path, is_full: bool) -> None:
    """Put a file in the place of the results folder: every write fails, even for root."""
    results = path / "results"
    if is_full:
        shutil.rmtree(results, ignore_errors=True)
        results.touch()
    else:
        results.unlink()
