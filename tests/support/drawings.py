"""How does the house look? `python -m tests.support.drawings` draws the pictures of the docs.

The rooms are drawn from the plan in tests/test_rooms.py, so the picture is right or a test is red.
Text is large for the width, since a phone shows the picture at half its size.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path

from tests import ROOT
from tests.test_rooms import FLOORS

WIDTH = 680
MARGIN = 24
FOLDER = ROOT / "docs" / "images"
#: What each app answers.
APPS = {
    "tasks_app": "what did a client ask for, and how did it go?",
    "webhooks_app": "tell a URL that something happened, and prove it",
}
#: The way of a task: in which process, through which module or face, and what happens there.
WAY = (
    ("web process", "tasks_app.api.tasks", "reads the request, asks who may"),
    ("web process", "tasks_app.state.submit", "stores the task: 201 is a promise"),
    ("web process", "tasks_app.tickets", "tells Redis that there is work"),
    ("worker", "tasks_app.work.run", "claims a task and sees it through"),
    ("worker", "tasks_app.state.lifecycle", "ends it, in one transaction with ..."),
    ("worker", "webhooks_app.outbox.publish", "... a message for each URL owed"),
    ("engine", "webhooks_app.outbox.claim", "leases what is due, opens attempts"),
    ("engine", "webhooks_app.delivery.engine", "signs, and keeps each pace"),
    ("engine", "webhooks_app.transport.client", "sends one POST, past the egress policy"),
    ("engine", "webhooks_app.retry", "decides what the answer means"),
    ("engine", "webhooks_app.outbox.record", "closes the attempt, moves the message"),
)
#: After which step something is stored that survives the death of every process.
STORED = {
    "tasks_app.state.submit": "PostgreSQL: the task",
    "webhooks_app.outbox.publish": "PostgreSQL: its end, and what is owed",
    "webhooks_app.outbox.record": "PostgreSQL: the attempt, and what is next",
}
STYLE = """
  svg { background: #ffffff }
  .app { fill: #f4f6fa; stroke: #c3cad6 }
  .room { fill: #ffffff; stroke: #5b6b86 }
  .lane { fill: #e3ebf8 }
  .passed { fill: #d5e2f7 }
  .stored { fill: #fdf3d7; stroke: #b8902f }
  .line { stroke: #5b6b86; fill: none; stroke-width: 2 }
  .tip { fill: #5b6b86 }
  text { fill: #18202e; font: 17px system-ui, sans-serif }
  .name { font: 17px ui-monospace, Menlo, Consolas, monospace }
  .title { font-weight: 700; font-size: 20px }
  .quiet { fill: #46536a }
  @media (prefers-color-scheme: dark) {
    svg { background: #0d1117 }
    .app { fill: #161c26; stroke: #3a4658 }
    .room { fill: #0d1117; stroke: #8494ae }
    .lane { fill: #1d2b44 }
    .passed { fill: #253a5e }
    .stored { fill: #332a12; stroke: #b8902f }
    .line { stroke: #8494ae }
    .tip { fill: #8494ae }
    text { fill: #e8edf5 }
    .quiet { fill: #aab6c8 }
  }
"""


def _box(kind: str, x: float, y: float, width: float, height: float) -> str:
    place = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
    return f'<rect class="{kind}" {place} rx="6"/>'


def _text(words: str, x: float, y: float, kind: str = "", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(words)}</text>'


def _arrow(x: float, y: float, to: float) -> str:
    tip = f'<path class="tip" d="M{x - 6:g} {to - 8:g}h12l-6 8z"/>'
    return f'<path class="line" d="M{x:g} {y:g}V{to - 7:g}"/>{tip}'


def _svg(title: str, height: float, parts: list[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" role="img">'
    return "\n".join(
        [head, f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>", *parts, "</svg>\n"]
    )


def rooms() -> str:
    """Return the picture of the rooms: each uses only what stands below it."""
    parts = [
        _box("app", MARGIN, 16, WIDTH - 2 * MARGIN, 48),
        _text("moviesvc", MARGIN + 16, 46, "name title"),
        _text("how is the service put together?", WIDTH - MARGIN - 16, 46, "quiet", "end"),
    ]
    y = 64.0
    for app, question in APPS.items():
        parts.append(_arrow(WIDTH / 2, y, y + 28))
        y += 28
        floors = [line.split() for line in FLOORS[app].strip().splitlines()]
        height = 56 + 46 * len(floors)
        parts.append(_box("app", MARGIN, y, WIDTH - 2 * MARGIN, height))
        parts.append(_text(app, MARGIN + 16, y + 32, "name title"))
        parts.append(_text(question, WIDTH - MARGIN - 16, y + 31, "quiet", "end"))
        for number, floor in enumerate(floors):
            parts += _floor(app, floor, y + 50 + 46 * number)
        y += height
    return _svg("The rooms: each uses only what stands below it", y + 16, parts)


def _floor(app: str, names: list[str], y: float) -> Iterator[str]:
    """Draw the rooms of a floor, as wide as their names and together as wide as the house."""
    gap, inner = 10, WIDTH - 2 * MARGIN - 32
    letters = sum(len(name) + 3 for name in names)
    x = MARGIN + 16.0
    for name in names:
        width = (inner - gap * (len(names) - 1)) * (len(name) + 3) / letters
        is_passed = any(f"{module}.".startswith(f"{app}.{name}.") for _, module, _ in WAY)
        yield _box("room passed" if is_passed else "room", x, y, width, 36)
        yield _text(name, x + width / 2, y + 24, "name", "middle")
        x += width + gap


def way() -> str:
    """Return the picture of a task's way: from top to bottom, each step entered once."""
    parts: list[str] = []
    y, lane, above = 12.0, "", False
    for process, module, what in WAY:
        if process != lane:
            steps = [step for step in WAY if step[0] == process]
            inside = sum(module in STORED for _, module, _ in steps)
            height = 56 * len(steps) + 56 * inside + 36
            y += 12 if lane else 0
            parts.append(_box("lane", MARGIN, y, WIDTH - 2 * MARGIN, height))
            parts.append(_text(process, WIDTH - MARGIN - 16, y + 26, "title", "end"))
            y, lane = y + 36, process
        if above:
            parts.append(_arrow(MARGIN + 60, above, y))
        name = module.partition(".")[2].replace(".", "/")
        parts.append(_box("room", MARGIN + 16, y, 224, 40))
        parts.append(_text(name, MARGIN + 30, y + 26, "name"))
        parts.append(_text(what, MARGIN + 256, y + 26))
        above, y = y + 40, y + 56
        if module in STORED:
            parts += _stored(STORED[module], above)
            above, y = y + 40, y + 56
    return _svg("The way of a task, from the request to the recorded webhook", y + 12, parts)


def _stored(what: str, above: float) -> list[str]:
    return [
        _arrow(MARGIN + 60, above, above + 16),
        _box("stored", MARGIN + 16, above + 16, WIDTH - 2 * MARGIN - 32, 40),
        _text(what, WIDTH / 2, above + 42, "", "middle"),
    ]


PICTURES = {"rooms.svg": rooms, "way-of-a-task.svg": way}


def draw(folder: Path) -> None:
    """Write all pictures to a folder."""
    for name, picture in PICTURES.items():
        (folder / name).write_text(picture())


if __name__ == "__main__":
    draw(FOLDER)
