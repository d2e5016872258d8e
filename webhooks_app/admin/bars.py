"""Which shapes draw these numbers? Geometry for SVG charts that the server renders.

Pure: numbers in, coordinates and texts out. Templates turn them into SVG, so a chart needs no
script, uses the theme's colours, and looks the same in a screenshot, a test and a browser.

The theme's own chart component was tried. It needs no inline script either, but it draws only when
a page is loaded, so charts were empty after the dashboard had refreshed itself; its options are
JSON, which cannot format ``100 ms`` and ``10 s`` at a logarithmic axis; and on a phone its labels
overlapped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

LEFT, RIGHT, TOP, BOTTOM = 46, 8, 8, 22
GRID_LINES = 4


@dataclass(frozen=True)
class Series:
    """One row of numbers, a value per bucket; None where there is none."""

    name: str
    css: str
    values: Sequence[float | None]


@dataclass(frozen=True)
class Rect:
    """A bar, or the invisible strip that shows a bucket's numbers at the pointer."""

    x: float
    y: float
    width: float
    height: float
    css: str = ""
    text: str = ""


@dataclass(frozen=True)
class Line:
    """A polyline; ``points`` in SVG's format."""

    css: str
    points: str


@dataclass(frozen=True)
class Mark:
    """A label on an axis."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Chart:
    """Everything a template needs for one chart."""

    width: int
    height: int
    is_empty: bool
    legend: list[Series]
    bars: list[Rect] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    hovers: list[Rect] = field(default_factory=list)
    grid: list[Mark] = field(default_factory=list)
    ticks: list[Mark] = field(default_factory=list)
    left = LEFT

    @property
    def right(self) -> int:
        return self.width - RIGHT


Format = Callable[[float], str]


def nice_ceiling(value: float) -> float:
    """Return the next larger value whose quarters, the grid lines, are round."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(
        step * power
        for step in (1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10)
        if step * power >= value * 0.9999
    )


def count_text(value: float) -> str:
    """Return a count in short form for an axis: ``950``, ``1.2k``, ``3M``."""
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


class _Frame:
    """Maps values to coordinates inside one chart."""

    def __init__(self, width: int, height: int, buckets: int, top_value: float) -> None:
        self.width, self.height, self.top_value = width, height, top_value
        self.bottom_value = 0.0  # above zero: the scale is logarithmic
        self.step = (width - LEFT - RIGHT) / max(1, buckets)
        self.floor = height - BOTTOM

    def y(self, value: float) -> float:
        return round(self.floor - (self.floor - TOP) * self._share(value), 2)

    def _share(self, value: float) -> float:
        if not self.bottom_value:
            return min(1.0, value / self.top_value)
        span = math.log10(self.top_value / self.bottom_value)
        return max(0.0, min(1.0, math.log10(max(value, 1e-9) / self.bottom_value) / span))

    def x(self, bucket: float) -> float:
        return round(LEFT + bucket * self.step, 2)

    def grid(self, text: Format) -> list[Mark]:
        values = [self.top_value * i / GRID_LINES for i in range(GRID_LINES + 1)]
        if self.bottom_value:
            decades = round(math.log10(self.top_value / self.bottom_value))
            values = [self.bottom_value * 10**i for i in range(decades + 1)]
        return [Mark(LEFT - 8, self.y(value), text(value)) for value in values]

    def chart(self, labels: Sequence[str], series: Sequence[Series], text: Format) -> Chart:
        every = max(1, math.ceil(len(labels) / 8))
        ticks, hovers = [], []
        for i, label in enumerate(labels):
            if i % every == every // 2:
                ticks.append(Mark(self.x(i + 0.5), self.height - 5, label))
            values = [(s.name, s.values[i]) for s in series]
            tip = "\n".join([label, *(f"{n}: {text(v)}" for n, v in values if v is not None)])
            strip = Rect(self.x(i), TOP, round(self.step, 2), self.floor - TOP, text=tip)
            hovers.append(strip)
        return Chart(self.width, self.height, False, list(series), ticks=ticks, hovers=hovers)


def stacked_bars(
    labels: Sequence[str], series: Sequence[Series], *, width: int = 560, height: int = 200
) -> Chart:
    """Draw counts per bucket, stacked by colour."""
    totals = [sum(s.values[i] or 0 for s in series) for i in range(len(labels))]
    if not any(totals):
        return Chart(width, height, True, list(series))
    frame = _Frame(width, height, len(labels), max(4.0, nice_ceiling(max(totals))))
    bars = []
    for index in range(len(labels)):
        below = 0.0
        for one in series:
            value = one.values[index] or 0
            if value:
                y = frame.y(below + value)
                tall = round(frame.y(below) - y, 2)
                x, wide = frame.x(index + 0.12), round(frame.step * 0.76, 2)
                bars.append(Rect(x, y, wide, max(tall, 1), one.css))
                below += value
    chart = frame.chart(labels, series, lambda v: f"{v:,.0f}")
    return replace(chart, bars=bars, grid=frame.grid(count_text))


def lines(
    labels: Sequence[str],
    series: Sequence[Series],
    text: Format,
    *,
    width: int = 560,
    height: int = 200,
    top_value: float | None = None,
    is_logarithmic: bool = False,
) -> Chart:
    """Draw one line per series; it breaks where a bucket has no value.

    ``is_logarithmic``: one grid line per power of ten, for values that span several.
    """
    values = [v for s in series for v in s.values if v is not None]
    if not values:
        return Chart(width, height, True, list(series))
    frame = _Frame(width, height, len(labels), top_value or nice_ceiling(max(values)))
    if is_logarithmic:
        frame.bottom_value = 10.0 ** math.floor(math.log10(max(min(values), 1e-6)))
        frame.top_value = 10.0 ** math.ceil(math.log10(max(*values, 10 * frame.bottom_value)))
    drawn = [Line(s.css, points) for s in series for points in _pieces(frame, s.values)]
    return replace(frame.chart(labels, series, text), lines=drawn, grid=frame.grid(text))


def _pieces(frame: _Frame, values: Sequence[float | None]) -> list[str]:
    pieces: list[list[str]] = [[]]
    for index, value in enumerate(values):
        if value is None:
            pieces.append([])
            continue
        pieces[-1].append(f"{frame.x(index + 0.5)},{frame.y(value)}")
    # A single bucket gives no line, so a short dash is drawn.
    return [" ".join(p) if len(p) > 1 else _dash(p[0], frame) for p in pieces if p]


def _dash(point: str, frame: _Frame) -> str:
    x, y = (float(part) for part in point.split(","))
    half = min(frame.step * 0.4, 4)
    return f"{x - half:.2f},{y} {x + half:.2f},{y}"


@dataclass(frozen=True)
class Row:
    """One line of a horizontal bar chart; widths in percent of the longest."""

    name: str
    value: str
    parts: list[Rect]
    link: str = ""
    note: str = ""
    tone: str = ""


def row(
    name: str,
    value: str,
    parts: Sequence[tuple[str, float, str]],
    longest: float,
    *,
    link: str = "",
    note: str = "",
    tone: str = "",
) -> Row:
    """Place ``(css, number, text)`` one after another, scaled to ``longest``."""
    at, rects = 0.0, []
    for css, number, text in parts:
        wide = 100 * number / (longest or 1)
        if number:
            rects.append(Rect(round(at, 2), 0, round(max(wide, 0.6), 2), 10, css, text))
        at += wide
    return Row(name, value, rects, link, note, tone)
