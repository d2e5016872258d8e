"""What is broken, and how often? Every run, or those that ONLY names; `QUICK=1` shortens each.

``ONLY=F1,F4 QUICK=1 CHAOS_SEED=7 python -m tests.chaos`` prints a table and writes
``var/chaos.json``. The exit code is 1 when a promise was broken.
"""

from __future__ import annotations

import os
import secrets
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from tests.chaos import kills, mutants, outages, place, points, races, report
from tests.chaos.report import Figure
from tests.support import commit

#: Runs with single processes share one pair of servers, runs with the whole service another.
STAGED = ("F2", "F7", "F8", "F9", "F27")
#: The runs of QUICK=1, unless ONLY names others.
BRIEF = ("F1", "F2", "F4", "F8")


@dataclass(frozen=True)
class Scale:
    """How often each thing is broken."""

    kills: int
    points: tuple[str, ...]
    actions: tuple[str, ...]
    hits: tuple[int, ...]
    recoveries: int
    redis_losses: int
    away: int
    restarts: int
    replies: tuple[int, ...]
    frozen: int
    messages: int
    engines: int
    stops: int
    disk: int
    mutants: int


FULL = Scale(
    kills=30,
    points=points.POINTS,
    actions=points.ACTIONS,
    hits=(1, 2),
    recoveries=5,
    redis_losses=6,
    away=100,
    restarts=4,
    replies=tuple(range(1, 31)),
    frozen=5,
    messages=10_000,
    engines=8,
    stops=5,
    disk=6,
    mutants=99,
)
QUICK = Scale(
    kills=3,
    points=points.FAST_PATH,
    actions=("kill",),
    hits=(1,),
    recoveries=1,
    redis_losses=2,
    away=20,
    restarts=1,
    replies=(2, 5, 9),
    frozen=1,
    messages=200,
    engines=2,
    stops=1,
    disk=2,
    mutants=3,
)


def runs(scale: Scale, seed: int) -> dict[str, Callable[[Path], Figure]]:
    """Return every run by the name of its figure."""
    return {
        "F1": lambda var: kills.f1(var, scale.kills, seed),
        "F2": lambda var: _f2(var, scale),
        "F3": lambda var: kills.f3(var, scale.recoveries),
        "F4": lambda var: outages.f4(var, scale.redis_losses),
        "F5": lambda var: outages.f5(var, scale.away),
        "F6": lambda var: outages.f6(var, scale.restarts),
        "F7": lambda var: races.f7(var, scale.replies),
        "F8": lambda var: races.f8(var, scale.frozen),
        "F9": lambda var: races.f9(var, scale.messages, scale.engines),
        "F10": lambda var: kills.f10(var, scale.stops),
        "F26": lambda var: mutants.f26(var, scale.mutants),
        "F27": lambda var: races.f27(var),
        "F28": lambda var: outages.f28(var, scale.disk),
    }


def _f2(var: Path, scale: Scale) -> Figure:
    with place.fresh(var) as here, here.stage(points.PROVIDER) as stage:
        return points.f2(stage, scale.points, scale.actions, scale.hits)


def _timed(name: str, run: Callable[[Path], Figure], var: Path) -> Figure:
    began = time.monotonic()
    try:
        figure = run(var)
    except Exception as error:  # a run that fails by itself must not stop the others
        traceback.print_exc()
        figure = Figure(name, "the run itself broke down", "", missed=[str(error)[:500]])
    figure.seconds = round(time.monotonic() - began, 1)
    return figure


def main() -> int:
    """Break things, print a table, write ``chaos.json``; return the exit code."""
    is_quick = os.environ.get("QUICK", "") not in ("", "0")
    seed = int(os.environ.get("CHAOS_SEED") or secrets.randbelow(10_000))
    every = runs(QUICK if is_quick else FULL, seed)
    wanted = [name for name in os.environ.get("ONLY", "").upper().replace(",", " ").split() if name]
    unknown = sorted(set(wanted) - set(every))
    if unknown:
        print(f"No such run: {', '.join(unknown)}. There are {', '.join(every)}.")
        return 2
    console = Console(width=None if sys.stdout.isatty() else 140)
    about = {
        "machine": place.machine(),
        "commit": commit.current(),
        "seed": str(seed),
        "scale": "quick" if is_quick else "full",
    }
    console.print(f"{about['machine']}, commit {about['commit']}, CHAOS_SEED={seed}")
    figures = []
    for name in wanted or (BRIEF if is_quick else every):
        console.print(f"{name} ...")
        shared = "stage" if name in STAGED else "service"
        place.clear(place.VAR / shared)
        figures.append(_timed(name, every[name], place.VAR / shared))
        report.save(place.VAR.parent / "chaos.json", figures, **about)
    report.show(console, figures)
    return 0 if all(figure.is_reached for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
