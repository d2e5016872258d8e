"""How is a figure reported? As a table on the terminal and in a list in ``bench.json``."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass
class Figure:
    """One figure: the rounds of two variants that took turns, and the goal.

    ``goal`` is for the ratio ours/reference, at least or (``is_less_better``) at most; without
    a reference it is for our own value.
    """

    id: str
    what: str
    unit: str
    goal: float
    is_less_better: bool = False
    reference_name: str = "reference"
    ours: list[float] = field(default_factory=list)
    reference: list[float] = field(default_factory=list)

    def add(self, ours: float, reference: float | None = None) -> None:
        """Add the values of one round."""
        self.ours.append(ours)
        if reference is not None:
            self.reference.append(reference)

    @property
    def ratio(self) -> float | None:
        """Return the ratio of the medians."""
        return median(self.ours) / median(self.reference) if self.reference else None

    @property
    def is_reached(self) -> bool:
        """Say whether the goal is met."""
        value = median(self.ours) if self.ratio is None else self.ratio
        return value <= self.goal if self.is_less_better else value >= self.goal

    def as_row(self, machine: str, commit: str) -> dict[str, Any]:
        """Return the entry of ``bench.json``."""
        pairs = zip(self.ours, self.reference or [None] * len(self.ours), strict=True)
        return {
            "id": self.id,
            "what": self.what,
            "ours": median(self.ours),
            "reference": median(self.reference) if self.reference else None,
            "ratio": self.ratio,
            "rounds": [{"ours": ours, "reference": reference} for ours, reference in pairs],
            "unit": self.unit,
            "machine": machine,
            "commit": commit,
        }


def in_turns(
    rounds: int, ours: Callable[[], float], reference: Callable[[], float], figure: Figure
) -> Figure:
    """Measure both variants in every round; the order alternates."""
    for number in range(rounds):
        if number % 2:
            mine = ours()
            figure.add(mine, reference())
        else:
            other = reference()
            figure.add(ours(), other)
    return figure


def pairs_in_turns(
    rounds: int,
    ours: Callable[[], tuple[float, ...]],
    reference: Callable[[], tuple[float, ...]],
    figures: list[Figure],
) -> list[Figure]:
    """Like ``in_turns``, for measurements that return values for several figures."""
    for number in range(rounds):
        if number % 2:
            mine, other = ours(), reference()
        else:
            other = reference()
            mine = ours()
        for figure, value, base in zip(figures, mine, other, strict=True):
            figure.add(value, base)
    return figures


def show(console: Console, figures: list[Figure]) -> None:
    """Print a table of figures that belong together."""
    table = Table(title=", ".join(sorted({figure.id for figure in figures})), title_justify="left")
    for heading in ("what", "ours", "reference", "ratio", "goal", ""):
        table.add_column(heading)
    for figure in figures:
        sign = "at most" if figure.is_less_better else "at least"
        table.add_row(
            f"{figure.what}, {figure.unit}",
            _spread(figure.ours),
            f"{_spread(figure.reference)} {figure.reference_name}" if figure.reference else "",
            "" if figure.ratio is None else f"{figure.ratio:.3g}",
            f"{sign} {figure.goal:g}",
            "[green]reached[/]" if figure.is_reached else "[yellow]not reached[/]",
        )
    console.print(table)


def _spread(values: list[float]) -> str:
    return f"{median(values):.4g} ({min(values):.4g} to {max(values):.4g})"


def save(path: Path, figures: list[Figure], machine: str, commit: str) -> None:
    """Write ``bench.json``; figures that were not run keep their last entry."""
    kept = []
    ids = {figure.id for figure in figures}
    if path.exists():
        kept = [row for row in json.loads(path.read_text()) if row["id"] not in ids]
    rows = kept + [figure.as_row(machine, commit) for figure in figures]
    rows.sort(key=lambda row: (int(row["id"][1:]), row["what"]))
    path.write_text(json.dumps(rows, indent=1) + "\n")
