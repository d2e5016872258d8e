"""Which figures are measured? All, or those that ONLY names; `QUICK=1` measures less of each.

`BENCH_SERVER=stock` measures on Debian's PostgreSQL as `initdb` leaves it, over TCP.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module

from rich.console import Console

from tests.bench import place, report
from tests.support import commit

#: The module and function of each figure; looked up late, since some import Django's models.
FIGURES = {
    "P1": "throughput:p1",
    "P2": "naive:p2",
    "P3": "naive:p3",
    "P4": "latency:p4",
    "P5": "history:p5",
    "P6": "crowds:p6",
    "P7": "crowds:p7",
    "P8": "web:p8",
    "P9": "pages:p9",
    "P10": "crowds:p10",
    "P11": "film:p11",
    "P12": "queue:p12",
    "P13": "remote:p13",
    "P14": "processor:p14",
    "P15": "rude:p15",
    "P17": "processor:p17",
}


def _function(name: str) -> Callable[[place.Scale], list[report.Figure]]:
    module, _, function = FIGURES[name].partition(":")
    found: Callable[[place.Scale], list[report.Figure]] = getattr(
        import_module(f"tests.bench.{module}"), function
    )
    return found


def main() -> int:
    """Measure, print tables, write ``bench.json``; return the exit code."""
    wanted = [name for name in os.environ.get("ONLY", "").upper().replace(",", " ").split() if name]
    unknown = sorted(set(wanted) - set(FIGURES))
    if unknown:
        print(f"No such figure: {', '.join(unknown)}. There are {', '.join(FIGURES)}.")
        return 2
    scale = place.SCALES[os.environ.get("QUICK", "")]
    place.prepare()
    console = Console(width=None if sys.stdout.isatty() else 140)
    machine, version = place.machine(), commit.current()
    console.print(f"{machine}, commit {version}")
    for name in wanted or FIGURES:
        figures = _function(name)(scale)
        report.show(console, figures)
        report.save(place.var_directory().parent / "bench.json", figures, machine, version)
    return 0


if __name__ == "__main__":
    sys.exit(main())
