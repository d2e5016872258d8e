"""How is a chaos run reported? As a row of a table and an entry of ``chaos.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.chaos import ledger
from tests.chaos.history import History


@dataclass
class Figure:
    """What one run broke, what should hold, and what was seen."""

    id: str
    what: str
    target: str
    seen: dict[str, Any] = field(default_factory=dict)
    violations: dict[str, list[str]] = field(default_factory=dict)
    #: Targets besides the ledger that were missed, as sentences.
    missed: list[str] = field(default_factory=list)
    #: Faults that no process reached in this run.
    not_met: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def is_reached(self) -> bool:
        """Say whether the promise held."""
        return not self.violations and not self.missed

    def judge(self, history: History) -> Figure:
        """Check the ledger of a run, and add its result to this figure."""
        self.violations = ledger.check(history)
        self.seen |= {
            "tasks": len(history.accepted),
            "POSTs": len(history.posts),
            "duplicates": ledger.duplicates(history),
            "lost": len(list(ledger.accepted_tasks_end(history))),
            "double results": len(list(ledger.one_result_per_task(history))),
        }
        return self

    def expect(self, is_met: bool, sentence: str) -> None:
        """Note a missed target."""
        if not is_met:
            self.missed.append(sentence)


def show(console: Console, figures: list[Figure]) -> None:
    """Print one row per figure, and every violation below."""
    table = Table(title="chaos", title_justify="left")
    for heading in ("", "what was broken", "target", "seen", "s", ""):
        table.add_column(heading)
    for figure in figures:
        table.add_row(
            figure.id,
            figure.what,
            figure.target,
            _told(figure.seen),
            f"{figure.seconds:.0f}",
            "[green]held[/]" if figure.is_reached else "[red]BROKEN[/]",
        )
    console.print(table)
    for figure in figures:
        sentences = [
            f"{name}: {each}" for name, found in figure.violations.items() for each in found
        ]
        for sentence in [*figure.missed, *sentences][:20]:
            console.print(f"[red]{figure.id}[/] {sentence}", highlight=False)


def _told(seen: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in seen.items())


def save(path: Path, figures: list[Figure], **about: str) -> None:
    """Write ``chaos.json``; figures that were not run keep their last entry."""
    ids = {figure.id for figure in figures}
    kept = []
    if path.exists():
        kept = [row for row in json.loads(path.read_text()) if row["id"] not in ids]
    new = [{**asdict(figure), "is_reached": figure.is_reached, **about} for figure in figures]
    rows = sorted([*kept, *new], key=lambda row: int(row["id"][1:]))
    path.write_text(json.dumps(rows, indent=1) + "\n")
